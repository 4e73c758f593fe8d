// Every fused kernel against its plain reference kernel and against arithmetic on the host, on
// random data of awkward shapes; and the time of the linears of a 7B model.

import type { DeviceContext } from "../../src/backend/cuda/device-context.js";
import type { KernelFamily } from "../../src/backend/cuda/kernel-modules.js";
import {
  ATTENTION,
  EXPAND,
  FILL,
  HALF_LINEAR,
  LINEAR,
  REPACK_CODES,
  REPACK_GROUPS,
  writeParameters,
} from "../../src/backend/cuda/kernel-parameters.js";
import { CHUNK, type KernelGroup, paddedInputs, TILE_ROWS, tileBytes } from "../../src/backend/cuda/quantized-layout.js";

type Bits = 2 | 3 | 4 | 8;

const GEMM_SHARED = 65536;
let failures = 0;

/** Compares every fused kernel with its reference. @returns how many comparisons failed */
export function checkKernels(gpu: DeviceContext): number {
  failures = 0;
  for (const bits of [2, 3, 4, 8] as const) for (const group of [32, 64, 128] as const) checkLinear(gpu, bits, group);
  checkHalf(gpu);
  checkAttention(gpu);
  return failures;
}

/** Prints the speed of each kernel by itself. */
export function timeKernels(gpu: DeviceContext): string {
  timeLinears(gpu);
  timeGemm(gpu);
  timeAttention(gpu);
  return "see above";
}

