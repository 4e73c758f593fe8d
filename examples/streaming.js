// A chat whose answers appear as they are generated. Leaving the loop ends an answer; the KV
// cache of the conversation so far is reused for the next question.
//
//   node examples/streaming.js [folder of a model]

import { loadModel } from "exllama-ts";

const model = await loadModel(process.argv[2]);
const messages = [];

for (const question of ["What color is the sky?", "Tell me a story about a dog."]) {
  messages.push({ role: "user", content: question });
  console.log(`> ${question}`);

  let answer = "";
  for await (const piece of model.chat(messages, { maxTokens: 200, seed: 1 })) {
    process.stdout.write(piece);
    answer += piece;
    if (answer.length > 240) break; // enough
  }
  console.log("\n");
  messages.push({ role: "assistant", content: answer });
}

await model.dispose();
