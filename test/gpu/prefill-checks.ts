// The kernels of whole prompts and of long contexts by themselves: against their references on awkward
// shapes, the same bits from every tile and grid, then their speed. Runs on a machine with a GPU:
// `node dist/gpu/prefill-checks.js [check|gemm|slabs|attention …]`.

import {
  type AttentionLaunch,
  type AttentionShape,
  decodeLaunch,
  decodeSplits,
  PREFILL_ROWS,
  partialLayout,
  prefillLaunch,
} from "../../src/backend/cuda/attention-launch.js";
import { DeviceContext } from "../../src/backend/cuda/device-context.js";
import { CudaDriver } from "../../src/backend/cuda/driver/driver.js";
import { loadCuda } from "../../src/backend/cuda/driver/load.js";
import { type GemmCard, type GemmLaunch, gemmLaunch, gemmSlabRows, hasWgmma } from "../../src/backend/cuda/gemm-launch.js";
import type { KernelFamily } from "../../src/backend/cuda/kernel-modules.js";
import {
  ATTENTION,
  EXPAND,
  FILL,
  HALF_LINEAR,
  type ParameterValues,
  writeParameters,
} from "../../src/backend/cuda/kernel-parameters.js";
import { tileBytes } from "../../src/backend/cuda/quantized-layout.js";
import { gemmParameters } from "../../src/backend/cuda/tensor-map.js";

// CU_DEVICE_ATTRIBUTE_…
const MULTIPROCESSOR_COUNT = 16;
const CAPABILITY_MAJOR = 75;
const CAPABILITY_MINOR = 76;

type HalfLinear = ParameterValues<typeof HALF_LINEAR.fields>;

let failures = 0;
let card: GemmCard = { multiprocessors: 0, major: 0, minor: 0 };

function main(): void {
  const driver = new CudaDriver(loadCuda());
  driver.call("cuInit", [0]);
  const gpu = DeviceContext.open(driver, driver.i32("cuDeviceGet", [0]), "cuda:0");
  const attribute = (which: number) => driver.i32("cuDeviceGetAttribute", [which, 0]);
  card = {
    multiprocessors: attribute(MULTIPROCESSOR_COUNT),
    major: attribute(CAPABILITY_MAJOR),
    minor: attribute(CAPABILITY_MINOR),
  };
  const asked = process.argv.slice(2);
  const wanted = (name: string) => asked.length === 0 || asked.includes(name);
  if (wanted("check")) {
    checkGemm(gpu);
    checkAttention(gpu);
    console.log(failures === 0 ? "all kernels agree" : `${failures} checks FAILED`);
  }
  if (wanted("gemm")) timeGemm(gpu);
  if (wanted("slabs")) timeSlabs(gpu);
  if (wanted("attention")) timeAttention(gpu);
  gpu.close();
  process.exit(failures === 0 ? 0 : 1);
}

// Products ----------------------------------------------------------------------------------------

/** The launch that is chosen, and those that are not. */
function allGemms(m: number, n: number): GemmLaunch[] {
  const mma = gemmLaunch({ ...card, major: 8 }, { m, n });
  if (!hasWgmma(card)) return [mma];
  return [
    mma,
    ...[256, 128, 64].map((columns) => ({
      ...gemmLaunch(card, { m, n }),
      name: `linear_half_gemm_wgmma_n${columns}`,
      grid: [Math.min(card.multiprocessors, Math.ceil(m / 128) * Math.ceil(n / columns)), 1] as const,
      boxRows: columns,
    })),
  ];
}

function runGemm(gpu: DeviceContext, call: GemmLaunch, values: HalfLinear): void {
  launch(gpu, { family: "linear_half", ...call, parameters: gemmParameters(gpu.driver, call, values) });
}

