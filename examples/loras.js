// Several LoRA adapters beside one model: each request says which it wants, and how much of
// each, and requests with different ones share the same steps.
//
//   node examples/loras.js

import { fileURLToPath } from "node:url";
import { loadModel } from "exllama-ts";

const folder = (name) => fileURLToPath(new URL(`../test/fixtures/${name}`, import.meta.url));
const adapters = { pirate: folder("lora-pirate"), brief: folder("lora-brief") };

const model = await loadModel(undefined, { adapters, maxSequences: 4 });
const wishes = {
  "the model itself": [],
  pirate: [{ name: "pirate" }],
  brief: [{ name: "brief" }],
  "half a pirate, and brief": [{ name: "pirate", weight: 0.5 }, { name: "brief" }],
};

const answers = Object.values(wishes).map(
  (wanted) =>
    model.chat([{ role: "user", content: "Tell me a story about a cat." }], { adapters: wanted, maxTokens: 40, temperature: 0 })
      .result,
);
for (const [index, { text }] of (await Promise.all(answers)).entries()) console.log(`${Object.keys(wishes)[index]}: ${text}\n`);

await model.dispose();
