// The quantised kernels alone, on TinyLlama-1.1B's shapes: matrix times one token in GB of
// weights per second, matrix times many tokens in multiply-adds per second, each beside what
// plain reading of the same memory reaches in the same round, because machines are noisy.
// More weights are cycled than caches hold.
//
//   node bench/cpu/kernels.js [--rounds 7] [--threads 2] [--gigabytes 1]

import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { setFlagsFromString } from "node:v8";
import { isMainThread, Worker, workerData } from "node:worker_threads";

/** [in, out] of the linears of a layer: q, k, v, o, gate, up, down. */
const LAYER = [
  [2048, 2048],
  [2048, 256],
  [2048, 256],
  [2048, 2048],
  [2048, 5632],
  [2048, 5632],
  [5632, 2048],
];
const BLOCK = 128;
/** f16 scales, zeros and nibbles of 16 rows × 128 inputs: see src/backend/cpu/quantized-layout.ts. */
const RECORD = 32 + 16 + BLOCK * 8;
const TOKENS = [1, 4, 64];
const MOST_TOKENS = Math.max(...TOKENS);
const MOST_INPUTS = 5632;
const X = 65536;
const ACTIVATIONS = X + MOST_TOKENS * MOST_INPUTS * 4;
const Y = ACTIVATIONS + 2 ** 20 + MOST_TOKENS * MOST_INPUTS * 2;
const WEIGHTS = Math.ceil((Y + MOST_TOKENS * MOST_INPUTS * 4) / 65536) * 65536;

/** Words of the board that threads meet at. */
const COMMAND = 0;
const DONE = 1;

/** What there is everywhere, and the products that stand in for its linears where V8 knows how: see src/backend/cpu/wasm-module.ts. */
const BUILDS = ["relaxed", "simd", ...(Number.parseInt(process.versions.v8, 10) >= 13 ? ["dot", "wide"] : [])];
const JOBS = ["read", ...BUILDS.flatMap((build) => TOKENS.map((m) => `${build} ${m}`))];

if (isMainThread) await main();
else work(workerData);

async function main() {
  const option = (name, otherwise) => {
    const at = process.argv.indexOf(`--${name}`);
    return at < 0 ? otherwise : Number(process.argv[at + 1]);
  };
  const rounds = option("rounds", 7);
  const most = option("threads", 2);
  if (Number(process.versions.node.split(".")[0]) < 21) setFlagsFromString("--experimental-wasm-relaxed-simd");
  const layerBytes = LAYER.reduce((sum, shape) => sum + linearBytes(shape), 0);
  const layers = Math.max(1, Math.round((option("gigabytes", 1) * 1e9) / layerBytes));
  const pages = Math.ceil((WEIGHTS + layers * layerBytes) / 65536);
  const memory = new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true });
  fill(memory, layers * layerBytes);
  const macs = LAYER.reduce((sum, [inputs, out]) => sum + inputs * out, 0) * layers;
  const modules = {};
  for (const build of BUILDS) modules[build] = await compile(build);
  console.log(
    `${layers} layers, ${((layers * layerBytes) / 1e9).toFixed(2)} GB of 4-bit weights, ${rounds} rounds, medians; Node ${process.version}`,
  );

  for (let threads = 1; threads <= most; threads++) {
    const board = new Int32Array(new SharedArrayBuffer(64));
    const workers = Array.from(
      { length: threads },
      (_, index) =>
        new Worker(fileURLToPath(import.meta.url), { workerData: { index, threads, memory, modules, board, layers } }),
    );
    const seconds = JOBS.map(() => []);
    for (let round = 0; round < rounds + 1; round++)
      for (let job = 0; job < JOBS.length; job++) {
        const took = await runJob(board, threads, job + 1 + ((round * JOBS.length + job) << 8));
        if (round > 0) seconds[job].push(took); // the first round compiles
      }
    await Promise.all(workers.map((worker) => worker.terminate()));
    print(threads, seconds.map(median), layers * layerBytes, macs);
  }
}