function checkGemm(gpu: DeviceContext): void {
  const random = noise(5);
  for (const [m, n, k, f32, extras] of [
    [1, 40, 64, 1, 0],
    [7, 129, 136, 0, 1],
    [130, 200, 1032, 1, 1],
    [300, 72, 328, 0, 0],
    [257, 515, 712, 1, 1],
    [257, 520, 712, 0, 1],
    [1000, 777, 264, 0, 0],
    [2100, 1024, 192, 0, 0],
    [128, 256, 4096, 1, 0],
  ] as const) {
    const [ldx, ldy] = [k + 8 * extras, n + 3 * extras];
    const x = upload(
      gpu,
      Uint16Array.from({ length: m * ldx }, () => toHalf(random() * 2 - 1)),
    );
    const weights = upload(
      gpu,
      Uint16Array.from({ length: n * k }, () => toHalf(random() * 2 - 1)),
    );
    const bias = upload(
      gpu,
      Uint16Array.from({ length: n }, () => toHalf(random() * 2 - 1)),
    );
    const residual = upload(
      gpu,
      Float32Array.from({ length: m * ldy }, () => random()),
    );
    const bytes = m * ldy * (f32 ? 4 : 2);
    const y = gpu.allocate(bytes + 4);
    const values: HalfLinear = {
      weights,
      x,
      bias: extras ? bias : 0n,
      residual: extras ? residual : 0n,
      y,
      m,
      n,
      k,
      ldx,
      ldy,
      yIsF32: f32,
    };
    const read = () => {
      const words = download(gpu, y, Math.ceil(bytes / 4));
      return f32 ? words : Float32Array.from(new Uint16Array(words.buffer), fromHalf);
    };
    gpu.fill(y, 0, bytes);
    launch(gpu, {
      family: "linear_half",
      name: "linear_half_ref",
      grid: [Math.ceil(n / 256), m],
      block: 256,
      parameters: writeParameters(HALF_LINEAR, values),
    });
    const truth = Float64Array.from(read());
    let first: Float32Array | undefined;
    for (const call of allGemms(m, n))
      for (const grid of call.boxRows === null ? [call.grid] : [call.grid, [3, 1] as const]) {
        gpu.fill(y, 0xff, bytes);
        runGemm(gpu, { ...call, grid }, values);
        const got = read();
        const what = `${call.name} ${m}x${n}x${k} ${f32 ? "f32" : "f16"} on ${grid[0]}`;
        const inside = got.map((value, i) => (i % ldy < n ? value : 0));
        const wanted = truth.map((value, i) => (i % ldy < n ? value : 0));
        compare(what, inside, wanted, (f32 ? 1e-4 : 2e-2) * Math.sqrt(k / 64));
        if (got.some((value, i) => i % ldy >= n && !Number.isNaN(value))) fail(`${what}: wrote between rows`);
        if (call.boxRows === null) continue;
        if (first && inside.some((value, i) => value !== (first as Float32Array)[i])) fail(`${what}: other bits than the first`);
        first ??= inside;
      }
    for (const pointer of [x, weights, bias, residual, y]) gpu.free(pointer);
  }
}

function timeGemm(gpu: DeviceContext): void {
  for (const [what, m, n, k] of [
    ["q", 1920, 4096, 4096],
    ["qkv", 1920, 12288, 4096],
    ["gate-up", 1920, 22016, 4096],
    ["down", 1920, 4096, 11008],
    ["square", 8192, 8192, 8192],
    ["q", 512, 4096, 4096],
    ["q", 256, 4096, 4096],
    ["q", 128, 4096, 4096],
    ["q", 48, 4096, 4096],
  ] as const) {
    const [x, weights, y] = [gpu.allocate(m * k * 2), gpu.allocate(n * k * 2), gpu.allocate(m * n * 2)];
    fillRandom(gpu, x, m * k * 2, 1);
    fillRandom(gpu, weights, n * k * 2, 0.02);
    const values: HalfLinear = { weights, x, bias: 0n, residual: 0n, y, m, n, k, ldx: k, ldy: n, yIsF32: 0 };
    const chosen = gemmLaunch(card, { m, n }).name;
    const speeds = allGemms(m, n).map((call) => {
      const ms = timed(gpu, 10, () => runGemm(gpu, call, values));
      const short = call.name.replace("linear_half_gemm", "").replace("_wgmma_", "") || "mma";
      return `${call.name === chosen ? "*" : " "}${short} ${((2 * m * n * k) / ms / 1e9).toFixed(0)}`.padStart(11);
    });
    console.log(
      `gemm ${what.padEnd(8)} ${[m, n, k].map((size) => String(size).padStart(6)).join("")} TFLOP/s ${speeds.join("")}`,
    );
    for (const pointer of [x, weights, y]) gpu.free(pointer);
  }
}

