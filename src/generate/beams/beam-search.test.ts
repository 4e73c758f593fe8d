import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { TokenLogprob } from "../../backend/backend.js";
import { BeamSearch, type BeamShape } from "./beam-search.js";

type Model = (ids: readonly number[]) => TokenLogprob[];

/** A model over few ids whose opinion depends on everything said so far; best first. */
function modelOf(seed: number, vocab: number): Model {
  return (ids) => {
    const weights = Array.from({ length: vocab }, (_, id) => {
      const hash = [...ids, id].reduce((sum, each) => Math.imul(sum ^ (each + 1), 0x01000193) ^ (sum >>> 13), seed * 7919 + 17);
      return 1 + ((hash >>> 7) % 1000);
    });
    const total = weights.reduce((sum, weight) => sum + weight, 0);
    return weights
      .map((weight, id) => ({ id, logprob: Math.log(weight / total) }))
      .sort((a, b) => b.logprob - a.logprob || a.id - b.id);
  };
}

interface Run {
  readonly answer: number[];
  /** Ids said by each step. */
  readonly steps: number[][];
}

function run(model: Model, shape: BeamShape, limit: number, endIds: readonly number[] = []): Run {
  const search = new BeamSearch(shape, limit, new Set(endIds));
  let texts: number[][] = [[]];
  const answer: number[] = [];
  const steps: number[][] = [];
  while (search.beams.length > 0) {
    const said = search.grow(texts.map((text) => model(text).slice(0, shape.count))).map(({ id }) => id);
    answer.push(...said);
    steps.push(said);
    // A beam's text is its parent's and one id more; what it has not said yet is that text's end.
    texts = search.beams.map(({ tail }) => [...answer, ...tail.map(({ id }) => id)]);
  }
  return { answer, steps };
}

function greedy(model: Model, limit: number): number[] {
  const ids: number[] = [];
  while (ids.length < limit) ids.push(model(ids)[0]!.id);
  return ids;
}

/** The best continuation of `length` ids, by trying all; ended ones stay as they are. */
function bestContinuation(model: Model, ids: readonly number[], length: number, end: number): number[] {
  let best: { ids: number[]; score: number } | null = null;
  const visit = (tail: number[], score: number): void => {
    if (tail.length === length || tail.at(-1) === end) {
      if (!best || score > best.score) best = { ids: tail, score };
      return;
    }
    for (const { id, logprob } of model([...ids, ...tail])) visit([...tail, id], score + logprob);
  };
  visit([], 0);
  return best!.ids;
}

const anyModel = fc.integer({ min: 0, max: 1e6 }).map((seed) => modelOf(seed, 3));

describe("BeamSearch", () => {
  it.each([
    ["one beam", { count: 1, length: 5 }],
    ["beams of one id", { count: 4, length: 1 }],
  ])("is greedy decoding with %s", (_, shape) => {
    fc.assert(
      fc.property(anyModel, (model) => {
        expect(run(model, shape, 12).answer).toEqual(greedy(model, 12));
      }),
    );
  });

  it("says the first id of the best continuation when it has beams for all of them", () => {
    const length = 4;
    fc.assert(
      fc.property(anyModel, (model) => {
        const { answer } = run(model, { count: 3 ** length, length }, 7, [2]);
        const wanted: number[] = [];
        while (wanted.length < 7 && wanted.at(-1) !== 2)
          wanted.push(bestContinuation(model, wanted, Math.min(length, 7 - wanted.length), 2)[0]!);
        expect(answer).toEqual(wanted);
      }),
      { numRuns: 60 },
    );
  });

  it("finds a likelier answer than greedy decoding where the best beginning is a trap", () => {
    const trap: Model = (ids) => {
      if (ids.length === 0)
        return [
          { id: 0, logprob: Math.log(0.6) },
          { id: 1, logprob: Math.log(0.4) },
        ];
      if (ids[0] === 0)
        return [
          { id: 0, logprob: Math.log(0.5) },
          { id: 1, logprob: Math.log(0.5) },
        ];
      return [
        { id: 1, logprob: Math.log(0.99) },
        { id: 0, logprob: Math.log(0.01) },
      ];
    };
    expect(run(trap, { count: 1, length: 2 }, 2).answer).toEqual([0, 0]);
    expect(run(trap, { count: 2, length: 2 }, 2).answer).toEqual([1, 1]);
  });

  it("says nothing before the beams are full length, then something in every step", () => {
    const { steps } = run(modelOf(5, 3), { count: 3, length: 4 }, 10);
    expect(steps.slice(0, 3)).toEqual([[], [], []]);
    expect(steps.slice(3).every((said) => said.length > 0)).toBe(true);
    expect(steps.flat()).toHaveLength(10);
  });

  it("keeps a beam that has ended, without growing it, until it is best or beaten", () => {
    // Ending at once is less likely than going on, but going on only gets worse.
    const model: Model = (ids) =>
      ids.length === 0
        ? [
            { id: 0, logprob: -0.5 },
            { id: 9, logprob: -1 },
          ]
        : [
            { id: 0, logprob: -0.7 },
            { id: 1, logprob: -0.7 },
          ];
    expect(run(model, { count: 2, length: 3 }, 8, [9]).answer).toEqual([9]);
    expect(run(model, { count: 2, length: 1 }, 3, [9]).answer).toEqual([0, 0, 0]);
  });

  it("prefers the higher parent and the earlier branch among equals", () => {
    const even: Model = () => [
      { id: 4, logprob: -1 },
      { id: 2, logprob: -1 },
    ];
    expect(run(even, { count: 3, length: 3 }, 4).answer).toEqual([4, 4, 4, 4]);
  });

  it("never grows beyond the limit", () => {
    fc.assert(
      fc.property(
        anyModel,
        fc.integer({ min: 1, max: 6 }),
        fc.integer({ min: 1, max: 5 }),
        fc.integer({ min: 1, max: 5 }),
        (model, limit, count, length) => {
          const longest = { ids: 0 };
          const { answer } = run(
            (ids) => {
              longest.ids = Math.max(longest.ids, ids.length + 1);
              return model(ids);
            },
            { count, length },
            limit,
          );
          expect(answer).toHaveLength(limit);
          expect(longest.ids).toBe(limit);
        },
      ),
    );
  });
});
