// npm start [-- "prompt"]: the memory plan of the small model that comes with the package,
// and its answer, as it is written.

import { existsSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
if (!existsSync(join(root, "dist/index.js")) || !existsSync(join(root, "dist/wasm"))) {
  console.error("dist/ is not built: run `npm ci` (or `npm run build`) first.");
  process.exit(1);
}
const { ExllamaError, loadModel } = await import("../dist/index.js");
const { explainPlan } = await import("../dist/plan.js");

const prompt = process.argv.slice(2).join(" ").trim() || "Tell me a story about a careful deer who learns to dance.";
const color = process.stdout.isTTY === true && !process.env.NO_COLOR;
const stop = new AbortController();
process.once("SIGINT", () => stop.abort());
process.stdout.on("error", () => process.exit(0));

try {
  const model = await loadModel(undefined, { signal: stop.signal });
  try {
    const { architecture, parameters, quantization } = model.info;
    const title = `The demo model: ${architecture}, ${(parameters / 1e6).toFixed(1)} million parameters, ${quantization}`;
    console.log(`${explainPlan(model.plan, { title, color, width: Math.max(60, process.stdout.columns ?? 100) })}\n`);
    console.log(`› ${prompt}\n`);
    const answer = model.chat([{ role: "user", content: prompt }], { signal: stop.signal });
    for await (const piece of answer) process.stdout.write(piece);
    const { ids, timings } = await answer.result;
    console.log(`\n\n${ids.length} tokens at ${timings.tokensPerSecond.toFixed(0)} per second. Now try: npx exllama chat`);
  } finally {
    await model.dispose();
  }
} catch (error) {
  if (stop.signal.aborted) {
    console.log();
    process.exitCode = 130;
  } else if (error instanceof ExllamaError) {
    console.error(`error: ${error.message}${error.hint ? `\nhint: ${error.hint}` : ""}`);
    process.exitCode = 1;
  } else throw error;
}
