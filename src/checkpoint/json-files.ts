// The small JSON files beside the weights.

import { CheckpointConfigError } from "./errors.js";

/** Names of the files that `CheckpointConfigs` holds. */
export const CONFIG_FILES = {
  config: "config.json",
  generation: "generation_config.json",
  quantize: "quantize_config.json",
} as const;

/** Longest JSON file that is read, bytes: the shard index of a very large model has a few million. */
export const MAX_JSON_BYTES = 64_000_000;

/** @throws {CheckpointConfigError} when the bytes are not JSON in UTF-8 */
export function parseJsonFile(bytes: Uint8Array, name: string): unknown {
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    throw new CheckpointConfigError(`${name} is not valid UTF-8`);
  }
  try {
    return JSON.parse(text) as unknown;
  } catch (cause) {
    throw new CheckpointConfigError(`${name} is not valid JSON: ${(cause as Error).message}`, { cause });
  }
}