function checkLinear(gpu: DeviceContext, bits: Bits, group: KernelGroup): void {
  for (const [inputs, outputs, permuted] of [
    [1024 + 192, 96, false],
    [2048 + 64, 80, true],
    [group, 16, false],
    [11008, 48, true],
  ] as const) {
    if (inputs % group !== 0 || (inputs * bits) % 32 !== 0 || (outputs * bits) % 32 !== 0) continue; // no such checkpoint
    const random = noise(inputs * 7 + bits * 131 + group);
    const groups = inputs / group;
    const codes = Uint8Array.from({ length: inputs * outputs }, () => Math.floor(random() * 2 ** bits));
    const zeros = Uint8Array.from({ length: groups * outputs }, () => Math.floor(random() * 2 ** bits));
    const scales = Float32Array.from({ length: groups * outputs }, () => fromHalf(toHalf(0.002 + 0.02 * random())));
    // perm[k'] = source row of packed row k'; rows of one group stay together, groups are shuffled row by row.
    const perm = Int32Array.from({ length: inputs }, (_, i) => i);
    if (permuted) for (let i = inputs - 1; i > 0; i--) swap(perm, i, Math.floor(random() * (i + 1)));
    const inverse = new Int32Array(inputs);
    perm.forEach((source, place) => {
      inverse[source] = place;
    });
    const zeroOffset = bits === 4 ? 1 : 0;

    const k = paddedInputs(inputs);
    const weightBytes = (outputs / TILE_ROWS) * tileBytes(bits, group, inputs);
    const weights = gpu.allocate(weightBytes);
    gpu.fill(weights, 0, weightBytes);
    const source = upload(gpu, packRows(codes, inputs, outputs, bits));
    const zerosIn = upload(gpu, packColumns(zeros, groups, outputs, bits));
    const scalesIn = upload(gpu, Uint16Array.from(scales, toHalf));
    const inverseIn = upload(gpu, inverse);
    const permIn = upload(gpu, perm);
    const bad = upload(gpu, new Uint32Array(1));
    launch(
      gpu,
      "repack",
      `repack_codes_q${bits}_g${group}`,
      [Math.ceil(outputs / 256), inputs / 32],
      256,
      writeParameters(REPACK_CODES, {
        source,
        destination: weights,
        inverse: permuted ? inverseIn : 0n,
        firstRow: 0,
        rows: inputs,
        n: outputs,
        k,
      }),
    );
    launch(
      gpu,
      "repack",
      `repack_groups_q${bits}_g${group}`,
      [Math.ceil(outputs / 256), groups],
      256,
      writeParameters(REPACK_GROUPS, {
        scales: scalesIn,
        zeros: zerosIn,
        destination: weights,
        bad,
        groups,
        repeat: 1,
        n: outputs,
        k,
        scalesAreF32: 0,
        firstGroup: 0,
        zeroOffset,
        unused: 0,
      }),
    );

    for (const m of [1, 3, 8, 19, 32]) {
      const x = Float32Array.from({ length: m * inputs }, () => fromHalf(toHalf(random() * 2 - 1)));
      const bias = Float32Array.from({ length: outputs }, () => fromHalf(toHalf(random() - 0.5)));
      const residual = Float32Array.from({ length: m * outputs }, () => random() - 0.5);
      const truth = new Float64Array(m * outputs);
      let norm = 0;
      for (let t = 0; t < m; t++)
        for (let n = 0; n < outputs; n++) {
          let sum = (bias[n] as number) + (residual[t * outputs + n] as number);
          for (let source = 0; source < inputs; source++) {
            const g = Math.floor((inverse[source] as number) / group);
            const w =
              ((codes[source * outputs + n] as number) - (((zeros[g * outputs + n] as number) + zeroOffset) % 2 ** bits)) *
              (scales[g * outputs + n] as number);
            sum += w * (x[t * inputs + source] as number);
            norm += w * w;
          }
          truth[t * outputs + n] = sum;
        }
      norm = Math.sqrt(norm / (m * outputs)) * Math.sqrt(inputs / 3); // |w| |x|
      const xIn = upload(gpu, Uint16Array.from(x, toHalf));
      const biasIn = upload(gpu, Uint16Array.from(bias, toHalf));
      const residualIn = upload(gpu, residual);
      const y = gpu.allocate(m * outputs * 4);
      const parameters = writeParameters(LINEAR, {
        weights,
        x: xIn,
        permutation: permuted ? permIn : 0n,
        bias: biasIn,
        residual: residualIn,
        y,
        m,
        n: outputs,
        k,
        kValid: inputs,
        ldx: inputs,
        ldy: outputs,
        zeroOffset: 0,
        yIsF32: 1,
      });
      gpu.fill(y, 0xff, m * outputs * 4);
      launch(gpu, "linear_quantized", `linear_q${bits}_g${group}_ref`, [Math.ceil(outputs / 256), m], 256, parameters);
      compare(`q${bits} g${group} ${inputs}x${outputs} m ${m} reference`, download(gpu, y, m * outputs), truth, 1e-5 * norm);
      gpu.fill(y, 0xff, m * outputs * 4);
      launch(gpu, "linear_quantized", `linear_q${bits}_g${group}_m${m <= 8 ? 8 : 32}`, [outputs / TILE_ROWS], 256, parameters);
      const fast = download(gpu, y, m * outputs);
      compare(`q${bits} g${group} ${inputs}x${outputs} m ${m} fast`, fast, truth, 1e-4 * norm);
      launch(gpu, "linear_quantized", `linear_q${bits}_g${group}_m${m <= 8 ? 8 : 32}`, [outputs / TILE_ROWS], 256, parameters);
      if (download(gpu, y, m * outputs).some((v, i) => v !== fast[i])) fail("a repeat gave other bits");

      if (m === 19 && !permuted) {
        const expanded = gpu.allocate(outputs * inputs * 2);
        gpu.fill(expanded, 0xff, outputs * inputs * 2);
        launch(
          gpu,
          "linear_half",
          `expand_q${bits}_g${group}`,
          [Math.ceil(k / (CHUNK * 8)), outputs / TILE_ROWS],
          256,
          writeParameters(EXPAND, {
            weights,
            expanded,
            firstTile: 0,
            tiles: outputs / TILE_ROWS,
            k,
            ld: inputs,
            zeroOffset: 0,
            unused: 0,
          }),
        );
        gpu.fill(y, 0xff, m * outputs * 4);
        launch(
          gpu,
          "linear_half",
          "linear_half_gemm",
          [Math.ceil(outputs / 128), Math.ceil(m / 128)],
          256,
          writeParameters(HALF_LINEAR, {
            weights: expanded,
            x: xIn,
            bias: biasIn,
            residual: residualIn,
            y,
            m,
            n: outputs,
            k: inputs,
            ldx: inputs,
            ldy: outputs,
            yIsF32: 1,
          }),
          GEMM_SHARED,
        );
        compare(`q${bits} g${group} ${inputs}x${outputs} expanded`, download(gpu, y, m * outputs), truth, 1e-3 * norm);
        gpu.free(expanded);
      }
      for (const pointer of [xIn, biasIn, residualIn, y]) gpu.free(pointer);
    }
    for (const pointer of [weights, source, zerosIn, scalesIn, inverseIn, permIn, bad]) gpu.free(pointer);
  }
}

