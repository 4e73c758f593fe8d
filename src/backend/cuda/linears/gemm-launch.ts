// How fp16 products of many tokens (kernels/linear_half.cu) are launched: which kernel for which card
// and shape, how many blocks, and how large a slab of expanded weights is multiplied at once.
// Pure arithmetic. Whatever is chosen, a card gives the same bits: only the size of tiles differs.

/** Of a card: CU_DEVICE_ATTRIBUTE_… */
export interface GemmCard {
  readonly multiprocessors: number;
  /** Compute capability. */
  readonly major: number;
  readonly minor: number;
}

/** y[m, n] = x[m, k] w[n, k]ᵀ */
export interface GemmShape {
  readonly m: number;
  readonly n: number;
  readonly k: number;
}

export interface GemmLaunch {
  readonly name: string;
  readonly grid: readonly [x: number, y: number];
  readonly block: number;
  /** Dynamic shared memory, bytes. */
  readonly shared: number;
  /** Rows of w in a box of its tensor map where the kernel takes TensorLinearParams, see tensor-map.ts; else null. */
  readonly boxRows: number | null;
}

/** Tokens of a tile. */
const TILE_ROWS = 128;
const MMA_COLUMNS = 128;
const MMA_SHARED = 65536;
const WGMMA_SHARED = 214272;
/** Relative times of one step of k by the width of the tile, as measured on an H100 (bench/NOTES.md). */
const WGMMA_COSTS = [
  { columns: 256, cost: 100 },
  { columns: 128, cost: 62 },
  { columns: 64, cost: 48 },
] as const;
/** Time of a launch by itself, in the same unit for 4096 k: filling the ring, the last results. */
const RAMP = 15;
const RAMP_INPUTS = 4096;

/** Hopper's own instructions are in the image for 9.0 alone. */
export function hasWgmma({ major, minor }: Pick<GemmCard, "major" | "minor">): boolean {
  return major === 9 && minor === 0;
}

export function gemmLaunch(card: GemmCard, { m, n }: Pick<GemmShape, "m" | "n">): GemmLaunch {
  if (!hasWgmma(card)) {
    const grid = [Math.ceil(n / MMA_COLUMNS), Math.ceil(m / TILE_ROWS)] as const;
    return { name: "linear_half_gemm", grid, block: 256, shared: MMA_SHARED, boxRows: null };
  }
  const { columns } = wgmmaTile(card, m, n);
  const tiles = Math.ceil(m / TILE_ROWS) * Math.ceil(n / columns);
  return {
    name: `linear_half_gemm_wgmma_n${columns}`,
    grid: [Math.min(tiles, card.multiprocessors), 1],
    block: 384,
    shared: WGMMA_SHARED,
    boxRows: columns,
  };
}

/** The width that takes least time: wide tiles read least, narrow ones leave fewer multiprocessors idle at the end. */
function wgmmaTile({ multiprocessors }: GemmCard, m: number, n: number): { columns: number; time: number } {
  const times = WGMMA_COSTS.map(({ columns, cost }) => ({
    columns,
    time: cost * Math.ceil((Math.ceil(m / TILE_ROWS) * Math.ceil(n / columns)) / multiprocessors),
  }));
  return times.reduce((best, each) => (each.time < best.time ? each : best));
}

/**
 * Outputs of a slab, where a product of n outputs goes through a buffer of at most `most` of them: the
 * count that wastes least at the end of every slab.
 *
 * @param most a multiple of 16
 * @returns a multiple of 16, at most `most`
 */
export function gemmSlabRows(card: GemmCard, { m, n, k }: GemmShape, most: number): number {
  if (n <= most) return most;
  const ramp = (RAMP * RAMP_INPUTS) / k;
  const time = (rows: number) =>
    hasWgmma(card)
      ? wgmmaTile(card, m, rows).time + ramp
      : Math.ceil((Math.ceil(m / TILE_ROWS) * Math.ceil(rows / MMA_COLUMNS)) / (2 * card.multiprocessors)) * 100 + ramp;
  let best = { rows: most, total: Number.POSITIVE_INFINITY };
  for (let rows = most - (most % MMA_COLUMNS); rows >= MMA_COLUMNS; rows -= MMA_COLUMNS) {
    const rest = n % rows;
    const total = Math.floor(n / rows) * time(rows) + (rest > 0 ? time(rest) : 0);
    if (total < best.total) best = { rows, total };
  }
  return best.rows;
}
