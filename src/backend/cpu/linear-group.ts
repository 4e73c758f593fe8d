// Linears that read the same x: q, k and v; gate and up. Their inputs are prepared together
// (once, where they quantise alike), and their tiles can be claimed as one row of items.

import type { LinearKernel } from "./linear-kernel.js";

export class LinearGroup {
  readonly linears: readonly LinearKernel[];
  /** Whether prepare() does anything. */
  readonly prepares: boolean;
  /** Inputs of a row can be prepared by themselves in multiples of so many; `null`: not at all. */
  readonly unit: number | null;
  /** Of all linears. */
  readonly tiles: number;
  /** Per linear: where its prepared input lies; meaningless where it reads x. */
  readonly #inputs: readonly number[];
  /** Per linear: whether it is the one that prepares this input. */
  readonly #first: readonly boolean[];

  /**
   * @param activations offset of `scratch.activations`
   * @param rows most rows of a step
   */
  constructor(linears: readonly LinearKernel[], activations: number, rows: number) {
    const places = new Map<string, number>();
    const inputs: number[] = [];
    const first: boolean[] = [];
    let end = activations;
    for (const linear of linears) {
      const key = linear.inputKey;
      const known = key === null ? 0 : places.get(key);
      first.push(known === undefined);
      inputs.push(known ?? end);
      if (key === null || known !== undefined) continue;
      places.set(key, end);
      end += Math.ceil(linear.inputBytes(rows) / 64) * 64;
    }
    this.linears = linears;
    this.tiles = linears.reduce((sum, { tiles }) => sum + tiles, 0);
    this.prepares = first.includes(true);
    const units = linears.map(({ inputUnit }) => inputUnit);
    this.unit = units.includes(null) ? null : Math.max(...(units as number[]));
    this.#inputs = inputs;
    this.#first = first;
  }

  /** Prepares rows from … to − 1 of the m rows at x for every linear. */
  prepare(x: number, m: number, from: number, to: number): void {
    for (let i = 0; i < this.linears.length; i++) if (this.#first[i]) this.linears[i]!.quantize(x, m, this.#inputs[i]!, from, to);
  }

  /** The same for inputs from … to − 1 of one row; multiples of `unit`, or all there are. */
  prepareInputs(x: number, m: number, row: number, from: number, to: number): void {
    for (let i = 0; i < this.linears.length; i++)
      if (this.#first[i]) this.linears[i]!.quantizeInputs(x, m, this.#inputs[i]!, row, from, to);
  }

  /** Tiles from … to − 1, counted through all linears, each into its own output. */
  apply(x: number, m: number, outputs: readonly number[], from: number, to: number): void {
    for (let i = 0, first = 0; i < this.linears.length; i++) {
      const { tiles } = this.linears[i]!;
      const begin = Math.max(from, first);
      const end = Math.min(to, first + tiles);
      if (begin < end) this.#applyOne(i, x, m, outputs[i]!, begin - first, end - first);
      first += tiles;
    }
  }

  /** Where the weights from `tile` on, counted through all linears, lie: as far as its own linear goes. */
  weightsFrom(tile: number): { from: number; to: number } {
    let first = tile;
    for (const { tiles, weights, tileBytes } of this.linears) {
      if (first < tiles) return { from: weights + first * tileBytes, to: weights + tiles * tileBytes };
      first -= tiles;
    }
    return { from: 0, to: 0 };
  }

  #applyOne(i: number, x: number, m: number, y: number, from: number, to: number): void {
    const linear = this.linears[i]!;
    linear.apply(linear.inputKey === null ? x : this.#inputs[i]!, m, y, linear.out, from, to);
  }
}
