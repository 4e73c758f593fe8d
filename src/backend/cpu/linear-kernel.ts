// A linear as the step program runs it, whatever its weights look like: QuantizedLinear of
// quantized-linear.ts, or ExactLinear here.

import type { FloatKernels } from "./kernels.js";

export interface LinearKernel {
  /** Pieces of the output that can be claimed; a tile is 16 output rows. */
  readonly tiles: number;
  readonly out: number;
  /** Where the weights of a tile lie, and how many bytes they are; tiles lie one behind the other. */
  readonly weights: number;
  readonly tileBytes: number;
  /**
   * `null`: apply() reads x itself. Else quantize() makes its input from x, and linears with equal
   * keys that read the same x share the result.
   */
  readonly inputKey: string | null;
  /** Bytes of the quantised input of m rows. */
  inputBytes(m: number): number;
  /** Quantises rows rowFrom … rowTo − 1 of m. */
  quantize(x: number, m: number, activations: number, rowFrom: number, rowTo: number): void;
  /** Inputs of a row can be quantised by themselves in multiples of so many; `null`: not at all. */
  readonly inputUnit: number | null;
  /** Quantises inputs from … to − 1 (multiples of inputUnit, or all there are) of one row of m. */
  quantizeInputs(x: number, m: number, activations: number, row: number, from: number, to: number): void;
  /** y[m, ldy], columns of tiles tileFrom … tileTo − 1. `input`: the quantised one, or x where inputKey is null. */
  apply(input: number, m: number, y: number, ldy: number, tileFrom: number, tileTo: number): void;
}

/** Output rows of a tile. */
export const TILE_ROWS = 16;

/** f32 weights `[out, in]`, f32 inputs. */
export class ExactLinear implements LinearKernel {
  readonly inputKey = null;
  readonly inputUnit = 1;
  readonly tiles: number;
  readonly out: number;
  readonly weights: number;
  readonly tileBytes: number;
  readonly #kernels: FloatKernels;
  readonly #place: { weights: number; bias: number };
  readonly #in: number;

  constructor(kernels: FloatKernels, size: { in: number; out: number }, place: { weights: number; bias: number }) {
    this.#kernels = kernels;
    this.#place = place;
    this.#in = size.in;
    this.out = size.out;
    this.weights = place.weights;
    this.tileBytes = size.in * TILE_ROWS * 4;
    this.tiles = Math.ceil(size.out / TILE_ROWS);
  }

  inputBytes(): number {
    return 0;
  }

  quantize(): void {}

  quantizeInputs(): void {}

  apply(x: number, m: number, y: number, ldy: number, tileFrom: number, tileTo: number): void {
    const { weights, bias } = this.#place;
    const to = Math.min(tileTo * TILE_ROWS, this.out);
    this.#kernels.f32_linear(weights, bias, x, m, this.#in, y, ldy, tileFrom * TILE_ROWS, to);
  }
}
