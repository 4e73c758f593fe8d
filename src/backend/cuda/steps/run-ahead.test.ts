import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { visitAdjustments } from "../../../sampling/adjustments.js";
import { GREEDY, type SamplingParameters } from "../../../sampling/parameters.js";
import { penaltyReach, strengthAt } from "../../../sampling/penalties.js";
import type { BatchEntry, OutputRequest } from "../../backend.js";
import { followingRows, rowsInStep } from "./run-ahead.js";

const sample = { parameters: GREEDY, history: Int32Array.of(4, 5), promptLength: 0, seed: 7, position: 11, mask: null };
const output: OutputRequest = { index: 0, sample, target: null, topLogprobs: 0, logits: false, hidden: false };

function entry(changes: Partial<BatchEntry> = {}): BatchEntry {
  const pages = [Int32Array.of(3, 1)];
  return { tokens: Int32Array.of(5), start: 300, ropeLength: 301, pages, outputs: [output], ...changes };
}

function sampling(parameters: SamplingParameters, history = sample.history): Partial<BatchEntry> {
  return { outputs: [{ ...output, sample: { ...sample, parameters, history } }] };
}

/** The same sequence one token on, as a scheduler would ask for it. */
function onward(from: BatchEntry, id: number, changes: Partial<BatchEntry> = {}): BatchEntry {
  const { start, pages } = from;
  const before = from.outputs[0]!.sample!;
  const history = Int32Array.of(...before.history, id);
  const outputs = [{ ...output, sample: { ...before, position: before.position + 1, history } }];
  return {
    ...from,
    tokens: Int32Array.of(id),
    start: start + 1,
    ropeLength: start + 2,
    pages: pages.map((t) => t.slice()),
    outputs,
    ...changes,
  };
}

const penalty = { ...GREEDY, repetitionPenalty: 1.1, penaltySustain: 2, penaltyDecay: 3 };

describe("followingRows", () => {
  it("are the same sequences one token on, idle rows idle", () => {
    const next = followingRows([entry(), null, entry({ start: 256 })])!;
    expect(next.map((each) => each && [each.start, each.ropeLength])).toEqual([[301, 302], null, [257, 258]]);
    expect(next[0]!.outputs[0]!.sample).toMatchObject({ seed: 7, position: 12 });
  });

  const masked = { ...sample, mask: new Uint32Array(1) };
  it.each([
    ["the next page is not there yet", { start: 511 }],
    ["a prompt is fed", { tokens: Int32Array.of(5, 6) }],
    ["nothing is chosen", { outputs: [{ ...output, sample: null }] }],
    ["no output is wanted", { outputs: [] }],
    ["what was said is counted", sampling({ ...GREEDY, frequencyPenalty: 0.5 })],
    ["a constraint decides what is allowed", { outputs: [{ ...output, sample: masked }] }],
    ["somebody wants to see logits", { outputs: [{ ...output, logits: true }] }],
    ["somebody wants alternatives", { outputs: [{ ...output, topLogprobs: 2 }] }],
  ] satisfies [string, Partial<BatchEntry>][])("cannot be said where %s", (_, changes) => {
    expect(followingRows([entry(), entry(changes)])).toBeNull();
  });

  it("keep a copy of what the repetition penalty looks at, and of no more", () => {
    const history = Int32Array.of(1, 2, 3, 4, 5, 6, 7);
    const [next] = followingRows([entry(sampling(penalty, history))])!;
    history.fill(0);
    expect(next!.outputs[0]!.sample!.history).toEqual(Int32Array.of(4, 5, 6, 7));
  });

  it("choose as if the id were known, when the card adds it", () => {
    const parameters = fc.record({
      repetitionPenalty: fc.constantFrom(1, 1.3, 0.8),
      penaltySustain: fc.constantFrom(-1, 0, 1, 3),
      penaltyDecay: fc.constantFrom(0, 1, 4),
    });
    fc.assert(
      fc.property(fc.array(fc.nat(9), { maxLength: 12 }), fc.nat(9), parameters, (ids, id, values) => {
        const chosen = { ...GREEDY, ...values };
        const [next] = followingRows([entry(sampling(chosen, Int32Array.from(ids)))])!;
        const ahead = new Map<number, number>();
        visitAdjustments(next!.outputs[0]!.sample!, 10, (each, factor) => ahead.set(each, factor), 1);
        // As choose_token does it.
        if (penaltyReach(chosen, ids.length + 1) > 0) ahead.set(id, strengthAt(0, chosen));
        const known = new Map<number, number>();
        const asked = { ...sample, parameters: chosen, history: Int32Array.of(...ids, id) };
        visitAdjustments(asked, 10, (each, factor) => known.set(each, factor));
        expect(new Map([...ahead].sort())).toEqual(new Map([...known].sort()));
      }),
    );
  });
});

