// One question, one answer.
//
//   node examples/basic.js [folder of a model]
//
// Without a folder the small model that comes with the package answers.

import { loadModel } from "exllama-ts";

const model = await loadModel(process.argv[2]);
console.log(`${model.info.architecture}, ${model.info.quantization}, context ${model.plan.context}`);

const { text, finishReason, timings } = await model.generate("Once upon a time", { maxTokens: 48, seed: 1 }).result;
console.log(text);
console.log(`(${finishReason}, ${timings.tokensPerSecond.toFixed(0)} tokens/s)`);

await model.dispose();