/** A quantised linear of a whole prompt through slabs of expanded weights. */
function timeSlabs(gpu: DeviceContext): void {
  for (const [what, m, n, k] of [
    ["q", 1920, 4096, 4096],
    ["gate", 1920, 11008, 4096],
    ["down", 1920, 4096, 11008],
    ["q", 512, 4096, 4096],
  ] as const) {
    const quantized = (n / 16) * tileBytes(4, 128, k);
    const copies = Math.ceil(120e6 / quantized);
    const [x, weights, y, expanded] = [
      gpu.allocate(m * k * 2),
      gpu.allocate(quantized * copies),
      gpu.allocate(m * n * 2),
      gpu.allocate(n * k * 2),
    ];
    fillRandom(gpu, x, m * k * 2, 1);
    gpu.fill(weights, 0x2c, quantized * copies); // codes 2 and 12, scales of 0.065
    const expand = (from: bigint, rows: number) =>
      launch(gpu, {
        family: "linear_half",
        name: "expand_q4_g128",
        grid: [Math.ceil(k / 512), rows / 16],
        block: 256,
        parameters: writeParameters(EXPAND, {
          weights: from,
          expanded,
          firstTile: 0,
          tiles: rows / 16,
          k,
          ld: k,
          zeroOffset: 1,
          unused: 0,
        }),
      });
    const times = [24, 32, 48, 96].map((mebibytes) => {
      const most = Math.min(n, Math.floor((mebibytes * 2 ** 20) / (k * 2 * 16)) * 16);
      const slab = gemmSlabRows(card, { m, n, k }, most);
      const slabs = (i: number, run: (from: bigint, first: number, rows: number) => void) => {
        for (let first = 0; first < n; first += slab)
          run(weights + BigInt((i % copies) * quantized + (first / 16) * tileBytes(4, 128, k)), first, Math.min(slab, n - first));
      };
      const both = timed(gpu, 12, (i) =>
        slabs(i, (from, first, rows) => {
          expand(from, rows);
          const values = {
            weights: expanded,
            x,
            bias: 0n,
            residual: 0n,
            y: y + BigInt(first * 2),
            m,
            n: rows,
            k,
            ldx: k,
            ldy: n,
            yIsF32: 0,
          };
          runGemm(gpu, gemmLaunch(card, { m, n: rows }), values);
        }),
      );
      const alone = timed(gpu, 12, (i) => slabs(i, (from, _, rows) => expand(from, rows)));
      return `${mebibytes} MiB, ${slab} rows: ${(both * 1e3).toFixed(0)} us, ${(alone * 1e3).toFixed(0)} of them expand`;
    });
    console.log(`expanded ${what} ${m}x${n}x${k}  ${times.join("; ")}`);
    for (const pointer of [x, weights, y, expanded]) gpu.free(pointer);
  }
}

// Attention ---------------------------------------------------------------------------------------

function runAttention(gpu: DeviceContext, call: AttentionLaunch, parameters: Uint8Array): void {
  const grid: [number, number, number] = [...call.grid];
  launch(gpu, { family: "attention", name: call.name, grid, block: call.block, shared: call.shared, parameters });
}

/** The decode launch with another number of parts. */
function decodeIn(splits: number, shape: AttentionShape, rows: number): AttentionLaunch {
  const call = decodeLaunch(shape, rows);
  return { ...call, grid: [splits, call.grid[1], call.grid[2]] };
}

