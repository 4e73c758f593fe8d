// node-llama-cpp's half of the benchmark, in a process of its own: loads the model once, then
// runs the rounds it is asked for. Only prebuilt binaries from its npm packages are used.

import { readFileSync } from "node:fs";
import { performance } from "node:perf_hooks";
import { getLlama } from "node-llama-cpp";
import { serve } from "./rounds.js";

const manifest = new URL("node_modules/node-llama-cpp/package.json", import.meta.url);
const { version } = JSON.parse(readFileSync(manifest, "utf8"));
const [path, threads] = [process.argv[2], Number(process.argv[3])];

const llama = await getLlama({
  gpu: false,
  build: "never",
  skipDownload: true,
  maxThreads: threads,
  logLevel: "error",
  progressLogs: false,
});
const model = await llama.loadModel({ modelPath: path, gpuLayers: 0 });
const context = await model.createContext({ contextSize: 1024, batchSize: 256, threads });
const sequence = context.getSequence();

serve({
  async generate(prompt, count) {
    await sequence.clearHistory();
    let [left, first] = [count, 0];
    for await (const _ of sequence.evaluate(prompt, { temperature: 0, yieldEogToken: true })) {
      if (left === count) first = performance.now();
      if (--left === 0) return first;
    }
    throw new Error(`${left} of ${count} tokens are missing`);
  },
  about: { engine: "node-llama-cpp", version },
});
