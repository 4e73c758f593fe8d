// Vercel's AI SDK against `exllama serve`: text as a stream, and an object of a zod schema.
//
//   exllama serve &
//   node examples/ai-sdk.js

import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateObject, streamText } from "ai";
import { z } from "zod";

const exllama = createOpenAICompatible({
  name: "exllama",
  baseURL: process.env.OPENAI_BASE_URL ?? "http://127.0.0.1:5005/v1",
  apiKey: process.env.OPENAI_API_KEY,
  supportsStructuredOutputs: true,
});
const model = exllama(process.env.MODEL ?? "demo"); // the name of the folder that is served

const { textStream } = streamText({ model, prompt: "Tell me a story about a bird.", maxOutputTokens: 40, seed: 1 });
for await (const piece of textStream) process.stdout.write(piece);
console.log();

const { object } = await generateObject({
  model,
  prompt: "Invent a bird.",
  schema: z.object({ name: z.string().max(12), color: z.enum(["red", "blue", "green"]), wings: z.int().min(1).max(2) }),
  seed: 1,
});
console.log(object);
