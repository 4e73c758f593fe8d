// Drives a backend through its contract alone (plan, load, step), so that the suite can judge
// any backend, and can compose batches, chunks and page tables that the scheduler would not.
// Pages are handed out in a scrambled order: nothing may depend on where a page lies.

import { closeAdapters, openAdapters } from "../../src/adapters/open-all.js";
import type { Backend, BatchEntry, Output, OutputRequest, PageCopy, Runtime } from "../../src/backend/backend.js";
import { openCheckpoint } from "../../src/checkpoint/local.js";
import type { CacheType } from "../../src/memory/packing.js";
import { type CacheGroup, PAGE_TOKENS } from "../../src/memory/plan.js";
import { planModel } from "../../src/memory/plan-model.js";
import { type AdapterUse, withAdapters } from "../../src/model/adapter.js";
import { readModel } from "../../src/model/read.js";
import type { RopeOverrides } from "../../src/model/rope-config.js";
import { GREEDY } from "../../src/sampling/parameters.js";
import { Random } from "../support/random.js";

export interface DriveOptions {
  readonly cacheType: CacheType;
  readonly context: number;
  readonly prefillChunk?: number;
  readonly maxSequences?: number;
  readonly rope?: RopeOverrides;
  /** Folders of adapters by name, in the order of their indices. */
  readonly adapters?: Readonly<Record<string, string>>;
}

/** One sequence's tokens and pages. */
export class DrivenSequence {
  length = 0;
  /** Per cache group, the physical page of each logical one; −1 where the window has left it. */
  readonly pages: number[][];
  readonly adapters: readonly AdapterUse[];

  constructor(groups: readonly CacheGroup[], adapters: readonly AdapterUse[] = []) {
    this.adapters = adapters;
    this.pages = groups.map(() => []);
  }
}

/** What one sequence does in a step. */
export interface Feed {
  readonly sequence: DrivenSequence;
  readonly ids: readonly number[];
  /** Length of the whole prompt while it is read in chunks; default: up to the end of these ids. */
  readonly ropeLength?: number;
  readonly outputs: readonly (Pick<OutputRequest, "index"> & Partial<OutputRequest>)[];
}

const NOTHING: Omit<OutputRequest, "index"> = { sample: null, target: null, topLogprobs: 0, logits: false, hidden: false };

export class Driver implements AsyncDisposable {
  readonly runtime: Runtime;
  /** Free pages of each cache group. */
  readonly #free: number[][];

  constructor(runtime: Runtime) {
    this.runtime = runtime;
    const random = new Random(7);
    this.#free = runtime.plan.cacheGroups.map(({ pages }) => [...random.permutation(pages)]);
  }

  static async load(backend: Backend, folder: string, options: DriveOptions): Promise<Driver> {
    const { cacheType, context, prefillChunk = 64, maxSequences = 1, rope } = options;
    const checkpoint = await openCheckpoint(folder);
    const plain = readModel(checkpoint, rope);
    const adapters = await openAdapters(options.adapters ?? {}, plain);
    try {
      const spec = withAdapters(
        plain,
        adapters.map((adapter) => adapter.spec),
      );
      const plan = planModel({
        spec,
        packing: backend.packing,
        devices: backend.devices(),
        caps: "auto",
        context,
        cacheTokens: context * maxSequences,
        cacheType,
        maxSequences,
        prefillChunk,
      });
      if (!plan.ok) throw new Error(plan.message);
      return new Driver(await backend.load({ plan, spec, checkpoint, adapters }));
    } finally {
      await closeAdapters(adapters);
      await checkpoint.close();
    }
  }

  newSequence(adapters: readonly AdapterUse[] = []): DrivenSequence {
    return new DrivenSequence(this.runtime.plan.cacheGroups, adapters);
  }

  /** Gives a sequence's pages back. */
  end(sequence: DrivenSequence): void {
    sequence.pages.forEach((pages, group) => {
      this.#free[group]!.unshift(...pages.filter((page) => page >= 0));
      pages.length = 0;
    });
    sequence.length = 0;
  }

  /** A second sequence that begins with all that this one was fed, on pages of its own. */
  async fork(sequence: DrivenSequence): Promise<DrivenSequence> {
    const fork = this.newSequence(sequence.adapters);
    const copies: PageCopy[] = [];
    fork.length = sequence.length;
    sequence.pages.forEach((pages, group) => {
      for (const from of pages) {
        const to = from < 0 ? from : this.#free[group]!.pop();
        if (to === undefined) throw new Error("the plan's pages do not suffice for this fork");
        fork.pages[group]!.push(to);
        if (from >= 0) copies.push({ group, from, to });
      }
    });
    await this.runtime.copyPages(copies);
    return fork;
  }

