// Beam search: several continuations grow side by side, and the likeliest as a whole is said.
//
//   node examples/beams.js [folder of a model]

import { loadModel } from "exllama-ts";

const model = await loadModel(process.argv[2], { maxSequences: 4 });
const prompt = "The bird and the fish";

for (const beams of [undefined, { count: 2, length: 8 }, { count: 4, length: 16 }]) {
  const { text } = await model.generate(prompt, { maxTokens: 32, beams, ...(beams ? {} : { temperature: 0 }) }).result;
  console.log(`${beams ? `${beams.count} beams, ${beams.length} ahead` : "greedy"}: ${prompt}${text}\n`);
}

await model.dispose();
