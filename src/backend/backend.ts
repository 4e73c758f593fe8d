// What a backend is. `generate/` speaks only to this; the conformance suite keeps the
// implementations equal. A step is a pure function of its batch and of the KV pages that
// the batch names: the backend keeps no sequence, no history and no random state.

import type { Checkpoint } from "../checkpoint/checkpoint.js";
import type { Packing } from "../memory/packing.js";
import type { Plan, PlanDevice } from "../memory/plan.js";
import type { AdapterUse } from "../model/adapter.js";
import type { ModelSpec } from "../model/spec.js";
import type { SampleRequest } from "../sampling/parameters.js";
import type { AdapterSource } from "./adapters.js";

/** What is wanted of one position of a batch entry. */
export interface OutputRequest {
  /** Index into the entry's tokens. */
  readonly index: number;
  /** Choose the token that follows. */
  readonly sample: SampleRequest | null;
  /** Log-probability of this id as the token that follows (from the plain logits), or `null`. */
  readonly target: number | null;
  /** So many most likely ids with their log-probabilities (from the plain logits). */
  readonly topLogprobs: number;
  /** The logits themselves, `[vocab]` f32, before any sampler. */
  readonly logits: boolean;
  /** The final hidden state after the last norm, `[hidden]` f32. */
  readonly hidden: boolean;
}

/** One sequence's part of a step. */
export interface BatchEntry {
  /** Ids to feed, at positions start … start + tokens.length − 1. */
  readonly tokens: Int32Array;
  readonly start: number;
  /** Sequence length for which dynamic RoPE is computed: the prompt's while prefilling, start + 1 while decoding. */
  readonly ropeLength: number;
  /**
   * For each cache group of the plan, the physical page of every logical page (position / 256)
   * up to the last token of this step, and one more where it is known already; −1 where a sliding
   * window has dropped it.
   */
  readonly pages: readonly Int32Array[];
  readonly outputs: readonly OutputRequest[];
  /** Of the model's adapters, those that take part, each once, in any order; missing or empty: the model itself. */
  readonly adapters?: readonly AdapterUse[];
}

export interface TokenLogprob {
  readonly id: number;
  readonly logprob: number;
}

/** The answer to one OutputRequest; what was not asked is `null` (or empty). */
export interface Output {
  readonly id: number | null;
  /** Log-probability of `id` under the plain logits, whenever `sample` was asked. */
  readonly logprob: number | null;
  readonly targetLogprob: number | null;
  readonly top: readonly TokenLogprob[];
  readonly logits: Float32Array | null;
  readonly hidden: Float32Array | null;
}

/** A whole KV page, of every layer of a cache group, to be copied over another. */
export interface PageCopy {
  /** Index of the plan's cache group. */
  readonly group: number;
  /** Physical pages. */
  readonly from: number;
  readonly to: number;
}

/** A loaded model. Steps run one at a time. */
export interface Runtime {
  readonly plan: Plan;
  readonly spec: ModelSpec;
  /** The draft model that was loaded with it, on pages of its own; given back with it. */
  readonly draft: Runtime | null;
  /**
   * Of so many sequences that decode one token each, how many a step should take so that all of them get on fastest: kernels
   * are made for so many rows, and one row more may cost much. Missing: all of them.
   */
  readonly rowsAtOnce?: ((sequences: number) => number) | undefined;
  /**
   * Runs one step: at most `plan.run.maxSequences` entries, at most `plan.run.prefillChunk`
   * tokens or one token for each entry, whichever is more.
   *
   * @returns per entry, per requested output
   */
  step(batch: readonly BatchEntry[]): Promise<Output[][]>;
  /** Copies KV pages, in the order given, between steps: later steps find the copies. */
  copyPages(copies: readonly PageCopy[]): Promise<void>;
  /** Gives everything back. Idempotent; a step in flight is waited for. */
  dispose(): Promise<void>;
}

export interface LoadProgress {
  /** Bytes of weights in place, of how many. */
  readonly loadedBytes: number;
  readonly totalBytes: number;
}

export interface LoadRequest {
  readonly plan: Plan;
  readonly spec: ModelSpec;
  readonly checkpoint: Checkpoint;
  /** What `spec.adapters` describes, in the same order. */
  readonly adapters?: readonly AdapterSource[];
  /** The draft model, where the plan holds one. */
  readonly draft?: { readonly spec: ModelSpec; readonly checkpoint: Checkpoint };
  readonly signal?: AbortSignal;
  readonly onProgress?: (progress: LoadProgress) => void;
}

export interface Backend {
  readonly name: "cpu" | "cuda";
  readonly packing: Packing;
  /** Devices that can be planned on now. */
  devices(): PlanDevice[];
  /** Allocates what the plan says, streams the weights in, gives all back if anything fails. */
  load(request: LoadRequest): Promise<Runtime>;
}