function checkAttention(gpu: DeviceContext): void {
  for (const dim of [8, 16, 64, 72, 80, 96, 128, 192, 256])
    for (const [heads, kvHeads, window, length] of [
      [4, 4, 0, 300],
      [8, 1, 0, 700],
      [6, 2, 100, 700],
      [6, 2, 20, 700],
      [36, 2, 0, 65],
      [2, 1, 0, 1],
    ] as const) {
      const random = noise(dim + heads);
      const [maxPages, pageCount, rows] = [3, 5, Math.min(length, 150)];
      const cacheSize = pageCount * kvHeads * 256 * dim;
      // What lies behind the end of a sequence must not matter, whatever it is.
      const lastPage = 4 * kvHeads * 256 * dim;
      const cache = () =>
        upload(
          gpu,
          Uint16Array.from({ length: cacheSize }, (_, i) => {
            const behind = length > 512 && i >= lastPage && Math.floor((i - lastPage) / dim) % 256 >= length - 512;
            return behind ? 0x7e00 : toHalf(random() * 2 - 1);
          }),
        );
      const [kCache, vCache] = [cache(), cache()];
      const q = upload(
        gpu,
        Uint16Array.from({ length: rows * heads * dim }, () => toHalf((random() * 2 - 1) * 2)),
      );
      const positions = upload(
        gpu,
        Int32Array.from({ length: rows }, (_, i) => length - rows + i),
      );
      const sequence = upload(gpu, new Int32Array(rows));
      const pages = upload(gpu, Int32Array.from([3, 0, 4]));
      const tiles: number[] = [];
      for (let row = 0; row < rows; row += PREFILL_ROWS) tiles.push(row, Math.min(PREFILL_ROWS, rows - row));
      const tilesIn = upload(gpu, Int32Array.from(tiles));
      const shape: AttentionShape = { heads, kvHeads, headDim: dim };
      const splits = 5;
      const { counters } = partialLayout(shape, rows);
      const partialBytes = rows * heads * splits * (dim + 2) * 4;
      const [y, scratch] = [gpu.allocate(rows * heads * dim * 2), gpu.allocate(counters + partialBytes)];
      const partial = scratch + BigInt(counters);
      gpu.fill(scratch, 0, counters);
      gpu.fill(partial, 0xff, partialBytes);
      const parameters = writeParameters(ATTENTION, {
        q,
        kCache,
        vCache,
        y,
        partial,
        positions,
        sequence,
        pages,
        tiles: tilesIn,
        heads,
        kvHeads,
        dim,
        maxPages,
        window,
        splits,
        scale: Math.LOG2E / Math.sqrt(dim),
        unused: 0,
      });
      const read = () => Float32Array.from(new Uint16Array(download(gpu, y, (rows * heads * dim) / 2).buffer), fromHalf);
      const what = `dim ${dim} heads ${heads}/${kvHeads} window ${window} length ${length}`;
      launch(gpu, { family: "attention", name: "attention_ref", grid: [heads, rows], block: 128, parameters });
      const truth = Float64Array.from(read());
      const check = (name: string, run: () => void) => {
        gpu.fill(y, 0xff, rows * heads * dim * 2);
        run();
        const first = read();
        compare(`attention ${name} ${what}`, first, truth, 3e-3);
        run();
        if (read().some((value, i) => value !== first[i])) fail(`attention ${name} ${what}: a repeat gave other bits`);
        const graph = captured(gpu, 3, run);
        gpu.fill(y, 0xff, rows * heads * dim * 2);
        gpu.launchGraph(graph);
        if (read().some((value, i) => value !== first[i]))
          fail(`attention ${name} ${what}: overlapping launches gave other bits`);
      };
      check("prefill", () => runAttention(gpu, prefillLaunch(shape, tiles.length / 2), parameters));
      check("decode", () => runAttention(gpu, decodeIn(splits, shape, rows), parameters));
      for (const pointer of [kCache, vCache, q, positions, sequence, pages, tilesIn, y, scratch]) gpu.free(pointer);
    }
}

