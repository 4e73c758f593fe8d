// A checkpoint's headers, wherever it lies: a folder, or a remote address.

import { isRemoteAddress } from "../checkpoint/address.js";
import type { CheckpointHeaders } from "../checkpoint/checkpoint.js";
import { openCheckpoint } from "../checkpoint/local.js";
import { fetchCheckpointHeaders } from "../checkpoint/remote.js";
import { isSyntheticAddress, openSynthetic } from "../checkpoint/synthetic.js";
import { UsageError } from "../errors.js";

/**
 * Reads what planning needs, no weights.
 *
 * @param path a folder, `hf:owner/name`, an http(s) address, or a synthetic one
 */
export async function readHeaders(path: string, options: { signal?: AbortSignal } = {}): Promise<CheckpointHeaders> {
  if (isSyntheticAddress(path)) return openSynthetic(path);
  if (isRemoteAddress(path)) return fetchCheckpointHeaders(path, options);
  const checkpoint = await openCheckpoint(path);
  await checkpoint.close();
  return checkpoint;
}

/** @throws {UsageError} for what can be planned, but not loaded from */
export function refuseRemote(path: string): void {
  if (!isRemoteAddress(path)) return;
  throw new UsageError(`${path} is a remote address; a model is loaded from a folder`, {
    hint: "remote checkpoints can be planned: exllama plan, or plan() of the library",
  });
}
