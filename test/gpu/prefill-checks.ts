// The products of whole prompts by themselves: against their reference on awkward shapes, the same bits from
// every tile and grid, then their speed. Runs on a machine with a GPU:
// `node dist/gpu/prefill-checks.js [check|gemm|slabs …]`.

import { DeviceContext } from "../../src/backend/cuda/cards/device-context.js";
import { CudaDriver } from "../../src/backend/cuda/driver/driver.js";
import { loadCuda } from "../../src/backend/cuda/driver/load.js";
import { type ParameterValues, writeParameters } from "../../src/backend/cuda/launch/parameter-layout.js";
import {
  type GemmCard,
  type GemmLaunch,
  gemmLaunch,
  gemmSlabRows,
  hasWgmma,
} from "../../src/backend/cuda/linears/gemm-launch.js";
import { EXPAND, HALF_LINEAR } from "../../src/backend/cuda/linears/linear-layouts.js";
import { gemmParameters } from "../../src/backend/cuda/linears/tensor-map.js";
import { tileBytes } from "../../src/backend/cuda/weights/quantized-layout.js";
import { fromHalfBits } from "../support/element-types.js";
import { KernelBench } from "./kernel-bench.js";

type HalfLinear = ParameterValues<typeof HALF_LINEAR.fields>;

let card: GemmCard = { multiprocessors: 0, major: 0, minor: 0 };

function main(): void {
  const driver = new CudaDriver(loadCuda());
  driver.call("cuInit", [0]);
  const gpu = DeviceContext.open(driver, driver.i32("cuDeviceGet", [0]), "cuda:0");
  const bench = new KernelBench(gpu);
  card = gpu.card;
  const asked = process.argv.slice(2);
  const wanted = (name: string) => asked.length === 0 || asked.includes(name);
  if (wanted("check")) {
    checkGemm(bench);
    console.log(bench.failures === 0 ? "all kernels agree" : `${bench.failures} checks FAILED`);
  }
  if (wanted("gemm")) timeGemm(bench);
  if (wanted("slabs")) timeSlabs(bench);
  gpu.close();
  process.exit(bench.failures === 0 ? 0 : 1);
}

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

function runGemm(bench: KernelBench, call: GemmLaunch, values: HalfLinear): void {
  bench.launch({ family: "linear_half", ...call, parameters: gemmParameters(bench.gpu.driver, call, values) });
}

function checkGemm(bench: KernelBench): void {
  const { gpu } = bench;
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
    const [x, weights, bias] = [bench.halves(m * ldx, 0.5), bench.halves(n * k, 0.5), bench.halves(n + (n % 2), 0.5)];
    const residual = bench.upload(Float32Array.from({ length: m * ldy }, (_, i) => (i % 17) / 17));
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
      const words = bench.download(y, Math.ceil(bytes / 4));
      return f32 ? words : Float32Array.from(new Uint16Array(words.buffer), fromHalfBits);
    };
    gpu.fill(y, 0, bytes);
    bench.launch({
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
        runGemm(bench, { ...call, grid }, values);
        const got = read();
        const what = `${call.name} ${m}x${n}x${k} ${f32 ? "f32" : "f16"} on ${grid[0]}`;
        const inside = got.map((value, i) => (i % ldy < n ? value : 0));
        const wanted = truth.map((value, i) => (i % ldy < n ? value : 0));
        bench.compare(what, inside, wanted, (f32 ? 1e-4 : 2e-2) * Math.sqrt(k / 64));
        if (got.some((value, i) => i % ldy >= n && !Number.isNaN(value))) bench.fail(`${what}: wrote between rows`);
        if (call.boxRows === null) continue;
        if (first && inside.some((value, i) => value !== (first as Float32Array)[i]))
          bench.fail(`${what}: other bits than the first`);
        first ??= inside;
      }
    bench.free(x, weights, bias, residual, y);
  }
}

function timeGemm(bench: KernelBench): void {
  const { gpu } = bench;
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
    bench.fillHalves(x, m * k, 1);
    bench.fillHalves(weights, n * k, 0.02);
    const values: HalfLinear = { weights, x, bias: 0n, residual: 0n, y, m, n, k, ldx: k, ldy: n, yIsF32: 0 };
    const chosen = gemmLaunch(card, { m, n }).name;
    const speeds = allGemms(m, n).map((call) => {
      const ms = bench.timedGraph(10, () => runGemm(bench, call, values));
      const short = call.name.replace("linear_half_gemm", "").replace("_wgmma_", "") || "mma";
      return `${call.name === chosen ? "*" : " "}${short} ${((2 * m * n * k) / ms / 1e9).toFixed(0)}`.padStart(11);
    });
    console.log(
      `gemm ${what.padEnd(8)} ${[m, n, k].map((size) => String(size).padStart(6)).join("")} TFLOP/s ${speeds.join("")}`,
    );
    bench.free(x, weights, y);
  }
}

/** A quantised linear of a whole prompt through slabs of expanded weights. */
function timeSlabs(bench: KernelBench): void {
  const { gpu } = bench;
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
    bench.fillHalves(x, m * k, 1);
    gpu.fill(weights, 0x2c, quantized * copies); // codes 2 and 12, scales of 0.065
    const expand = (from: bigint, rows: number) =>
      bench.launch({
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
      const both = bench.timedGraph(12, (i) =>
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
          runGemm(bench, gemmLaunch(card, { m, n: rows }), values);
        }),
      );
      const alone = bench.timedGraph(12, (i) => slabs(i, (from, _, rows) => expand(from, rows)));
      return `${mebibytes} MiB, ${slab} rows: ${(both * 1e3).toFixed(0)} us, ${(alone * 1e3).toFixed(0)} of them expand`;
    });
    console.log(`expanded ${what} ${m}x${n}x${k}  ${times.join("; ")}`);
    bench.free(x, weights, y, expanded);
  }
}

main();