describe("rowsInStep", () => {
  const batch = [entry(), entry({ start: 20 }), entry({ start: 30, pages: [Int32Array.of(8, 9)], ...sampling(penalty) })];
  const queued = followingRows(batch)!;
  const asked = [onward(batch[0]!, 40), onward(batch[1]!, 41), onward(batch[2]!, 42)];
  const ids = [40, 41, 42];

  it("finds every sequence that was queued", () => {
    expect(rowsInStep(asked, queued, ids)).toEqual([0, 1, 2]);
  });

  it.each([
    ["a sequence has left", [asked[0]!, asked[2]!], [0, 2]],
    ["a sequence has come", [asked[0]!, entry({ start: 5 }), asked[1]!, asked[2]!], [0, -1, 1, 2]],
    ["only a prompt is left", [entry({ tokens: Int32Array.of(1, 2) })], [-1]],
    ["another id is fed", [onward(batch[0]!, 39), asked[1]!], [-1, 1]],
    ["sequences have changed places", [asked[1]!, asked[0]!], [1, -1]],
    ["a sequence begins elsewhere", [asked[0]!, onward(batch[1]!, 41, { start: 22 })], [0, -1]],
    ["a page is another", [onward(batch[0]!, 40, { pages: [Int32Array.of(3, 2)] }), asked[1]!], [-1, 1]],
    ["adapters have come", [onward(batch[0]!, 40, { adapters: [{ index: 0, weight: 1 }] }), asked[1]!], [-1, 1]],
    ["more is wanted", [{ ...asked[0]!, outputs: [{ ...asked[0]!.outputs[0]!, topLogprobs: 1 }] }, asked[1]!], [-1, 1]],
    [
      "it is sampled with another seed",
      [{ ...asked[0]!, outputs: [{ ...output, sample: { ...sample, seed: 8, position: 12 } }] }, asked[1]!],
      [-1, 1],
    ],
    ["what is penalised was another", [onward(entry({ ...batch[2]!, ...sampling(penalty, Int32Array.of(4, 6)) }), 42)], [-1]],
    ["more is penalised", [onward(entry({ ...batch[2]!, ...sampling(penalty, Int32Array.of(9, 4, 5)) }), 42)], [-1]],
  ] satisfies [string, BatchEntry[], number[]][])("knows what is the same where %s", (_, other, wanted) => {
    expect(rowsInStep(other, queued, ids)).toEqual(wanted);
  });

  it("looks at no page beyond the position, and at no history beyond the penalty", () => {
    const further = onward(batch[1]!, 41, { pages: [Int32Array.of(3, 9)] });
    const history = Int32Array.of(1, 2, 3, 4, 5, 6, 7);
    const long = entry(sampling(penalty, history));
    const other = onward(entry(sampling(penalty, Int32Array.of(8, 8, 8, 4, 5, 6, 7))), 42);
    expect(rowsInStep([asked[0]!, further], queued, ids)).toEqual([0, 1]);
    expect(rowsInStep([other], followingRows([long])!, [42])).toEqual([0]);
  });
});
