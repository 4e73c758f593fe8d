// Splits a checkpoint's safetensors into files of a bounded size: tensor by tensor through one
// small buffer, into a folder that gets its name when everything in it is complete. Bytes of
// tensors are copied as they are; the small files beside them come along.

import { constants } from "node:fs";
import { copyFile, type FileHandle, mkdir, open, readdir, rename, rm, stat, statfs, writeFile } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";
import type { Checkpoint, TensorInfo } from "./checkpoint.js";
import { ShardError } from "./errors.js";
import { isOtherWeightFile } from "./files.js";
import { openCheckpoint } from "./local.js";
import { LENGTH_BYTES } from "./safetensors.js";
import { layOutShards, type Shard, type ShardMetadata, shardIndex } from "./shard-layout.js";

/** Tensors pass through a buffer of this size. */
const COPY_BYTES = 8 * 2 ** 20;
/** Files beside the weights are small; a larger one is something else. */
const MOST_OTHER_BYTES = 2 ** 30;

export interface ShardRequest {
  /** The checkpoint's folder. */
  readonly folder: string;
  /** Must not exist; its parent must. */
  readonly out: string;
  /** Most bytes of a file, unless one tensor alone is larger. */
  readonly most: number;
  readonly signal?: AbortSignal;
  readonly onProgress?: (progress: { readonly writtenBytes: number; readonly totalBytes: number }) => void;
}

export interface ShardResult {
  readonly shards: readonly { readonly file: string; readonly tensors: number; readonly bytes: number }[];
  /** Names of the other files that were copied. */
  readonly copied: readonly string[];
}

/**
 * @throws {ShardError} when the output exists, or cannot be written, or the disk has no room for it; nothing is left then
 * @throws what openCheckpoint() throws; the signal's reason when aborted
 */
export async function shardCheckpoint(request: ShardRequest): Promise<ShardResult> {
  const { folder, most, signal } = request;
  const out = resolve(request.out);
  await refuseExisting(out);
  const checkpoint = await openCheckpoint(folder);
  const draft = `${out}.partial-${process.pid}`;
  try {
    const shards = layOutShards(inFileOrder(checkpoint), most, await metadataOf(folder, checkpoint));
    const others = await otherFiles(folder);
    await checkRoom(dirname(out), shards, others);
    await make(draft);
    await writeShards(checkpoint, shards, draft, request);
    await writeFile(join(draft, "model.safetensors.index.json"), shardIndex(shards), { flush: true });
    for (const { name } of others) await copyFile(join(folder, name), join(draft, name), constants.COPYFILE_EXCL);
    await checkWritten(checkpoint, draft);
    signal?.throwIfAborted();
    await refuseExisting(out);
    await rename(draft, out).catch((cause: Error) => {
      throw new ShardError(`${out} could not be given its name: ${cause.message}`, { cause });
    });
    return {
      shards: shards.map(({ file, tensors, bytes }) => ({ file, tensors: tensors.length, bytes })),
      copied: others.map(({ name }) => name),
    };
  } catch (error) {
    await rm(draft, { recursive: true, force: true });
    throw error;
  } finally {
    await checkpoint.close();
  }
}

async function refuseExisting(out: string): Promise<void> {
  const found = await stat(out).catch(() => null);
  if (found)
    throw new ShardError(`${out} exists already`, { hint: "Nothing is ever overwritten: name a folder that is not there yet." });
}

async function make(draft: string): Promise<void> {
  // What an earlier run of the same process number left behind is of no use to anybody.
  await rm(draft, { recursive: true, force: true });
  await mkdir(draft).catch((cause: Error) => {
    throw new ShardError(`no folder can be made in ${dirname(draft)}: ${cause.message}`, { cause });
  });
}

/** As they lie in the files, so that reading goes forward. */
function inFileOrder({ tensors }: Checkpoint): TensorInfo[] {
  return [...tensors.values()].sort((a, b) =>
    a.file === b.file ? a.start - b.start || a.bytes - b.bytes : a.file < b.file ? -1 : 1,
  );
}

