// Answers that are what a program needs: JSON of a schema, a pattern, one of several texts.
// Whatever the model would like to say, only tokens that fit can be chosen.
//
//   node examples/json.js [folder of a model]

import { loadModel } from "exllama-ts";

const model = await loadModel(process.argv[2]);
const question = [{ role: "user", content: "Invent an animal for a story." }];

const schema = {
  type: "object",
  properties: {
    name: { type: "string", pattern: "^[A-Z][a-z]{2,11}$" },
    kind: { enum: ["cat", "dog", "bird", "fish"] },
    age: { type: "integer", minimum: 1, maximum: 20 },
    friends: { type: "array", items: { type: "string", maxLength: 10 }, maxItems: 3 },
  },
  required: ["name", "kind", "age", "friends"],
};
const animal = await model.chat(question, { constraint: { kind: "jsonSchema", schema }, seed: 7 }).result;
console.log("schema: ", JSON.parse(animal.text));

const born = await model.generate("The animal was born on ", {
  constraint: { kind: "regex", pattern: "20\\d\\d-(0[1-9]|1[0-2])-(0[1-9]|[12]\\d)" },
  seed: 7,
}).result;
console.log("pattern:", born.text);

const mood = await model.generate("The animal is ", {
  constraint: { kind: "choice", choices: ["happy", "sad", "hungry"] },
  seed: 7,
}).result;
console.log("choice: ", mood.text);

await model.dispose();
