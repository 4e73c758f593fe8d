// The ids that begin and end a text: generation_config.json has the last word, and may name
// several ends (of the text, of a turn in a chat).

import type { Architecture } from "./architectures/architecture.js";
import { ConfigValues, describe } from "./config-values.js";
import { ModelConfigError } from "./errors.js";
import type { ModelSpec } from "./spec.js";

const ID = { min: 0, max: 2 ** 31 - 1 };

/**
 * @param generation generation_config.json, or `null`
 * @throws {ModelConfigError} when they are no ids, or the first lies outside the vocabulary
 */
export function readTokenIds(
  config: ConfigValues,
  generation: unknown,
  architecture: Architecture,
  vocabulary: number,
): Pick<ModelSpec, "bosId" | "eosIds"> {
  const generationConfig = generation === null ? null : new ConfigValues(generation, "generation_config.json");
  const source = (key: string) => (generationConfig?.has(key) ? generationConfig : config);
  const bosSource = source("bos_token_id");
  const bosId = bosSource.isNull("bos_token_id") ? null : bosSource.integer("bos_token_id", ID, architecture.defaultBosId);
  // An end that can never come is harmless; a beginning without an embedding is not.
  if (bosId !== null && bosId >= vocabulary)
    throw new ModelConfigError(`${bosSource.where}: bos_token_id ${bosId} is outside the vocabulary of ${vocabulary}`);
  return { bosId, eosIds: readEosIds(source("eos_token_id"), architecture.defaultEosId) };
}

function readEosIds(values: ConfigValues, fallback: number | null): number[] {
  const list = values.raw("eos_token_id");
  if (Array.isArray(list)) {
    if (list.length > 1000 || !list.every((id) => Number.isSafeInteger(id) && id >= ID.min && id <= ID.max))
      throw new ModelConfigError(`${values.where}: eos_token_id is ${describe(list)}; token ids are needed`);
    return [...new Set(list as number[])];
  }
  const id = values.isNull("eos_token_id") ? null : values.integer("eos_token_id", ID, fallback);
  return id === null ? [] : [id];
}