/** Of all files together; of the first one that has it where they differ. The headers have been checked when the checkpoint was opened. */
async function metadataOf(folder: string, { tensors }: Checkpoint): Promise<ShardMetadata> {
  const metadata: Record<string, string> = {};
  for (const file of [...new Set([...tensors.values()].map((tensor) => tensor.file))].sort()) {
    const handle = await open(join(folder, file), "r");
    try {
      const length = Buffer.alloc(LENGTH_BYTES);
      await handle.read(length, 0, LENGTH_BYTES, 0);
      const json = Buffer.alloc(Number(length.readBigUInt64LE()));
      await handle.read(json, 0, json.length, LENGTH_BYTES);
      const header = JSON.parse(json.toString("utf8")) as { __metadata__?: Record<string, string> };
      Object.assign(metadata, { ...header.__metadata__, ...metadata });
    } finally {
      await handle.close();
    }
  }
  return metadata;
}

/** Everything beside the weights that a program may look for. */
async function otherFiles(folder: string): Promise<{ name: string; bytes: number }[]> {
  const others: { name: string; bytes: number }[] = [];
  for (const name of (await readdir(folder)).sort()) {
    if (/\.safetensors(\.index\.json)?$/.test(name) || isOtherWeightFile(name)) continue;
    const info = await stat(join(folder, name));
    if (info.isFile() && info.size <= MOST_OTHER_BYTES) others.push({ name, bytes: info.size });
  }
  return others;
}

async function checkRoom(parent: string, shards: readonly Shard[], others: readonly { bytes: number }[]): Promise<void> {
  const needed = [...shards, ...others].reduce((sum, { bytes }) => sum + bytes, 0);
  const { bavail, bsize } = await statfs(parent).catch((cause: Error) => {
    throw new ShardError(`${parent} cannot be written to: ${cause.message}`, { cause });
  });
  if (bavail * bsize < needed)
    throw new ShardError(`${needed} bytes are needed in ${parent}, ${bavail * bsize} are free`, {
      details: { needed, free: bavail * bsize },
    });
}

async function writeShards(
  checkpoint: Checkpoint,
  shards: readonly Shard[],
  draft: string,
  { signal, onProgress }: ShardRequest,
): Promise<void> {
  const buffer = new Uint8Array(COPY_BYTES);
  const totalBytes = shards.reduce((sum, { bytes }) => sum + bytes, 0);
  let writtenBytes = 0;
  for (const { file, tensors, header } of shards) {
    const handle = await open(join(draft, file), "wx");
    const write = async (bytes: Uint8Array) => {
      await writeFully(handle, bytes, file);
      writtenBytes += bytes.byteLength;
      onProgress?.({ writtenBytes, totalBytes });
    };
    try {
      await write(header);
      for (const tensor of tensors)
        for (let done = 0; done < tensor.bytes; done += COPY_BYTES) {
          signal?.throwIfAborted();
          const part = buffer.subarray(0, Math.min(COPY_BYTES, tensor.bytes - done));
          await checkpoint.read(tensor, done, part);
          await write(part);
        }
      await handle.sync();
    } finally {
      await handle.close();
    }
  }
}

async function writeFully(handle: FileHandle, bytes: Uint8Array, file: string): Promise<void> {
  for (let done = 0; done < bytes.byteLength; ) {
    const { bytesWritten } = await handle.write(bytes, done, bytes.byteLength - done).catch((cause: Error) => {
      throw new ShardError(`${file} cannot be written: ${cause.message}`, { cause });
    });
    done += bytesWritten;
  }
}

/** What was written opens as a checkpoint with the same tensors. */
async function checkWritten({ tensors }: Checkpoint, draft: string): Promise<void> {
  const written = await openCheckpoint(draft);
  await written.close();
  const same = [...tensors.values()].every(({ name, dtype, shape, bytes }) => {
    const found = written.tensors.get(name);
    return found?.dtype === dtype && found.bytes === bytes && String(found.shape) === String(shape);
  });
  if (!same || written.tensors.size !== tensors.size)
    throw new Error(`${basename(draft)} does not hold the tensors that were written to it`);
}
