import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { DecodeTurns, TURN_STEPS } from "./decode-turns.js";
import type { Sequence } from "./sequence.js";

/** A sequence as DecodeTurns sees it. */
class FakeSequence {
  fed = 10;
  steps = 0;
  constructor(
    readonly job = { width: 1 },
    readonly decoding = true,
  ) {}
}

const partOf = (sequence: FakeSequence, tokens = 1) => ({
  sequence: sequence as unknown as Sequence,
  end: sequence.fed + tokens,
});
const stepOf = (turns: DecodeTurns, sequences: readonly FakeSequence[]) =>
  turns.take(sequences.map((sequence) => partOf(sequence))).map(({ sequence }) => sequence as unknown as FakeSequence);

describe("DecodeTurns", () => {
  it("lets all run where they are not too many, and the same ones for a turn where they are", () => {
    const turns = new DecodeTurns((n) => (n === 5 ? 4 : n));
    const all = Array.from({ length: 5 }, () => new FakeSequence());
    expect(stepOf(turns, all.slice(1))).toEqual(all.slice(1));
    const steps = Array.from({ length: 2 * TURN_STEPS }, () => stepOf(turns, all));
    expect(steps.slice(0, TURN_STEPS)).toEqual(Array(TURN_STEPS).fill(all.slice(1)));
    expect(steps.slice(TURN_STEPS)).toEqual(Array(TURN_STEPS).fill([all[0], ...all.slice(2)]));
  });

  it("begins a turn anew when somebody leaves or comes, who does not rest at once", () => {
    const turns = new DecodeTurns((n) => Math.min(n, 3));
    const [a, b, c, d, e] = Array.from({ length: 5 }, () => new FakeSequence()) as [FakeSequence, ...FakeSequence[]];
    expect(stepOf(turns, [a, b!, c!, d!])).toEqual([b, c, d]);
    expect(stepOf(turns, [b!, c!, d!])).toEqual([b, c, d]);
    expect(stepOf(turns, [b!, c!, d!, e!])).toEqual([c, d, e]);
  });

  it.each([
    [
      "a prompt is among them",
      (all: FakeSequence[]) => [...all.map((each) => partOf(each)), partOf(new FakeSequence(undefined, false), 7)],
    ],
    ["one feeds several tokens", (all: FakeSequence[]) => all.map((each, i) => partOf(each, i === 2 ? 3 : 1))],
  ])("lets all run where %s", (_, parts) => {
    const given = parts(Array.from({ length: 4 }, () => new FakeSequence()));
    expect(new DecodeTurns(() => 1).take(given)).toBe(given);
  });

  it("does not part the strands of a job", () => {
    const beams = { width: 3 };
    const all = [new FakeSequence(beams), new FakeSequence(beams), new FakeSequence(beams), new FakeSequence()];
    expect(stepOf(new DecodeTurns(() => 3), all)).toEqual(all.slice(0, 3));
    expect(stepOf(new DecodeTurns(() => 2), all)).toEqual(all);
  });

  it("gives everybody as many steps as any other, but for a turn", () => {
    fc.assert(
      fc.property(fc.integer({ min: 2, max: 40 }), fc.integer({ min: 1, max: 39 }), (count, atOnce) => {
        const turns = new DecodeTurns((n) => Math.min(n, atOnce));
        const all = Array.from({ length: count }, () => new FakeSequence());
        for (let step = 0; step < 20 * TURN_STEPS; step++) {
          const some = stepOf(turns, all);
          expect(some).toHaveLength(Math.min(count, atOnce));
          for (const sequence of some) sequence.steps += 1;
          const steps = all.map((sequence) => sequence.steps);
          expect(Math.max(...steps) - Math.min(...steps)).toBeLessThanOrEqual(TURN_STEPS);
        }
      }),
    );
  });
});