function checkHalf(gpu: DeviceContext): void {
  const random = noise(5);
  for (const [m, n, k] of [
    [1, 40, 64],
    [7, 129, 136],
    [130, 200, 1032],
    [300, 72, 320],
  ] as const) {
    const x = Uint16Array.from({ length: m * k }, () => toHalf(random() * 2 - 1));
    const w = Uint16Array.from({ length: n * k }, () => toHalf(random() * 2 - 1));
    const [xIn, wIn] = [upload(gpu, x), upload(gpu, w)];
    const y = gpu.allocate(m * n * 4);
    const parameters = writeParameters(HALF_LINEAR, {
      weights: wIn,
      x: xIn,
      bias: 0n,
      residual: 0n,
      y,
      m,
      n,
      k,
      ldx: k,
      ldy: n,
      yIsF32: 1,
    });
    launch(gpu, "linear_half", "linear_half_ref", [Math.ceil(n / 256), m], 256, parameters);
    const truth = Float64Array.from(download(gpu, y, m * n));
    gpu.fill(y, 0xff, m * n * 4);
    launch(gpu, "linear_half", "linear_half_gemm", [Math.ceil(n / 128), Math.ceil(m / 128)], 256, parameters, GEMM_SHARED);
    compare(`half gemm ${m}x${n}x${k}`, download(gpu, y, m * n), truth, 1e-4 * Math.sqrt(k));
    gpu.fill(y, 0xff, m * n * 4);
    launch(gpu, "linear_half", "linear_half_gemv", [Math.ceil(n / 8), Math.ceil(m / 8)], 256, parameters);
    compare(`half gemv ${m}x${n}x${k}`, download(gpu, y, m * n), truth, 1e-4 * Math.sqrt(k));
    for (const pointer of [xIn, wIn, y]) gpu.free(pointer);
  }
}

