// The body of POST /v1/embeddings.

import { z } from "zod";
import { modelShape } from "../served-model.js";
import { harmlessShape } from "./sampling.js";

/** As in OpenAI's API. */
const MOST_INPUTS = 2048;

const text = z.string().min(1, { error: "there is nothing to embed in an empty text" });
const ids = z.array(z.int().min(0)).min(1);

export const embeddingRequest = z.strictObject({
  ...modelShape,
  input: z.union([text, z.array(text).min(1).max(MOST_INPUTS), ids, z.array(ids).min(1).max(MOST_INPUTS)]),
  encoding_format: z.enum(["float", "base64"]).nullish(),
  user: harmlessShape.user,
});

/** Each input, which gets a vector of its own. */
export function inputsOf({ input }: z.output<typeof embeddingRequest>): Array<string | number[]> {
  if (typeof input === "string") return [input];
  return typeof input[0] === "number" ? [input as number[]] : (input as Array<string | number[]>);
}
