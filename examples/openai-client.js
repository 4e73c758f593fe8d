// The openai package against `exllama serve`: only the base address is another one.
//
//   exllama serve &
//   node examples/openai-client.js

import OpenAI from "openai";

const client = new OpenAI({
  baseURL: process.env.OPENAI_BASE_URL ?? "http://127.0.0.1:5005/v1",
  apiKey: process.env.OPENAI_API_KEY ?? "none", // one of the server's keys, where it has some
});
const [{ id: model }] = (await client.models.list()).data;
console.log(`model: ${model}`);

const stream = await client.chat.completions.create({
  model,
  messages: [{ role: "user", content: "Tell me a story about a fox." }],
  max_tokens: 40,
  seed: 1,
  stream: true,
});
for await (const chunk of stream) process.stdout.write(chunk.choices[0]?.delta.content ?? "");
console.log();

const { choices } = await client.chat.completions.create({
  model,
  messages: [{ role: "user", content: "Which animal is it?" }],
  response_format: {
    type: "json_schema",
    json_schema: {
      name: "animal",
      strict: true,
      schema: {
        type: "object",
        properties: { animal: { enum: ["fox", "cat", "dog"] } },
        required: ["animal"],
        additionalProperties: false,
      },
    },
  },
});
console.log(JSON.parse(choices[0].message.content));
