// The adapters of linears that read the same x. A step that uses adapters computes t = weight · A x
// for each row in a phase of its own, and adds B t to a tile of the outputs when the tile has
// just been computed. Rows belong to entries, and each entry says which adapters it wants.

import type { LinearSpec } from "../../model/spec.js";
import type { AdapterKernels } from "./kernels.js";
import { TILE_ROWS } from "./linear-kernel.js";
import type { Step } from "./step.js";

/** Ranks that one piece of the first phase computes. */
const PIECE = 8;

export interface AdaptedLinear {
  readonly spec: LinearSpec;
  /** Byte offsets of A and B; meaningless where no adapter changes this linear. */
  readonly a: number;
  readonly b: number;
  /** What A and B are multiplied by, per adapter. */
  readonly units: ArrayLike<number>;
}

/** One adapter on one linear. */
interface Pair {
  readonly adapter: number;
  readonly rank: number;
  readonly unit: number;
  /** First of its ranks among the linear's, and among the group's. */
  readonly first: number;
  readonly at: number;
}

interface Part extends AdaptedLinear {
  readonly pairs: readonly Pair[];
  readonly total: number;
}

export class AdapterGroup {
  /** Items of the first phase per row, where rows are few. */
  readonly pieces: number;
  readonly #kernels: AdapterKernels;
  readonly #half: number;
  readonly #parts: readonly Part[];
  /** Values of t per row. */
  readonly #width: number;
  readonly #t: number;

  /**
   * @param t offset of `scratch.adapters`, f32 [rows, total rank of the group]
   * @param half factors are f16, else f32
   */
  constructor(kernels: AdapterKernels, linears: readonly AdaptedLinear[], t: number, half: boolean) {
    let width = 0;
    this.#parts = linears.map((linear) => {
      const begin = width;
      const pairs = (linear.spec.adapterRanks ?? []).map((rank, adapter): Pair => {
        const at = width;
        width += rank;
        return { adapter, rank, unit: linear.units[adapter]!, first: at - begin, at };
      });
      return { ...linear, pairs: pairs.filter(({ rank }) => rank > 0), total: width - begin };
    });
    this.#kernels = kernels;
    this.#half = half ? 1 : 0;
    this.#width = width;
    this.#t = t;
    this.pieces = Math.max(1, Math.ceil(width / PIECE));
  }

  /** A group without any adapter does nothing. */
  get empty(): boolean {
    return this.#width === 0;
  }

  /** t of one row: every `of`-th piece of it, from `piece` on. */
  shrink(step: Step, row: number, x: number, piece: number, of: number): void {
    const entry = step.entryOf(row);
    const half = this.#half;
    let next = 0;
    for (const { spec, a, pairs } of this.#parts) {
      const from = x + row * spec.in * 4;
      for (const { adapter, rank, unit, first, at } of pairs) {
        const weight = step.adapterWeight(entry, adapter) * unit;
        if (weight === 0) continue;
        for (let r = 0; r < rank; r += PIECE) {
          if (next++ % of !== piece) continue;
          const factor = a + (first + r) * spec.in * (half ? 2 : 4);
          const to = this.#t + (row * this.#width + at + r) * 4;
          this.#kernels.adapter_shrink(factor, from, spec.in, Math.min(PIECE, rank - r), weight, to, half);
        }
      }
    }
  }

  /** y += B t for tiles from … to − 1, counted through all linears, of every row; each linear has its own y. */
  expand(step: Step, outputs: readonly number[], from: number, to: number): void {
    for (let i = 0, first = 0; i < this.#parts.length; i++) {
      const tiles = Math.ceil(this.#parts[i]!.spec.out / TILE_ROWS);
      const begin = Math.max(from, first);
      const end = Math.min(to, first + tiles);
      if (begin < end) this.#expandOne(i, step, outputs[i]!, begin - first, end - first);
      first += tiles;
    }
  }

  /** The same for one of the linears. */
  #expandOne(i: number, step: Step, y: number, from: number, to: number): void {
    const { spec, b, pairs, total } = this.#parts[i]!;
    const half = this.#half;
    for (let row = 0; row < step.rows; row++) {
      const entry = step.entryOf(row);
      for (const { adapter, rank, first, at } of pairs) {
        if (step.adapterWeight(entry, adapter) === 0) continue;
        const factor = b + first * TILE_ROWS * (half ? 2 : 4);
        const t = this.#t + (row * this.#width + at) * 4;
        this.#kernels.adapter_expand(factor, total, rank, t, y + row * spec.out * 4, spec.out, from, to, half);
      }
    }
  }
}
