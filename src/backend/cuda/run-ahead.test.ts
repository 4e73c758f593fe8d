import { describe, expect, it } from "vitest";
import { GREEDY } from "../../sampling/parameters.js";
import type { BatchEntry, OutputRequest } from "../backend.js";
import { followingStep, isExpected } from "./run-ahead.js";

const sample = { parameters: GREEDY, history: new Int32Array(0), promptLength: 0, seed: 7, position: 11, mask: null };
const output: OutputRequest = { index: 0, sample, target: null, topLogprobs: 0, logits: false, hidden: false };

function entry(changes: Partial<BatchEntry> = {}): BatchEntry {
  const pages = [Int32Array.of(3, 1)];
  return { tokens: Int32Array.of(5), start: 300, ropeLength: 301, pages, outputs: [output], ...changes };
}

/** The same sequence one token on, as a scheduler would ask for it. */
function onward(from: BatchEntry, id: number, changes: Partial<BatchEntry> = {}): BatchEntry {
  const { start, pages } = from;
  const outputs = [{ ...output, sample: { ...sample, position: sample.position + 1, history: Int32Array.of(id) } }];
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

describe("followingStep", () => {
  it("is the same sequences one token on", () => {
    const next = followingStep([entry(), entry({ start: 256 })])!;
    expect(next.map(({ start, ropeLength }) => [start, ropeLength])).toEqual([
      [301, 302],
      [257, 258],
    ]);
    expect(next[0]!.outputs[0]!.sample).toMatchObject({ seed: 7, position: 12 });
  });

  const penalised = { ...sample, parameters: { ...GREEDY, repetitionPenalty: 1.1 } };
  const masked = { ...sample, mask: new Uint32Array(1) };
  it.each([
    ["the next page is not there yet", { start: 511 }],
    ["a prompt is fed", { tokens: Int32Array.of(5, 6) }],
    ["nothing is chosen", { outputs: [{ ...output, sample: null }] }],
    ["no output is wanted", { outputs: [] }],
    ["the choice looks at what was said before", { outputs: [{ ...output, sample: penalised }] }],
    ["a constraint decides what is allowed", { outputs: [{ ...output, sample: masked }] }],
    ["somebody wants to see logits", { outputs: [{ ...output, logits: true }] }],
    ["somebody wants alternatives", { outputs: [{ ...output, topLogprobs: 2 }] }],
  ] satisfies [string, Partial<BatchEntry>][])("cannot be said where %s", (_, changes) => {
    expect(followingStep([entry(), entry(changes)])).toBeNull();
  });

  it("is not taken for granted with many sequences", () => {
    expect(followingStep(Array.from({ length: 9 }, () => entry()))).toBeNull();
  });
});

describe("isExpected", () => {
  const batch = [entry(), entry({ start: 20 })];
  const expected = followingStep(batch)!;
  const asked = [onward(batch[0]!, 40), onward(batch[1]!, 41)];

  it("recognises the step that was queued", () => {
    expect(isExpected(asked, expected, [40, 41])).toBe(true);
  });

  it.each([
    ["another id is fed", [onward(batch[0]!, 39), asked[1]!]],
    ["a sequence has left", [asked[0]!]],
    ["sequences have changed places", [asked[1]!, asked[0]!]],
    ["a sequence begins elsewhere", [asked[0]!, onward(batch[1]!, 41, { start: 22 })]],
    ["a page is another", [onward(batch[0]!, 40, { pages: [Int32Array.of(3, 2)] }), asked[1]!]],
    ["adapters have come", [onward(batch[0]!, 40, { adapters: [{ index: 0, weight: 1 }] }), asked[1]!]],
    ["more is wanted", [{ ...asked[0]!, outputs: [{ ...asked[0]!.outputs[0]!, topLogprobs: 1 }] }, asked[1]!]],
    [
      "it is sampled with another seed",
      [{ ...asked[0]!, outputs: [{ ...output, sample: { ...sample, seed: 8, position: 12 } }] }, asked[1]!],
    ],
  ] satisfies [string, BatchEntry[]][])("knows that it is not where %s", (_, other) => {
    expect(isExpected(other, expected, [40, 41])).toBe(false);
  });

  it("looks at no page beyond the position", () => {
    const further = onward(batch[1]!, 41, { pages: [Int32Array.of(3, 9)] });
    expect(isExpected([asked[0]!, further], expected, [40, 41])).toBe(true);
  });
});
