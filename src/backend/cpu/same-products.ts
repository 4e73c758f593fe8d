// Whether products compiled in an unusual way can be trusted: small random linears of every kind
// go through them and through the ordinary kernels, and every bit of every output must agree. Integers are
// exact and the few operations on floats are the same, so there is nothing to tolerate. Takes
// some milliseconds.

import type { GptqFormat, LinearSpec } from "../../model/spec.js";
import type { ProductKernels, QuantizedKernels } from "./quantized-kernels.js";
import {
  activationBytes,
  maySkipZeros,
  type QuantizedLayout,
  quantizedLayout,
  quantizedRegions,
  TILE_ROWS,
  withoutZeros,
} from "./quantized-layout.js";
import { QuantizedLinear } from "./quantized-linear.js";

/** Pages of 64 KiB that sameProducts() works in; the first is the kernels' own. */
export const CHECK_PAGES = 16;
const START = 65536;

/** For one token sixteen tiles side by side, eight, one alone and half of one; more tokens meet the last ones only. */
const OUT = 408;
const SOME_TILES = 3;
const IN = 384;

const FORMATS: readonly Pick<GptqFormat, "bits" | "groupSize" | "scaleDtype">[] = [
  { bits: 4, groupSize: 128, scaleDtype: "f16" },
  { bits: 4, groupSize: 64, scaleDtype: "f32" },
  { bits: 4, groupSize: 32, scaleDtype: "f16" },
  { bits: 8, groupSize: 128, scaleDtype: "f16" },
  { bits: 8, groupSize: 32, scaleDtype: "f32" },
];
/** One token, every remainder of pairs and fours, and more than a slot holds the sums of. */
const TOKENS: readonly number[] = [1, 2, 3, 4, 5, 39];

/**
 * Whether `products` give the same outputs as the linears of `kernels`; false, too, if they trap.
 *
 * @param memory at least CHECK_PAGES, which nobody else uses meanwhile
 */
export function sameProducts(products: ProductKernels, kernels: QuantizedKernels, memory: WebAssembly.Memory): boolean {
  try {
    return FORMATS.every((format) => sameLinear(format, { ...kernels, ...products }, kernels, memory));
  } catch {
    return false;
  }
}

function sameLinear(
  format: (typeof FORMATS)[number],
  joined: QuantizedKernels,
  kernels: QuantizedKernels,
  memory: WebAssembly.Memory,
): boolean {
  const gptq: GptqFormat = { kind: "gptq", zeros: "v1", gIdx: false, ...format };
  const spec: LinearSpec = { name: "check", in: IN, out: OUT, bias: true, format: gptq };
  const most = Math.max(...TOKENS);
  let end = START;
  const take = (bytes: number) => {
    const at = end;
    end = Math.ceil((end + bytes) / 64) * 64;
    return at;
  };
  const place = { weights: 0, permutation: 0, bias: 0 };
  for (const { name, bytes } of quantizedRegions(spec)) place[name] = take(bytes);
  const x = take(most * IN * 4);
  const activations = take(activationBytes(spec, most));
  const [y, wanted] = [take(most * OUT * 4), take(most * OUT * 4)];

  const random = randomNumbers();
  const bytes = new Uint8Array(memory.buffer, place.weights);
  fillFloats(new Float32Array(memory.buffer, place.bias, OUT), random);
  fillFloats(new Float32Array(memory.buffer, x, most * IN), random);
  for (const outputs of [y, wanted]) new Float32Array(memory.buffer, outputs, most * OUT).fill(0);
  // Read as if there were no zeros, the same bytes are other weights.
  const kinds = maySkipZeros(quantizedLayout(spec)) ? [false, true] : [false];
  return kinds.every((symmetric) => {
    fillWeights(symmetric ? withoutZeros(quantizedLayout(spec)) : quantizedLayout(spec), bytes, random);
    const facts = { form: "records", symmetric, segments: 0, tokenBytes: 0, permuted: false, digest: "" } as const;
    const [ours, theirs] = [joined, kernels].map((any) => new QuantizedLinear(any, memory, spec, place, facts));
    return TOKENS.every((m) => {
      theirs!.quantize(x, m, activations, 0, m);
      return [false, true].every((add) => {
        const { tiles } = ours!;
        const from = m === 1 ? 0 : tiles - SOME_TILES;
        ours!.apply(activations, m, y, OUT, from, tiles, add);
        theirs!.apply(activations, m, wanted, OUT, from, tiles, add);
        return sameColumns(
          new Int32Array(memory.buffer, y, m * OUT),
          new Int32Array(memory.buffer, wanted, m * OUT),
          from * TILE_ROWS,
        );
      });
    });
  });
}

/** Whether columns `from` and after of [m, OUT] are the same. */
function sameColumns(ours: Int32Array, theirs: Int32Array, from: number): boolean {
  for (let row = 0; row < ours.length; row += OUT)
    for (let i = row + from; i < row + OUT; i++) if (ours[i] !== theirs[i]) return false;
  return true;
}

/** Codes of any value; scales below 2, zeros that the format can have. After some tiles they repeat, for random numbers take time. */
function fillWeights(layout: QuantizedLayout, bytes: Uint8Array, random: () => number): void {
  const { tiles, tileBytes, blocks, recordBytes, scaleBytes, scaleType, codes } = layout;
  const zeros = codes === "nibbles" ? 17 : 256;
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  for (let record = 0; record < SOME_TILES * blocks * recordBytes; record += recordBytes) {
    for (let i = scaleBytes; i < recordBytes; i++) bytes[record + i] = random() * 256;
    for (let r = 0; r < TILE_ROWS; r++) {
      if (scaleType === "f16") view.setUint16(record + r * 2, (random() * 65536) & 0xbfff, true);
      else view.setFloat32(record + r * 4, random() - 0.5, true);
      const zero = TILE_ROWS * (scaleType === "f16" ? 2 : 4) + r;
      if (zero < scaleBytes) bytes[record + zero] = random() * zeros;
    }
  }
  for (let tile = SOME_TILES; tile < tiles; tile++)
    bytes.copyWithin(tile * tileBytes, (tile % SOME_TILES) * tileBytes, ((tile % SOME_TILES) + 1) * tileBytes);
}

function fillFloats(values: Float32Array, random: () => number): void {
  for (let i = 0; i < values.length; i++) values[i] = (random() - 0.5) * 10 ** (random() * 3);
}

/** Repeatable numbers in [0, 1). */
function randomNumbers(): () => number {
  let state = 1;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}
