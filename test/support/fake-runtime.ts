// A runtime without a model: deterministic logits that depend on everything that a sequence's
// page tables reach, and on nothing else. Its "KV" is what was fed, where: each page slot
// remembers id, position and the RoPE length that mattered. The logits at a position are a
// hash of what the position can see there, so a wrong, missing, shared or overwritten page
// changes the output; and whatever breaks the contract of Runtime.step is refused.

import { adapterFault } from "../../src/backend/adapters.js";
import type { BatchEntry, Output, OutputRequest, PageCopy, Runtime } from "../../src/backend/backend.js";
import { cacheGroups } from "../../src/memory/cache-groups.js";
import type { RunShape } from "../../src/memory/packing.js";
import { type CacheGroup, PAGE_TOKENS, type Plan } from "../../src/memory/plan.js";
import type { AdapterUse } from "../../src/model/adapter.js";
import type { ModelSpec, RopeSpec } from "../../src/model/spec.js";
import { logSoftmaxAt, topLogprobs } from "../../src/sampling/logprobs.js";
import { sample } from "../../src/sampling/sample.js";

export interface FakeModel {
  /** Default 512. */
  context?: number;
  /** Default: context. */
  cacheTokens?: number;
  /** Default 1. */
  maxSequences?: number;
  /** Default 64. */
  prefillChunk?: number;
  /** Sequences that decode go on so many at a time; default all. */
  atOnce?: number;
  /** Reach of each layer; default `[null]`. */
  windows?: readonly (number | null)[];
  /** Default 40. */
  vocabSize?: number;
  rope?: RopeSpec;
  bosId?: number | null;
  /** Default none: sequences end by length. */
  eosIds?: readonly number[];
  /** Names of loaded adapters; default none. */
  adapters?: readonly string[];
  /** A draft model loaded with it; default none. */
  draft?: FakeRuntime;
}

/** What a page slot remembers; `ropeLength` is 0 wherever it does not matter. */
interface Slot {
  readonly id: number;
  readonly position: number;
  readonly ropeLength: number;
  /** Tells the adapters apart that it was computed with; 0: none. */
  readonly adapters: number;
}

/** Where nothing was written. */
const NOTHING: Slot = { id: -1, position: -1, ropeLength: -1, adapters: -1 };

export class FakeRuntime implements Runtime {
  readonly plan: Plan;
  readonly spec: ModelSpec;
  readonly draft: FakeRuntime | null;
  readonly rowsAtOnce: Runtime["rowsAtOnce"];
  /** Every batch so far, outputs included. */
  readonly steps: { readonly tokens: number; readonly entries: number }[] = [];
  /** Called before each step; may throw, or wait. */
  beforeStep: (batch: readonly BatchEntry[]) => void | Promise<void> = () => {};
  /** Changes logits before they are used, for instance to end an answer. */
  shape: (logits: Float32Array, position: number, ids: readonly number[]) => void = () => {};
  disposed = false;
  readonly #pools: (Slot | null)[][];
  #stepping = false;

  constructor(model: FakeModel = {}) {
    const { context = 512, cacheTokens = context, maxSequences = 1, prefillChunk = 64, windows = [null] } = model;
    const run: RunShape = { context, cacheTokens, cacheType: "f16", maxSequences, prefillChunk };
    this.spec = fakeSpec(model, windows);
    this.draft = model.draft ?? null;
    const { atOnce } = model;
    this.rowsAtOnce = atOnce === undefined ? undefined : (sequences) => Math.min(sequences, atOnce);
    const groups = cacheGroups(this.spec, run);
    this.plan = fakePlan(run, groups);
    this.#pools = groups.map((group) => new Array<Slot | null>(group.pages * PAGE_TOKENS).fill(null));
  }

