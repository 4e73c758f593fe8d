// Takes an interrupt as a wish for one more answer; ends well if the engine can still give it.

import { loadModel } from "../../../dist/index.js";

const model = await loadModel(undefined, { ctx: 512 });
const interrupted = new Promise((resolve) => process.once("SIGINT", resolve));
const waiting = setInterval(() => {}, 1000);
console.log("loaded");
await interrupted;
clearInterval(waiting);
const { ids } = await model.generate("Once", { maxTokens: 4, ignoreEos: true }).result;
process.exitCode = ids.length === 4 ? 0 : 1;
await model.dispose();
