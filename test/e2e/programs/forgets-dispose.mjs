// Loads, answers, and ends without dispose().

import { loadModel } from "../../../dist/index.js";

const model = await loadModel(undefined, { ctx: 512 });
await model.generate("Once", { maxTokens: 4 }).result;
console.log("loaded");
// Long enough for the test to see the engine.
await new Promise((resolve) => setTimeout(resolve, 500));