  async step(batch: readonly BatchEntry[]): Promise<Output[][]> {
    check(!this.#stepping, "steps run one at a time");
    check(!this.disposed, "the runtime is disposed");
    this.#stepping = true;
    try {
      this.#checkBatch(batch);
      await this.beforeStep(batch);
      this.steps.push({ entries: batch.length, tokens: batch.reduce((sum, { tokens }) => sum + tokens.length, 0) });
      for (const entry of batch) this.#write(entry);
      return batch.map((entry) => entry.outputs.map((output) => this.#answer(entry, output)));
    } finally {
      this.#stepping = false;
    }
  }

  async copyPages(copies: readonly PageCopy[]): Promise<void> {
    check(!this.#stepping, "pages are copied between steps");
    check(!this.disposed, "the runtime is disposed");
    for (const { group, from, to } of copies) {
      const pool = this.#pools[group];
      const { pages } = this.plan.cacheGroups[group] ?? { pages: 0 };
      check(pool !== undefined && [from, to].every((page) => page >= 0 && page < pages), "copied pages are in the pool");
      check(from !== to, "a page is not copied onto itself");
      for (let slot = 0; slot < PAGE_TOKENS; slot++) pool![to * PAGE_TOKENS + slot] = pool![from * PAGE_TOKENS + slot]!;
    }
  }

  async dispose(): Promise<void> {
    this.disposed = true;
  }

  /** Logits after `ids`, as they must be whatever pages and chunks they went through. */
  expectedLogits(ids: readonly number[], promptLength: number, uses?: readonly AdapterUse[]): Float32Array {
    const position = ids.length - 1;
    const adapters = adapterHash(uses);
    const seen = this.plan.cacheGroups.map(({ window }) =>
      ids
        .map((id, at) => ({
          id,
          position: at,
          ropeLength: this.#effectiveRope(at < promptLength ? promptLength : at + 1),
          adapters,
        }))
        .slice(firstSeen(window, position)),
    );
    return this.#logits(seen, position);
  }

  #checkBatch(batch: readonly BatchEntry[]): void {
    const { maxSequences, prefillChunk, context } = this.plan.run;
    const tokens = batch.reduce((sum, entry) => sum + entry.tokens.length, 0);
    check(batch.length > 0 && batch.length <= maxSequences, `${batch.length} entries, the plan allows ${maxSequences}`);
    check(tokens <= Math.max(prefillChunk, batch.length), `${tokens} tokens, the plan allows ${prefillChunk}`);
    const written = new Map<string, number>();
    for (const [index, entry] of batch.entries()) {
      const end = entry.start + entry.tokens.length;
      check(entry.tokens.length > 0, "an entry feeds something");
      check(end <= context, `position ${end - 1} in a context of ${context}`);
      check(
        entry.tokens.every((id) => id >= 0 && id < this.spec.vocabSize),
        "ids are in the vocabulary",
      );
      check(
        entry.outputs.every((output) => output.index >= 0 && output.index < entry.tokens.length),
        "outputs are fed",
      );
      const fault = adapterFault(entry.adapters ?? [], this.spec.adapters?.length ?? 0);
      check(fault === null, fault ?? "");
      check(entry.pages.length === this.plan.cacheGroups.length, "one page table for each group");
      for (const [g, table] of entry.pages.entries()) {
        const group = this.plan.cacheGroups[g]!;
        const [least, most] = [end, end + 1].map((length) => Math.ceil(length / PAGE_TOKENS)) as [number, number];
        check(table.length === least || table.length === most, "the table reaches to the last token, or the one behind it");
        const held = [...table].filter((page) => page >= 0);
        check(held.length <= group.pagesPerSequence, `${held.length} pages held, the plan allows ${group.pagesPerSequence}`);
        check(held.every((page) => page < group.pages) && new Set(held).size === held.length, "pages are in the pool, each once");
        for (let page = Math.floor(entry.start / PAGE_TOKENS); page < table.length; page++) {
          const key = `${g}:${table[page]}`;
          check(!written.has(key), `entries ${written.get(key)} and ${index} write into page ${key}`);
          written.set(key, index);
        }
      }
    }
  }

  #write({ tokens, start, pages, ropeLength, adapters: uses }: BatchEntry): void {
    const adapters = adapterHash(uses);
    for (const [g, table] of pages.entries()) {
      for (const [i, id] of tokens.entries()) {
        const position = start + i;
        const place = placeOf(table, position);
        if (place < 0) throw broken(`position ${position} is written to a page of group ${g}`);
        this.#pools[g]![place] = { id, position, ropeLength: this.#effectiveRope(ropeLength), adapters };
      }
    }
  }

  #answer(entry: BatchEntry, wanted: OutputRequest): Output {
    const position = entry.start + wanted.index;
    const seen = entry.pages.map((table, group) => this.#seen(group, table, position));
    const logits = this.#logits(seen, position);
    const sampled = wanted.sample ? sample(logits, wanted.sample) : null;
    return {
      id: sampled?.id ?? null,
      logprob: sampled?.logprob ?? null,
      targetLogprob: wanted.target === null ? null : logSoftmaxAt(logits, wanted.target),
      top: topLogprobs(logits, wanted.topLogprobs),
      logits: wanted.logits ? logits : null,
      hidden: wanted.hidden ? this.#hidden(logits) : null,
    };
  }

  /** What the token at `position` sees in a group's pages. */
  #seen(group: number, table: Int32Array, position: number): Slot[] {
    const pool = this.#pools[group]!;
    const slots: Slot[] = [];
    for (let at = firstSeen(this.plan.cacheGroups[group]!.window, position); at <= position; at++) {
      const place = placeOf(table, at);
      slots.push((place < 0 ? null : pool[place]) ?? NOTHING);
    }
    return slots;
  }

  /** The hidden state that goes with these logits. */
  #hidden(logits: Float32Array): Float32Array {
    return Float32Array.from({ length: this.spec.hiddenSize }, (_, i) => logits[i]!);
  }

