// A model that calls functions: it is told of them, calls one with arguments that its schema
// accepts, and gets the result. Here a call is required, as the small model would not think of
// one by itself; leave `toolChoice` out and it is up to the model.
//
//   node examples/tools.js [folder of a model]

import { loadModel } from "exllama-ts";

const functions = { add: ({ a, b }) => a + b };
const number = { type: "integer", minimum: 0, maximum: 999 };
const tools = [
  {
    type: "function",
    function: {
      name: "add",
      description: "Adds two whole numbers.",
      parameters: { type: "object", properties: { a: number, b: number }, required: ["a", "b"] },
    },
  },
];

const model = await loadModel(process.argv[2]);
const messages = [{ role: "user", content: "What is 2 plus 3?" }];

const { toolCalls = [] } = await model.chat(messages, { tools, toolChoice: "required", parallelToolCalls: false, seed: 1 })
  .result;
messages.push({ role: "assistant", content: null, tool_calls: toolCalls });
for (const call of toolCalls) {
  const given = JSON.parse(call.function.arguments);
  const result = functions[call.function.name](given);
  console.log(`${call.function.name}(${JSON.stringify(given)}) = ${result}`);
  messages.push({ role: "tool", tool_call_id: call.id, content: String(result) });
}

const { text } = await model.chat(messages, { tools, toolChoice: "none", maxTokens: 32, seed: 1 }).result;
console.log(text);

await model.dispose();
