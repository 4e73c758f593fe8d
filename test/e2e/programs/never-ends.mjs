// Answers for ever.

import { loadModel } from "../../../dist/index.js";

const model = await loadModel(undefined, { ctx: 512 });
console.log("loaded");
for (;;) for await (const _ of model.generate("Once", { maxTokens: 400, ignoreEos: true }));
