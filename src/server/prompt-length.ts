// Texts that cannot fit the context, found out without turning all of them into tokens: that takes the
// engine's time, seconds for megabytes, while everybody else's answer waits.

import type { Model } from "../engine/model.js";
import { InvalidRequestError } from "./errors.js";

/** Texts of so many characters for each position may be too long; ordinary ones have 3 to 6. */
const CHARACTERS_A_TOKEN = 8;
/** Cutting a text changes its tokens near the cut only; this is far more than that. */
const SURELY = 1.5;

/**
 * Looks at the beginning of long texts.
 *
 * @param texts that together are one prompt
 * @throws {InvalidRequestError} where the beginning alone is too long; what passes may still be
 */
export async function refuseTooLong(model: Model, texts: readonly string[], param: string): Promise<void> {
  const { context } = model.plan;
  const enough = context * CHARACTERS_A_TOKEN;
  if (texts.reduce((sum, text) => sum + text.length, 0) <= enough) return;
  let beginning = "";
  for (const text of texts) beginning += text.slice(0, enough - beginning.length);
  const tokens = (await model.tokenize(beginning)).length;
  if (tokens <= context * SURELY) return;
  throw new InvalidRequestError(`the prompt has more than ${tokens} tokens, and the context ${context}`, {
    code: "CONTEXT_LENGTH_EXCEEDED",
    param,
    hint: "Shorten the prompt, or load the model with a larger --ctx.",
  });
}
