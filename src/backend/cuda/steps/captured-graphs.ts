// Decode steps that are captured once and replayed, a graph for each stage: for some numbers of
// rows, without and with adapters.

import type { RunShape } from "../../../memory/packing.js";
import type { ModelSpec } from "../../../model/spec.js";
import { capturedBytes } from "./captured-steps.js";
import type { StepShape } from "./forward.js";
import type { DecodeRows } from "./run-ahead.js";
import type { StepLauncher } from "./step-launcher.js";
import { decodeBuckets } from "./step-shape.js";

export class CapturedGraphs {
  readonly #launcher: StepLauncher;
  readonly #buckets: readonly number[];
  readonly #graphs = new Map<string, { readonly shape: StepShape; readonly graphs: readonly bigint[] }>();
  /** Every shape there may be. */
  readonly shapes: readonly StepShape[];
  /** Of each stage's share of the plan, bytes that are taken. */
  #taken: readonly number[];

  constructor(spec: ModelSpec, run: RunShape, launcher: StepLauncher) {
    this.#launcher = launcher;
    this.#buckets = decodeBuckets(run);
    this.#taken = launcher.stages.map(() => 0);
    const kinds = spec.adapters ? [false, true] : [false];
    this.shapes = kinds.flatMap((adapted) =>
      this.#buckets.map((rows) => ({ rows, decodeRows: rows, tiles: 0, entries: rows, outputs: rows, adapted })),
    );
  }

  /**
   * Captures a step, unless the driver would take more for it than the plan says.
   *
   * @returns false: such steps are to be launched kernel by kernel
   */
  capture(shape: StepShape): boolean {
    const { stages } = this.#launcher;
    const bytes = stages.map((_, i) => capturedBytes(this.#launcher.decodeCalls(i, shape).length));
    if (bytes.some((more, i) => this.#taken[i]! + more > stages[i]!.layout.captured)) return false;
    this.#taken = this.#taken.map((taken, i) => taken + bytes[i]!);
    const graphs = stages.map(({ context }, i) => context.use().capture(() => this.#launcher.decode(i, shape)));
    this.#graphs.set(keyOf(shape), { shape, graphs });
    return true;
  }

  /** The smallest captured step that holds such rows, or `null`. */
  bucketOf(rows: DecodeRows): number | null {
    let outputs = 0;
    for (const entry of rows) {
      if (!entry) continue;
      if (entry.tokens.length !== 1 || entry.outputs.length > 1) return null;
      outputs += entry.outputs.length;
    }
    if (outputs === 0) return null;
    const adapted = rows.some((entry) => (entry?.adapters?.length ?? 0) > 0);
    return this.#buckets.find((bucket) => bucket >= rows.length && this.#graphs.has(keyOf({ rows: bucket, adapted }))) ?? null;
  }

  replay(shape: StepShape): void {
    const { graphs } = this.#graphs.get(keyOf(shape))!;
    this.#launcher.layers(shape, (i) => this.#launcher.stages[i]!.context.launchGraph(graphs[i]!));
  }

  /** One stage's graph of a captured step. */
  graph(shape: StepShape, stage: number): bigint {
    return this.#graphs.get(keyOf(shape))!.graphs[stage]!;
  }
}

/** Captured decode steps differ in nothing else. */
function keyOf({ rows, adapted = false }: Pick<StepShape, "rows" | "adapted">): string {
  return `${rows}${adapted ? " with adapters" : ""}`;
}