  async step(feeds: readonly Feed[]): Promise<Output[][]> {
    const batch = feeds.map((feed): BatchEntry => {
      const { sequence, ids, outputs } = feed;
      const start = sequence.length;
      const end = start + ids.length;
      const pages = this.runtime.plan.cacheGroups.map((group, i) => this.#makeRoom(sequence.pages[i]!, i, group, start, end));
      sequence.length = end;
      return {
        tokens: Int32Array.from(ids),
        start,
        ropeLength: feed.ropeLength ?? end,
        pages,
        outputs: outputs.map((output) => ({ ...NOTHING, ...output })),
        adapters: sequence.adapters,
      };
    });
    return this.runtime.step(batch);
  }

  #makeRoom(pages: number[], index: number, group: CacheGroup, start: number, end: number): Int32Array {
    const free = this.#free[index]!;
    const firstSeen = group.window === null ? 0 : Math.floor(Math.max(0, start - group.window + 1) / PAGE_TOKENS);
    for (let i = 0; i < Math.min(firstSeen, pages.length); i++) {
      if (pages[i]! < 0) continue;
      free.unshift(pages[i]!);
      pages[i] = -1;
    }
    while (pages.length < Math.ceil(end / PAGE_TOKENS)) {
      const page = free.pop();
      if (page === undefined) throw new Error("the plan's pages do not suffice for this sequence");
      pages.push(page);
    }
    return Int32Array.from(pages);
  }

  /** The end of a chunk that begins at `start`, within what the plan's pages allow one sequence to hold. */
  #chunkEnd(start: number, wanted: number): number {
    return this.runtime.plan.cacheGroups.reduce((end, { window, pagesPerSequence }) => {
      const firstSeen = window === null ? 0 : Math.floor(Math.max(0, start - window + 1) / PAGE_TOKENS);
      return Math.min(end, (firstSeen + pagesPerSequence) * PAGE_TOKENS);
    }, wanted);
  }

  /** Reads ids in chunks; `outputsOf` says what is wanted of a position counted from the first id. */
  async read(
    sequence: DrivenSequence,
    ids: readonly number[],
    outputsOf: (position: number) => Partial<OutputRequest> | null,
    chunk = this.runtime.plan.run.prefillChunk,
  ): Promise<Output[]> {
    const [first, total] = [sequence.length, sequence.length + ids.length];
    const answers: Output[] = [];
    while (sequence.length < total) {
      const start = sequence.length;
      const end = this.#chunkEnd(start, Math.min(total, start + chunk));
      const outputs: (Pick<OutputRequest, "index"> & Partial<OutputRequest>)[] = [];
      for (let position = start; position < end; position++) {
        const wanted = outputsOf(position - first);
        if (wanted) outputs.push({ ...wanted, index: position - start });
      }
      const part = ids.slice(start - first, end - first);
      answers.push(...(await this.step([{ sequence, ids: part, ropeLength: total, outputs }]))[0]!);
    }
    return answers;
  }

  /** Logits after the last `last` of these ids (default: all), read as one fresh sequence. */
  async logits(
    ids: readonly number[],
    options: { last?: number; chunk?: number; adapters?: readonly AdapterUse[] } = {},
  ): Promise<Float32Array[]> {
    const { last = ids.length, chunk, adapters } = options;
    const sequence = this.newSequence(adapters);
    const answers = await this.read(sequence, ids, (i) => (i >= ids.length - last ? { logits: true } : null), chunk);
    this.end(sequence);
    return answers.map(({ logits }) => logits!);
  }

  /** Log-probability of each of ids[1…], given those before it. */
  async logprobs(ids: readonly number[]): Promise<number[]> {
    const sequence = this.newSequence();
    const answers = await this.read(sequence, ids.slice(0, -1), (i) => ({ target: ids[i + 1]! }));
    this.end(sequence);
    return answers.map(({ targetLogprob }) => targetLogprob!);
  }

  /** The `count` most likely tokens, one after the other. */
  async greedy(ids: readonly number[], count: number, adapters?: readonly AdapterUse[]): Promise<number[]> {
    const sequence = this.newSequence(adapters);
    const wanted = (position: number): Partial<OutputRequest> => ({ sample: greedyAt(position) });
    let answers = await this.read(sequence, ids, (i) => (i === ids.length - 1 ? wanted(ids.length) : null));
    const generated = [answers[0]!.id!];
    while (generated.length < count) {
      answers = await this.read(sequence, [generated.at(-1)!], () => wanted(sequence.length + 1));
      generated.push(answers[0]!.id!);
    }
    this.end(sequence);
    return generated;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.runtime.dispose();
  }
}

/** A greedy choice of the token at `position`. */
export function greedyAt(position: number): OutputRequest["sample"] {
  return { parameters: GREEDY, history: new Int32Array(0), promptLength: 0, seed: 0, position, mask: null };
}
