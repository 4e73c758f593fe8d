// What the host and its compute threads say to each other. Messages serve loading only; once a
// worker serves steps it listens to the control words, and speaks only when a step is done
// (the first worker) or when it breaks.

import type { RunShape } from "../../memory/packing.js";
import type { StageLayout } from "../../memory/plan.js";
import type { GptqFormat, ModelSpec } from "../../model/spec.js";
import type { KernelModules } from "./kernels.js";
import type { PackedFacts } from "./quantized-linear.js";
import type { PackCommand } from "./quantized-packer.js";

/** Given to every worker when it starts. */
export interface WorkerStart {
  readonly index: number;
  readonly threads: number;
  readonly modules: KernelModules;
  /** One per arena. */
  readonly memories: readonly WebAssembly.Memory[];
  readonly spec: ModelSpec;
  readonly run: RunShape;
  readonly stage: StageLayout;
  readonly windows: readonly (number | null)[];
  readonly exact: boolean;
}

/** A piece of loading that all workers do together, each its share. Offsets are bytes into the arena. */
export type LoadJob =
  /** Rows of plain values → f32. */
  | { kind: "widen"; arena: number; from: number; to: number; count: number; value: number }
  /** Input rows firstRow … firstRow + rows − 1 of a GPTQ linear → columns of f32 `[out, in]` at `to`. */
  | {
      kind: "dequantize";
      arena: number;
      format: GptqFormat;
      in: number;
      out: number;
      firstRow: number;
      rows: number;
      slab: number;
      scales: number;
      zeros: number;
      /** −1: group = row / group size. */
      gIdx: number;
      to: number;
    }
  /** Tiles tileFrom … tileTo − 1 of a quantised linear; answers with the lowest status that is not 0, or −1. */
  | { kind: "pack"; arena: number; command: PackCommand; tileFrom: number; tileTo: number }
  /** Looks for infinities and NaN; answers with the lowest index or −1. */
  | { kind: "check"; arena: number; at: number; count: number; value: number };

/** What loading found in the quantised linears, by the name of their regions. */
export type LinearFacts = ReadonlyMap<string, PackedFacts>;

export type ToWorker =
  | { kind: "job"; job: LoadJob }
  /** Loading is over: serve steps until the `end` command. */
  | { kind: "serve"; facts: LinearFacts };

export type FromWorker =
  | { kind: "ready" }
  | { kind: "jobDone"; result: number }
  | { kind: "stepDone" }
  | { kind: "failed"; message: string; stack: string | undefined };