function timeAttention(gpu: DeviceContext): void {
  for (const [heads, kvHeads, dim, length] of [
    [32, 32, 128, 2048],
    [32, 32, 128, 8192],
    [32, 8, 128, 2048],
    [32, 8, 128, 8192],
    [32, 32, 64, 4096],
    [32, 32, 80, 4096],
    [32, 32, 96, 4096],
  ] as const) {
    const pages = length / 256;
    const cacheBytes = pages * kvHeads * 256 * dim * 2;
    const layers = Math.max(4, Math.ceil(200e6 / cacheBytes));
    const [kCache, vCache] = [gpu.allocate(cacheBytes * layers), gpu.allocate(cacheBytes * layers)];
    fillRandom(gpu, kCache, cacheBytes * layers, 1);
    fillRandom(gpu, vCache, cacheBytes * layers, 1);
    const table = upload(
      gpu,
      Int32Array.from({ length: pages }, (_, i) => i),
    );
    const rows = 2048;
    const shape: AttentionShape = { heads, kvHeads, headDim: dim };
    const { counters } = partialLayout(shape, 1);
    const [q, y, scratch] = [
      gpu.allocate(rows * heads * dim * 2),
      gpu.allocate(rows * heads * dim * 2),
      gpu.allocate(counters + heads * 64 * (dim + 2) * 4),
    ];
    const partial = scratch + BigInt(counters);
    gpu.fill(scratch, 0, counters);
    fillRandom(gpu, q, rows * heads * dim * 2, 1);
    const [last, sequence] = [upload(gpu, Int32Array.from([length - 1])), upload(gpu, new Int32Array(rows))];
    const at = (layer: number, positions: bigint, tiles: bigint, splits: number) =>
      writeParameters(ATTENTION, {
        q,
        kCache: kCache + BigInt(layer * cacheBytes),
        vCache: vCache + BigInt(layer * cacheBytes),
        y,
        partial,
        positions,
        sequence,
        pages: table,
        tiles,
        heads,
        kvHeads,
        dim,
        maxPages: pages,
        window: 0,
        splits,
        scale: Math.LOG2E / Math.sqrt(dim),
        unused: 0,
      });
    const speeds = [4, 6, 8, 12, 16, 24, 32, 48]
      .filter((splits) => splits * kvHeads >= 128 && splits * kvHeads <= 800)
      .map((splits) => {
        const ms = timed(gpu, layers, (i) => runAttention(gpu, decodeIn(splits, shape, 1), at(i, last, 0n, splits)));
        return `${splits === decodeSplits(shape, 1) ? "*" : ""}${splits}: ${(ms * 1e3).toFixed(1)} us ${((2 * cacheBytes) / ms / 1e6).toFixed(0)} GB/s`;
      });
    console.log(`decode ${heads}/${kvHeads}x${dim} at ${length}, splits ${speeds.join("; ")}`);
    const positions = upload(
      gpu,
      Int32Array.from({ length: rows }, (_, i) => length - rows + i),
    );
    const spans = Array.from({ length: rows / PREFILL_ROWS }, (_, i) => [i * PREFILL_ROWS, PREFILL_ROWS]).flat();
    const tiles = upload(gpu, Int32Array.from(spans));
    const call = prefillLaunch(shape, rows / PREFILL_ROWS);
    const prefill = timed(gpu, 4, (i) => runAttention(gpu, call, at(i % layers, positions, tiles, 1)));
    const flops = 4 * heads * dim * rows * (length - rows / 2);
    console.log(
      `prefill ${heads}/${kvHeads}x${dim}, ${rows} rows at ${length}: ${prefill.toFixed(3)} ms, ${(flops / prefill / 1e9).toFixed(0)} TFLOP/s`,
    );
    for (const pointer of [kCache, vCache, table, q, y, scratch, last, sequence, positions, tiles]) gpu.free(pointer);
  }
}

// The card ----------------------------------------------------------------------------------------

interface Launched {
  readonly family: KernelFamily;
  readonly name: string;
  readonly grid: readonly [number, number?, number?];
  readonly block: number;
  readonly parameters: Uint8Array;
  readonly shared?: number;
}