  #logits(seen: readonly (readonly Slot[])[], position: number): Float32Array {
    let hash = 0x811c9dc5;
    for (const [group, slots] of seen.entries()) {
      for (const slot of slots) {
        hash = mix(mix(mix(hash, group), slot.id), slot.position);
        hash = mix(mix(hash, slot.ropeLength), slot.adapters);
      }
    }
    const logits = new Float32Array(this.spec.vocabSize);
    for (let id = 0; id < logits.length; id++) logits[id] = (mix(hash, id) >>> 0) / 2 ** 29 - 4;
    this.shape(
      logits,
      position,
      seen[0]!.map(({ id }) => id),
    );
    return logits;
  }

  /** KV depends on the sequence's length with dynamic RoPE beyond the original context only. */
  #effectiveRope(ropeLength: number): number {
    const { rope } = this.spec;
    return rope.kind === "dynamic" && ropeLength > rope.originalContext ? ropeLength : 0;
  }
}

function firstSeen(window: number | null, position: number): number {
  return window === null ? 0 : Math.max(0, position - window + 1);
}

/** Index in the group's pool; −1: no page is there. */
function placeOf(table: Int32Array, position: number): number {
  const page = table[Math.floor(position / PAGE_TOKENS)] ?? -1;
  return page < 0 ? -1 : page * PAGE_TOKENS + (position % PAGE_TOKENS);
}

function adapterHash(uses: readonly AdapterUse[] = []): number {
  return uses.reduce((hash, { index, weight }) => mix(mix(hash, index + 1), Math.round(weight * 1024)), 0);
}

function mix(hash: number, value: number): number {
  let mixed = Math.imul(hash ^ value, 0x9e3779b1);
  mixed ^= mixed >>> 15;
  mixed = Math.imul(mixed, 0x85ebca77);
  return mixed ^ (mixed >>> 13);
}

function check(holds: boolean, rule: string): void {
  if (!holds) throw broken(rule);
}

function broken(rule: string): Error {
  return new Error(`broken contract: ${rule}`);
}

function fakeSpec(model: FakeModel, windows: readonly (number | null)[]): ModelSpec {
  const { vocabSize = 40, rope = { kind: "default", theta: 10000 }, bosId = null, eosIds = [] } = model;
  const linear = (name: string) => ({ name, in: 8, out: 8, bias: false, format: { kind: "plain", dtype: "f32" } }) as const;
  const norm = (tensor: string) => ({ tensor, size: 8, eps: 1e-5 });
  return {
    architecture: "fake",
    ...(model.adapters ? { adapters: model.adapters.map((name) => ({ name, layers: [] })) } : {}),
    vocabSize,
    hiddenSize: 8,
    layers: windows.map((window, index) => ({
      index,
      inputNorm: norm(`${index}.in`),
      attention: {
        heads: 1,
        kvHeads: 1,
        headDim: 8,
        window,
        q: linear(`${index}.q`),
        k: linear(`${index}.k`),
        v: linear(`${index}.v`),
        o: linear(`${index}.o`),
        qNorm: null,
        kNorm: null,
      },
      postAttentionNorm: norm(`${index}.post`),
      mlp: { kind: "gated", gate: linear(`${index}.gate`), up: linear(`${index}.up`), down: linear(`${index}.down`) },
    })),
    embedding: { tensor: "embed", dtype: "f32" },
    finalNorm: norm("norm"),
    head: linear("head"),
    tiedEmbeddings: false,
    rope,
    contextLimit: null,
    bosId,
    eosIds,
    planOnly: null,
  };
}

function fakePlan(run: RunShape, groups: readonly CacheGroup[]): Plan {
  return {
    ok: true,
    packing: "fake",
    splitMode: "even",
    run,
    context: run.context,
    largestContext: { f16: run.context, q8: run.context, q4: run.context },
    devices: [],
    cacheGroups: groups,
    binding: "nothing",
    notes: [],
  };
}
