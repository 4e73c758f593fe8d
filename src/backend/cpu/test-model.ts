// For tests: a checkpoint planned and loaded as the engine would, and steps written briefly.

import { openCheckpoint } from "../../checkpoint/local.js";
import { cacheGroups } from "../../memory/cache-groups.js";
import { layout } from "../../memory/layout.js";
import type { Packing } from "../../memory/packing.js";
import type { Plan } from "../../memory/plan.js";
import { readModel } from "../../model/read.js";
import type { ModelSpec } from "../../model/spec.js";
import { GREEDY, type SampleRequest } from "../../sampling/parameters.js";
import type { BatchEntry, LoadRequest, Output, OutputRequest, Runtime } from "../backend.js";
import { type CpuBackendOptions, createCpuBackend } from "./index.js";

export interface TestModelOptions extends CpuBackendOptions {
  context?: number;
  cacheTokens?: number;
  maxSequences?: number;
  prefillChunk?: number;
  /** Changes the packing before planning, e.g. for small arenas. */
  packing?: (packing: Packing) => Packing;
  /** Changes the model before planning, e.g. for a sliding window. */
  spec?: (spec: ModelSpec) => ModelSpec;
  load?: Partial<LoadRequest>;
}

export async function loadTestModel(folder: string, options: TestModelOptions = {}): Promise<Runtime> {
  const checkpoint = await openCheckpoint(folder);
  try {
    const backend = createCpuBackend({ threads: 1, hugePages: false, ...options });
    const { spec, plan } = planTestModel(readModel(checkpoint), backend.packing, options);
    return await backend.load({ plan, spec, checkpoint, ...options.load });
  } finally {
    await checkpoint.close();
  }
}

/** A plan without placement: one device that has room for everything. */
export function planTestModel(
  model: ModelSpec,
  backendPacking: Packing,
  options: TestModelOptions,
): { spec: ModelSpec; plan: Plan } {
  const spec = options.spec?.(model) ?? model;
  const packing = options.packing?.(backendPacking) ?? backendPacking;
  const context = options.context ?? 512;
  const { maxSequences = 1, prefillChunk = 64, cacheTokens = context } = options;
  const run = { context, cacheTokens, cacheType: packing.cacheTypes[0]!, maxSequences, prefillChunk };
  const stage = layout(spec, { first: 0, count: spec.layers.length }, run, packing);
  const { weights, kvCache, scratch } = stage;
  const total = weights + kvCache + scratch;
  const place = { cap: total, baseline: 0, baselineSource: "measured" as const, headroom: 0, excluded: null, draft: null };
  const layers = { first: 0, count: spec.layers.length };
  const plan: Plan = {
    ok: true,
    packing: packing.name,
    splitMode: "fewest",
    run,
    context,
    largestContext: { f16: context, q8: context, q4: context },
    devices: [{ id: "cpu", card: "cpu", weights, kvCache, scratch, total, layers, stage, ...place }],
    cacheGroups: cacheGroups(spec, run),
    binding: "test",
    notes: [],
  };
  return { spec, plan };
}

/** An output request of which everything is off but what is named. */
export function want(index: number, wanted: Partial<OutputRequest>): OutputRequest {
  return { index, sample: null, target: null, topLogprobs: 0, logits: false, hidden: false, ...wanted };
}

export function greedy(position: number): SampleRequest {
  return { parameters: GREEDY, history: new Int32Array(0), promptLength: 0, seed: 0, position, mask: null };
}

/** One sequence on its own pages: `firstPage` onwards in every cache group. */
export class TestSequence {
  readonly #runtime: Runtime;
  readonly #firstPage: number;
  length = 0;

  constructor(runtime: Runtime, firstPage = 0) {
    this.#runtime = runtime;
    this.#firstPage = firstPage;
  }

  entry(tokens: readonly number[] | Int32Array, outputs: OutputRequest[]): BatchEntry {
    const pages = Math.ceil((this.length + tokens.length) / 256);
    const entry = {
      tokens: Int32Array.from(tokens),
      start: this.length,
      ropeLength: this.length + tokens.length,
      pages: this.#runtime.plan.cacheGroups.map(() => Int32Array.from({ length: pages }, (_, page) => this.#firstPage + page)),
      outputs,
    };
    this.length += tokens.length;
    return entry;
  }

  /** Feeds all tokens in chunks; the answers to `wanted(position)` in order. */
  async feed(
    tokens: readonly number[] | Int32Array,
    wanted: (position: number) => Partial<OutputRequest> | null,
    chunk = this.#runtime.plan.run.prefillChunk,
  ): Promise<Output[]> {
    const answers: Output[] = [];
    for (let from = 0; from < tokens.length; from += chunk) {
      const some = tokens.slice(from, from + chunk);
      const start = this.length;
      const outputs = Array.from(some).flatMap((_, i) => {
        const wish = wanted(start + i);
        return wish ? [want(i, wish)] : [];
      });
      const [answer] = await this.#runtime.step([this.entry(some, outputs)]);
      answers.push(...answer!);
    }
    return answers;
  }

  /** Greedy continuation after feeding `prompt`. */
  async generate(prompt: readonly number[] | Int32Array, count: number): Promise<number[]> {
    const ids: number[] = [];
    const last = this.length + prompt.length - 1;
    let [answer] = await this.feed(prompt, (position) => (position === last ? { sample: greedy(position + 1) } : null));
    for (;;) {
      ids.push(answer!.id!);
      if (ids.length === count) return ids;
      [answer] = await this.feed([ids.at(-1)!], (position) => ({ sample: greedy(position + 1) }));
    }
  }
}