function checkAttention(gpu: DeviceContext): void {
  for (const dim of [8, 16, 64, 80, 96, 128, 192, 256])
    for (const [heads, kvHeads, window, length] of [
      [4, 4, 0, 300],
      [8, 1, 0, 700],
      [6, 2, 100, 700],
      [36, 2, 0, 65],
      [2, 1, 0, 1],
    ] as const) {
      const random = noise(dim + heads);
      const [maxPages, pageCount, rows] = [3, 5, Math.min(length, 70)];
      const cacheSize = pageCount * kvHeads * 256 * dim;
      const cache = () =>
        upload(
          gpu,
          Uint16Array.from({ length: cacheSize }, () => toHalf(random() * 2 - 1)),
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
      for (let row = 0; row < rows; row += 64) tiles.push(row, Math.min(64, rows - row));
      const tilesIn = upload(gpu, Int32Array.from(tiles));
      const splits = 5;
      const [y, partial] = [gpu.allocate(rows * heads * dim * 2), gpu.allocate(rows * heads * splits * (dim + 2) * 4)];
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
      launch(gpu, "attention", "attention_ref", [heads, rows], 128, parameters);
      const truth = Float64Array.from(read());
      const blocks = Math.ceil(dim / 64);
      gpu.fill(y, 0xff, rows * heads * dim * 2);
      launch(gpu, "attention", `attention_prefill_${blocks}`, [tiles.length / 2, heads], 128, parameters);
      compare(`attention prefill dim ${dim} heads ${heads}/${kvHeads} window ${window} length ${length}`, read(), truth, 3e-3);
      gpu.fill(y, 0xff, rows * heads * dim * 2);
      const group = heads / kvHeads;
      launch(
        gpu,
        "attention",
        `attention_decode_${blocks}`,
        [splits, kvHeads * Math.ceil(group / 16), rows],
        128,
        parameters,
        4 * 16 * (64 * blocks + 2) * 4,
      );
      launch(gpu, "attention", "attention_combine", [heads, rows], 128, parameters);
      compare(`attention decode dim ${dim} heads ${heads}/${kvHeads} window ${window} length ${length}`, read(), truth, 3e-3);
      for (const pointer of [kCache, vCache, q, positions, sequence, pages, tilesIn, y, partial]) gpu.free(pointer);
    }
}

/** GB/s of the decode linears of a 7B model, over enough copies of the weights that no cache helps. */
function timeLinears(gpu: DeviceContext): void {
  const shapes = [
    ["qkv", 4096, 12288],
    ["o", 4096, 4096],
    ["gate-up", 4096, 22016],
    ["down", 11008, 4096],
  ] as const;
  for (const [name, inputs, outputs] of shapes) {
    const bytes = (outputs / TILE_ROWS) * tileBytes(4, 128, inputs);
    const copies = Math.max(8, Math.ceil(400e6 / bytes));
    const weights = gpu.allocate(bytes * copies);
    fillRandom(gpu, weights, bytes * copies);
    for (const m of [1, 8, 32]) {
      const x = gpu.allocate(m * inputs * 2);
      fillRandom(gpu, x, m * inputs * 2, 1);
      const y = gpu.allocate(m * outputs * 2);
      const ms = timed(gpu, copies * 4, (i) =>
        launch(
          gpu,
          "linear_quantized",
          `linear_q4_g128_m${m <= 8 ? 8 : 32}`,
          [outputs / TILE_ROWS],
          256,
          writeParameters(LINEAR, {
            weights: weights + BigInt((i % copies) * bytes),
            x,
            permutation: 0n,
            bias: 0n,
            residual: 0n,
            y,
            m,
            n: outputs,
            k: inputs,
            kValid: inputs,
            ldx: inputs,
            ldy: outputs,
            zeroOffset: 1,
            yIsF32: 0,
          }),
        ),
      );
      console.log(
        `${name.padEnd(8)} m ${String(m).padStart(2)}  ${(ms * 1e3).toFixed(1).padStart(7)} us  ${(bytes / ms / 1e6).toFixed(0).padStart(5)} GB/s`,
      );
      gpu.free(x);
      gpu.free(y);
    }
    gpu.free(weights);
  }
}

function timeGemm(gpu: DeviceContext): void {
  for (const [m, n, k] of [
    [1920, 12288, 4096],
    [1920, 4096, 11008],
  ] as const) {
    const [x, w, y, q] = [
      gpu.allocate(m * k * 2),
      gpu.allocate(n * k * 2),
      gpu.allocate(m * n * 2),
      gpu.allocate((n / 16) * tileBytes(4, 128, k)),
    ];
    fillRandom(gpu, x, m * k * 2, 1);
    fillRandom(gpu, w, n * k * 2, 0.02);
    fillRandom(gpu, q, (n / 16) * tileBytes(4, 128, k));
    const gemm = timed(gpu, 20, () =>
      launch(
        gpu,
        "linear_half",
        "linear_half_gemm",
        [n / 128, Math.ceil(m / 128)],
        256,
        writeParameters(HALF_LINEAR, { weights: w, x, bias: 0n, residual: 0n, y, m, n, k, ldx: k, ldy: n, yIsF32: 0 }),
        GEMM_SHARED,
      ),
    );
    const expand = timed(gpu, 20, () =>
      launch(
        gpu,
        "linear_half",
        "expand_q4_g128",
        [Math.ceil(k / 512), n / 16],
        256,
        writeParameters(EXPAND, { weights: q, expanded: w, firstTile: 0, tiles: n / 16, k, ld: k, zeroOffset: 1, unused: 0 }),
      ),
    );
    console.log(
      `gemm ${m}x${n}x${k}  ${gemm.toFixed(3)} ms  ${((2 * m * n * k) / gemm / 1e9).toFixed(0)} TFLOP/s; expand ${expand.toFixed(3)} ms`,
    );
    for (const pointer of [x, w, y, q]) gpu.free(pointer);
  }
}

function timeAttention(gpu: DeviceContext): void {
  for (const [heads, kvHeads, dim, length] of [
    [32, 32, 128, 2048],
    [32, 32, 128, 8192],
    [32, 8, 128, 8192],
  ] as const) {
    const pages = length / 256;
    const layers = 8;
    const cacheBytes = pages * kvHeads * 256 * dim * 2;
    const [kCache, vCache] = [gpu.allocate(cacheBytes * layers), gpu.allocate(cacheBytes * layers)];
    fillRandom(gpu, kCache, cacheBytes * layers, 1);
    fillRandom(gpu, vCache, cacheBytes * layers, 1);
    const table = upload(
      gpu,
      Int32Array.from({ length: pages }, (_, i) => i),
    );
    const splits = Math.max(1, Math.min(32, Math.ceil((132 * 3) / kvHeads)));
    const rows = 2048;
    const [q, y, partial] = [
      gpu.allocate(rows * heads * dim * 2),
      gpu.allocate(rows * heads * dim * 2),
      gpu.allocate(heads * splits * (dim + 2) * 4),
    ];
    fillRandom(gpu, q, rows * heads * dim * 2, 1);
    const [last, sequence] = [upload(gpu, Int32Array.from([length - 1])), upload(gpu, new Int32Array(rows))];
    const at = (layer: number, positions: bigint, tiles: bigint) =>
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
    const decode = timed(gpu, 64, (i) => {
      launch(
        gpu,
        "attention",
        "attention_decode_2",
        [splits, kvHeads * Math.ceil(heads / kvHeads / 16), 1],
        128,
        at(i % layers, last, 0n),
        4 * 16 * 130 * 4,
      );
      launch(gpu, "attention", "attention_combine", [heads, 1], 128, at(i % layers, last, 0n));
    });
    console.log(
      `attention decode ${heads}/${kvHeads}x${dim} at ${length}: ${(decode * 1e3).toFixed(1)} us, ${((2 * cacheBytes) / decode / 1e6).toFixed(0)} GB/s`,
    );
    const positions = upload(
      gpu,
      Int32Array.from({ length: rows }, (_, i) => length - rows + i),
    );
    const tiles = upload(gpu, Int32Array.from(Array.from({ length: rows / 64 }, (_, i) => [i * 64, 64]).flat()));
    const prefill = timed(gpu, 5, (i) =>
      launch(gpu, "attention", "attention_prefill_2", [rows / 64, heads], 128, at(i % layers, positions, tiles)),
    );
    const flops = 4 * heads * dim * rows * (length - rows / 2);
    console.log(
      `attention prefill ${rows} rows at ${length}: ${prefill.toFixed(3)} ms, ${(flops / prefill / 1e9).toFixed(0)} TFLOP/s`,
    );
    for (const pointer of [kCache, vCache, table, q, y, partial, last, sequence, positions, tiles]) gpu.free(pointer);
  }
}

/** Milliseconds per call, median of five rounds, by events. */
function timed(gpu: DeviceContext, calls: number, run: (call: number) => void): number {
  const { driver, stream } = gpu;
  const [begin, end] = [driver.u64("cuEventCreate", [0]), driver.u64("cuEventCreate", [0])];
  const rounds: number[] = [];
  for (let round = 0; round < 6; round++) {
    driver.call("cuEventRecord", [begin, stream]);
    for (let call = 0; call < calls; call++) run(call);
    driver.call("cuEventRecord", [end, stream]);
    gpu.synchronize();
    const ms = new Float32Array(1);
    driver.call("cuEventElapsedTime_v2", [ms, begin, end]);
    if (round > 0) rounds.push((ms[0] as number) / calls);
  }
  return rounds.sort((a, b) => a - b)[2] as number;
}

function launch(
  gpu: DeviceContext,
  family: KernelFamily,
  name: string,
  grid: [number, number?, number?],
  block: number,
  parameters: Uint8Array,
  shared = 0,
): void {
  gpu.launcher.launch(gpu.stream, {
    kernel: gpu.kernels.get(family, name, shared),
    name,
    grid,
    block,
    parameters,
    shared,
    overlap: false,
  });
}

function fillRandom(gpu: DeviceContext, to: bigint, bytes: number, scale = 0): void {
  launch(
    gpu,
    "pointwise",
    "fill_random",
    [1024],
    256,
    writeParameters(FILL, { to, words: BigInt(bytes / 4), seed: to, asHalf: scale > 0 ? 1 : 0, scale }),
  );
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
  if (failures < 40) console.log(`  failed: ${message}`);
}

/** GPTQ's packing down the rows: a bit stream per column, lowest bits first. */
function packRows(codes: Uint8Array, rows: number, columns: number, bits: number): Uint32Array<ArrayBuffer> {
  const packed = new Uint32Array(((rows * bits) / 32) * columns);
  for (let row = 0; row < rows; row++)
    for (let column = 0; column < columns; column++)
      for (let bit = 0; bit < bits; bit++)
        if (((codes[row * columns + column] as number) >> bit) & 1) {
          const at = row * bits + bit;
          const word = Math.floor(at / 32) * columns + column;
          packed[word] = ((packed[word] as number) | (1 << (at % 32))) >>> 0;
        }
  return packed;
}

function packColumns(values: Uint8Array, rows: number, columns: number, bits: number): Uint32Array<ArrayBuffer> {
  const packed = new Uint32Array((rows * columns * bits) / 32);
  for (let row = 0; row < rows; row++)
    for (let column = 0; column < columns; column++)
      for (let bit = 0; bit < bits; bit++)
        if (((values[row * columns + column] as number) >> bit) & 1) {
          const at = column * bits + bit;
          const word = row * ((columns * bits) / 32) + Math.floor(at / 32);
          packed[word] = ((packed[word] as number) | (1 << (at % 32))) >>> 0;
        }
  return packed;
}

function swap(values: Int32Array, a: number, b: number): void {
  const kept = values[a] as number;
  values[a] = values[b] as number;
  values[b] = kept;
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
  const magnitude = Math.abs(value);
  if (magnitude < 2 ** -14) return sign | Math.round(magnitude * 2 ** 24);
  const rounded = bits + 0xfff + ((bits >>> 13) & 1);
  return sign | ((((rounded >>> 23) & 0xff) - 112) << 10) | ((rounded >>> 13) & 0x3ff);
}

function fromHalf(bits: number): number {
  const exponent = (bits >>> 10) & 31;
  const fraction = bits & 1023;
  const magnitude = exponent === 0 ? fraction * 2 ** -24 : (1 + fraction / 1024) * 2 ** (exponent - 15);
  return bits & 0x8000 ? -magnitude : magnitude;
}