async function compile(build) {
  const wasm = (name) => readFileSync(fileURLToPath(new URL(`../../dist/wasm/${name}.wasm`, import.meta.url)));
  if (build === "dot") return new WebAssembly.Module(wasm("products-dot"));
  if (build !== "wide") return new WebAssembly.Module(wasm(`kernels-${build}`));
  const { compileWide } = await import("../../src/backend/cpu/wide-simd.ts");
  return compileWide(wasm("products-dot"));
}

function print(threads, seconds, bytes, macs) {
  const [read] = seconds;
  const gigabytes = (time) => bytes / time / 1e9;
  console.log(`\n${threads} thread${threads > 1 ? "s" : ""}: reading ${gigabytes(read).toFixed(1)} GB/s`);
  console.table(
    Object.fromEntries(
      BUILDS.flatMap((build) =>
        TOKENS.map((m) => {
          const time = seconds[JOBS.indexOf(`${build} ${m}`)];
          return [
            `${build}, ${m} token${m > 1 ? "s" : ""}`,
            {
              "GB/s": Number(gigabytes(time).toFixed(1)),
              "of reading": `${((read / time) * 100).toFixed(0)} %`,
              "GMAC/s": Number(((macs * m) / time / 1e9).toFixed(1)),
            },
          ];
        }),
      ),
    ),
  );
}

/** Seconds from the start of a job to the end of its slowest thread. */
async function runJob(board, threads, command) {
  Atomics.store(board, DONE, 0);
  const start = performance.now();
  Atomics.store(board, COMMAND, command);
  Atomics.notify(board, COMMAND);
  for (let done = 0; done < threads; done = Atomics.load(board, DONE)) {
    const wait = Atomics.waitAsync(board, DONE, done);
    if (wait.async) await wait.value;
  }
  return (performance.now() - start) / 1000;
}

function work({ index, threads, memory, modules, board, layers }) {
  const kernels = Object.fromEntries(
    Object.entries(modules).map(([name, module]) => [name, new WebAssembly.Instance(module, { env: { memory } }).exports]),
  );
  for (let last = 0; ; ) {
    Atomics.wait(board, COMMAND, last);
    last = Atomics.load(board, COMMAND);
    const [build, m] = JOBS[(last & 255) - 1].split(" ");
    run(build, Number(m), { index, threads, kernels, layers });
    Atomics.add(board, DONE, 1);
    Atomics.notify(board, DONE);
  }
}

/** This thread's part of one pass through all weights. */
function run(build, m, { index, threads, kernels, layers }) {
  let weights = WEIGHTS;
  for (let layer = 0; layer < layers; layer++)
    for (const [inputs, out] of LAYER) {
      const tiles = out / 16;
      const blocks = inputs / BLOCK;
      const from = Math.floor((tiles * index) / threads);
      const to = Math.floor((tiles * (index + 1)) / threads);
      const tileBytes = blocks * RECORD;
      if (build === "read") kernels.simd.memory_read(weights + from * tileBytes, (to - from) * tileBytes);
      else {
        const k = kernels[build];
        // Every thread quantises the same rows to the same place: nothing to wait for, but the work is counted.
        if (layer === 0) kernels.simd.quantize_records(X, m, inputs, 0, BLOCK, 127, ACTIVATIONS, 0, m);
        k.linear_nibbles_f16(weights, tileBytes, blocks, BLOCK, ACTIVATIONS, m, 0, Y, out, out, from, to, 0);
      }
      weights += tiles * tileBytes;
    }
}

function linearBytes([inputs, out]) {
  return (out / 16) * (inputs / BLOCK) * RECORD;
}

function fill(memory, bytes) {
  const words = new Uint32Array(memory.buffer, WEIGHTS, bytes / 4);
  let state = 1;
  for (let i = 0; i < words.length; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) | 0;
    words[i] = state;
  }
  // Scales about 0.01, zeros 8.
  for (let at = WEIGHTS; at < WEIGHTS + bytes; at += RECORD) {
    new Uint16Array(memory.buffer, at, 16).fill(0x211f);
    new Uint8Array(memory.buffer, at + 32, 16).fill(8);
  }
  const x = new Float32Array(memory.buffer, X, MOST_TOKENS * MOST_INPUTS);
  for (let i = 0; i < x.length; i++) x[i] = Math.sin(i * 0.37) * 2;
}

function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[sorted.length >> 1];
}
