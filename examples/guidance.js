// Classifier-free guidance: every token is chosen from a mixture of what follows the prompt
// and what follows a negative prompt. A scale over 1 leads away from the negative one.
//
//   node examples/guidance.js [folder of a model]

import { loadModel } from "exllama-ts";

// Each guided answer takes two sequences: one for each prompt.
const model = await loadModel(process.argv[2], { maxSequences: 2 });
const prompt = "Once upon a time there was a happy cat";
const negative = "Once upon a time there was a sad dog";

for (const scale of [1, 1.25, 1.5]) {
  const { text } = await model.generate(prompt, { maxTokens: 32, temperature: 0, guidance: { scale, negative } }).result;
  console.log(`scale ${scale}: ${prompt}${text}\n`);
}

await model.dispose();
