import { describe, expect, it } from "vitest";
import { llama7b, makeSpec } from "../../../../test/support/shapes.js";
import type { RunShape } from "../../../memory/packing.js";
import { GREEDY } from "../../../sampling/parameters.js";
import type { BatchEntry, OutputRequest } from "../../backend.js";
import { decodeSplits } from "../attention/attention-launch.js";
import { StepInput } from "./step-input.js";
import { attentionScratch, decodeBuckets, inputLayout, largestInput, maxPages } from "./step-shape.js";

const spec = makeSpec(llama7b);
const run: RunShape = { context: 1000, cacheTokens: 2048, cacheType: "f16", maxSequences: 5, prefillChunk: 200 };
const sample = { parameters: GREEDY, history: new Int32Array(), promptLength: 0, seed: 0, position: 0, mask: null };
const output = (index: number, target: number | null = null): OutputRequest => ({
  index,
  sample,
  target,
  topLogprobs: 0,
  logits: false,
  hidden: false,
});
const entry = (tokens: number[], start: number, page: number, outputs: OutputRequest[]): BatchEntry => ({
  tokens: Int32Array.from(tokens),
  start,
  ropeLength: start + tokens.length,
  pages: [Int32Array.from([page, page + 1])],
  outputs,
});

const buffer = new ArrayBuffer(largestInput(spec, run).bytes);
const input = new StepInput(spec, run, buffer);

describe("step input", () => {
  it("puts entries of one token first, and the others' rows in tiles of one sequence each", () => {
    const long = Array.from({ length: 140 }, (_, i) => i + 1);
    const step = input.write([entry(long, 10, 3, [output(139, 9)]), entry([500], 300, 6, [output(0)])]);
    expect(step.shape).toEqual({ rows: 141, decodeRows: 1, tiles: 2, entries: 2, outputs: 2 });
    const layout = inputLayout(spec, run, step.shape);
    const ints = (at: number, count: number) => [...new Int32Array(buffer, at, count)];
    expect(ints(layout.ids, 3)).toEqual([500, 1, 2]);
    expect(ints(layout.positions, 3)).toEqual([300, 10, 11]);
    expect(ints(layout.sequence, 3)).toEqual([0, 1, 1]);
    expect(ints(layout.tiles, 4)).toEqual([1, 128, 129, 12]);
    expect(ints(layout.pages[0]!, 2)).toEqual([6, 7]);
    expect(ints(layout.pages[0]! + maxPages(run) * 4, 2)).toEqual([3, 4]);
    expect(step.outputs.map((wanted) => [wanted!.entry, wanted!.row])).toEqual([
      [1, 0],
      [0, 140],
    ]);
    expect(ints(layout.targets, 2)).toEqual([-1, 9]);
  });

  it("leaves unused rows of a captured step idle, wherever they are", () => {
    const step = input.writeDecode([entry([7], 20, 1, [output(0)]), null, entry([9], 30, 4, [output(0, 3)])], 4);
    const layout = inputLayout(spec, run, step.shape);
    const ints = (at: number) => [...new Int32Array(buffer, at, 4)];
    expect(ints(layout.ids)).toEqual([7, 0, 9, 0]);
    expect(ints(layout.positions)).toEqual([20, -1, 30, -1]);
    expect(ints(layout.sequence).slice(0, 3)).toEqual([0, 1, 2]);
    expect(ints(layout.targets)).toEqual([-1, -1, 3, -1]);
    expect(new Int32Array(buffer, layout.pages[0]! + 2 * maxPages(run) * 4, 2)).toEqual(Int32Array.of(4, 5));
    expect(step.shape).toMatchObject({ rows: 4, decodeRows: 4, tiles: 0, outputs: 4 });
    expect(step.outputs.map((wanted) => wanted && [wanted.entry, wanted.row])).toEqual([[0, 0], null, [2, 2]]);
  });
});

describe("step shapes", () => {
  it("capture powers of two, and the most there can be", () => {
    expect(decodeBuckets(run)).toEqual([1, 2, 4, 5]);
    expect(decodeBuckets({ ...run, maxSequences: 1 })).toEqual([1]);
  });

  it("have room for the partial results of any number of sequences", () => {
    const { attention } = spec.layers[0]!;
    const { counters, bytes } = attentionScratch(spec.layers, { ...run, maxSequences: 64 });
    for (let rows = 1; rows <= 64; rows++)
      expect(rows * decodeSplits(attention, rows) * attention.heads * (attention.headDim + 2) * 4).toBeLessThanOrEqual(
        bytes - counters,
      );
  });
});