let overlap = false;

function launch(gpu: DeviceContext, { family, name, grid, block, parameters, shared = 0 }: Launched): void {
  const kernel = gpu.kernels.get(family, name, shared);
  gpu.launcher.launch(gpu.stream, { kernel, name, grid, block, parameters, shared, overlap });
}

/** A graph of calls whose kernels may overlap, as the engine captures them. */
function captured(gpu: DeviceContext, calls: number, run: (call: number) => void): bigint {
  run(0); // loads the kernel, which a capture cannot
  overlap = true;
  try {
    return gpu.capture(() => {
      for (let call = 0; call < calls; call++) run(call);
    });
  } finally {
    overlap = false;
  }
}

/** Milliseconds per call, median of five replays of a graph of them. */
function timed(gpu: DeviceContext, calls: number, run: (call: number) => void): number {
  const { driver, stream } = gpu;
  const graph = captured(gpu, calls, run);
  const [begin, end] = [driver.u64("cuEventCreate", [0]), driver.u64("cuEventCreate", [0])];
  const rounds: number[] = [];
  for (let round = 0; round < 7; round++) {
    driver.call("cuEventRecord", [begin, stream]);
    gpu.launchGraph(graph);
    driver.call("cuEventRecord", [end, stream]);
    gpu.synchronize();
    const ms = new Float32Array(1);
    driver.call("cuEventElapsedTime_v2", [ms, begin, end]);
    if (round > 1) rounds.push((ms[0] as number) / calls);
  }
  return rounds.sort((a, b) => a - b)[2] as number;
}

function fillRandom(gpu: DeviceContext, to: bigint, bytes: number, scale: number): void {
  launch(gpu, {
    family: "pointwise",
    name: "fill_random",
    grid: [1024],
    block: 256,
    parameters: writeParameters(FILL, { to, words: BigInt(bytes / 4), seed: to, asHalf: 1, scale }),
  });
}

function upload(gpu: DeviceContext, data: NodeJS.ArrayBufferView): bigint {
  const pointer = gpu.allocate(data.byteLength);
  gpu.copyIn(pointer, data);
  gpu.synchronize();
  return pointer;
}

function download(gpu: DeviceContext, from: bigint, count: number): Float32Array<ArrayBuffer> {
  const data = new Float32Array(count);
  gpu.copyOut(data, from);
  gpu.synchronize();
  return data;
}

function compare(what: string, got: Float32Array, truth: Float64Array, tolerance: number): void {
  let worst = 0;
  got.forEach((value, i) => {
    const error = Math.abs(value - (truth[i] as number));
    if (!(error <= worst)) worst = error; // so that NaN ends up in it
  });
  if (!(worst <= tolerance)) fail(`${what}: off by ${worst}, allowed ${tolerance}`);
}

function fail(message: string): void {
  failures++;
  if (failures < 40) console.log(`FAILED ${message}`);
}

/** Numerical Recipes' linear congruential generator: repeatable, good enough for test data. */
function noise(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return (state >>> 8) / 2 ** 24;
  };
}

const bitsView = new DataView(new ArrayBuffer(4));

function toHalf(value: number): number {
  bitsView.setFloat32(0, value);
  const bits = bitsView.getUint32(0);
  const sign = (bits >>> 16) & 0x8000;
  if (Math.abs(value) < 2 ** -14) return sign | Math.round(Math.abs(value) * 2 ** 24);
  const rounded = bits + 0xfff + ((bits >>> 13) & 1);
  return sign | ((((rounded >>> 23) & 0xff) - 112) << 10) | ((rounded >>> 13) & 0x3ff);
}

function fromHalf(bits: number): number {
  const exponent = (bits >>> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 31) return NaN;
  const magnitude = exponent === 0 ? fraction * 2 ** -24 : (1 + fraction / 1024) * 2 ** (exponent - 15);
  return bits & 0x8000 ? -magnitude : magnitude;
}

main();
