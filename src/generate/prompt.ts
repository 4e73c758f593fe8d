// Ids from outside.

import { EmptyPromptError, TokenIdError } from "./errors.js";

/**
 * The ids as the engine keeps them.
 *
 * @param what as a message names it
 * @throws {EmptyPromptError}
 * @throws {TokenIdError} for anything that is not a whole number below `vocabSize`
 */
export function checkIds(ids: ArrayLike<number>, vocabSize: number, what = "the prompt"): Int32Array {
  if (ids.length === 0) throw new EmptyPromptError();
  for (let i = 0; i < ids.length; i++) {
    const id = ids[i]!;
    if (!(Number.isInteger(id) && id >= 0 && id < vocabSize)) throw new TokenIdError(`token ${i} of ${what}`, id, vocabSize);
  }
  return Int32Array.from(ids);
}
