// exllama-ts' half of the benchmark, in a process of its own, through the library as its
// users have it (the engine in its child process).

import { readFileSync } from "node:fs";
import { performance } from "node:perf_hooks";
import { loadModel } from "../../dist/index.js";
import { serve } from "./rounds.js";

const [folder, threads, hugePages] = [process.argv[2], Number(process.argv[3]), process.argv[4] === "huge"];
const { version } = JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8"));

const model = await loadModel(folder, { backend: "cpu", ctx: 1024, threads, hugePages });

serve({
  async generate(prompt, count) {
    const start = performance.now();
    const generation = model.generate(prompt, { maxTokens: count, temperature: 0, ignoreEos: true });
    const { ids, timings } = await generation.result;
    if (ids.length !== count) throw new Error(`${ids.length} tokens instead of ${count}`);
    // Text may be held back until it is whole characters; the engine's clock is not.
    return start + timings.firstTokenMs;
  },
  about: { engine: hugePages ? "exllama-ts, huge pages" : "exllama-ts", version },
});
