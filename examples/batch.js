// Several answers at once: they share the steps of the model, which costs hardly more than one
// alone. Each is the same as if it were alone.
//
//   node examples/batch.js [folder of a model]

import { loadModel } from "exllama-ts";

const prompts = ["Once upon a time", "The little fox", "In the morning", "A red balloon"];

const model = await loadModel(process.argv[2], { maxSequences: prompts.length });
const answers = prompts.map((prompt) => model.generate(prompt, { maxTokens: 24, temperature: 0 }).result);

for (const [index, { text }] of (await Promise.all(answers)).entries()) console.log(`${index + 1}. ${prompts[index]}${text}`);

await model.dispose();
