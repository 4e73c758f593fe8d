// A checkpoint in a folder. Opening it reads its small JSON files and the headers of its
// safetensors files; the files stay open, so that what was checked is what is read later,
// even if somebody moves the folder meanwhile.

import { type FileHandle, open, readdir, readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import type { Checkpoint, CheckpointConfigs, CheckpointHeaders, TensorInfo } from "./checkpoint.js";
import { CheckpointConfigError, CheckpointIndexError, CheckpointNotFoundError, CheckpointReadError } from "./errors.js";
import { chooseWeightFiles, joinTensors, readShardIndex, type ShardIndex } from "./files.js";
import { CONFIG_FILES, MAX_JSON_BYTES, parseJsonFile } from "./json-files.js";
import { LENGTH_BYTES, parseSafetensorsHeader, readHeaderLength } from "./safetensors.js";

/** One read call asks for no more: some systems refuse 2 GiB and above. */
const MAX_READ_BYTES = 2 ** 30;

/**
 * Opens a folder with config.json and safetensors files. Reads headers only.
 *
 * @throws {CheckpointNotFoundError} no such folder, not a folder, unreadable, or no safetensors in it
 * @throws {CheckpointConfigError} config.json missing, or a JSON file that cannot be parsed
 * @throws {CheckpointIndexError} a malformed shard index, missing shards, or tensors not where it says
 * @throws {SafetensorsError} a file that breaks the format
 */
export async function openCheckpoint(folder: string): Promise<Checkpoint> {
  const names = await listFolder(folder);
  const configs = await readConfigs(folder, names);
  const weights = chooseWeightFiles(names, folder);
  const index = weights.kind === "index" ? await readIndex(folder, names, weights.index) : null;
  const handles = new Map<string, FileHandle>();
  try {
    const headers: TensorInfo[][] = [];
    for (const file of index?.files ?? [weights.kind === "single" ? weights.file : ""]) {
      const handle = await openFile(folder, file);
      handles.set(file, handle);
      headers.push(await readHeader(handle, file));
    }
    return new LocalCheckpoint(folder, configs, joinTensors(headers, index), handles);
  } catch (error) {
    await closeAll(handles);
    throw error;
  }
}

/**
 * Reads the tensor headers of one safetensors file outside a checkpoint folder (an adapter, a golden file).
 * Its tensors' `file` is the path as given.
 *
 * @throws {CheckpointNotFoundError} when it cannot be opened
 * @throws {SafetensorsError} when it breaks the format
 */
export async function openSafetensors(path: string): Promise<Checkpoint> {
  const handle = await openFile("", path);
  try {
    const tensors = joinTensors([await readHeader(handle, path)], null);
    return new LocalCheckpoint(path, { config: null, generation: null, quantize: null }, tensors, new Map([[path, handle]]));
  } catch (error) {
    await handle.close();
    throw error;
  }
}

class LocalCheckpoint implements Checkpoint {
  readonly source: string;
  readonly configs: CheckpointConfigs;
  readonly tensors: CheckpointHeaders["tensors"];
  readonly #handles: Map<string, FileHandle>;

  constructor(
    source: string,
    configs: CheckpointConfigs,
    tensors: ReadonlyMap<string, TensorInfo>,
    handles: Map<string, FileHandle>,
  ) {
    this.source = source;
    this.configs = configs;
    this.tensors = tensors;
    this.#handles = handles;
  }

  async read(tensor: TensorInfo, offset: number, into: Uint8Array): Promise<void> {
    if (!(Number.isSafeInteger(offset) && offset >= 0 && offset + into.byteLength <= tensor.bytes))
      throw new CheckpointReadError(
        `bytes ${offset} to ${offset + into.byteLength} of tensor ${tensor.name} do not exist; it has ${tensor.bytes}`,
      );
    const handle = this.#handles.get(tensor.file);
    if (!handle) throw new CheckpointReadError(`${tensor.file} of ${this.source} is not open`);
    await readFully(handle, tensor.start + offset, into, tensor.file);
  }

  async close(): Promise<void> {
    await closeAll(this.#handles);
  }
}

async function listFolder(folder: string): Promise<string[]> {
  try {
    return (await readdir(folder)).sort();
  } catch (cause) {
    const hint = "Name a folder that holds config.json and safetensors files.";
    switch ((cause as NodeJS.ErrnoException).code) {
      case "ENOENT":
        throw new CheckpointNotFoundError(`there is no folder ${folder}`, { hint, cause });
      case "ENOTDIR":
        throw new CheckpointNotFoundError(`${folder} is a file; the folder of the whole checkpoint is needed`, { hint, cause });
      default:
        throw new CheckpointNotFoundError(`the folder ${folder} cannot be read: ${(cause as Error).message}`, { cause });
    }
  }
}

async function readConfigs(folder: string, names: readonly string[]): Promise<CheckpointConfigs> {
  if (!names.includes(CONFIG_FILES.config))
    throw new CheckpointConfigError(`${folder} has no config.json`, {
      hint: "Every checkpoint has one beside its weights; get it from where the weights came.",
    });
  const read = (name: string) => (names.includes(name) ? readJson(folder, name) : null);
  return {
    config: await read(CONFIG_FILES.config),
    generation: await read(CONFIG_FILES.generation),
    quantize: await read(CONFIG_FILES.quantize),
  };
}

async function readJson(folder: string, name: string): Promise<unknown> {
  const path = join(folder, name);
  let bytes: Uint8Array;
  try {
    const info = await stat(path);
    if (!info.isFile()) throw new CheckpointConfigError(`${path} is not a file`);
    if (info.size > MAX_JSON_BYTES)
      throw new CheckpointConfigError(`${path} has ${info.size} bytes; at most ${MAX_JSON_BYTES} are read`);
    bytes = await readFile(path);
  } catch (cause) {
    if (cause instanceof CheckpointConfigError) throw cause;
    throw new CheckpointConfigError(`${path} cannot be read: ${(cause as Error).message}`, { cause });
  }
  return parseJsonFile(bytes, path);
}

async function readIndex(folder: string, names: readonly string[], name: string): Promise<ShardIndex> {
  const index = readShardIndex(await readJson(folder, name), join(folder, name));
  const missing = index.files.filter((file) => !names.includes(file));
  if (missing.length > 0)
    throw new CheckpointIndexError(
      `${missing.length} of ${index.files.length} shards are missing in ${folder}: ${missing[0]}, …`,
      {
        hint: "The download is not complete; get the missing files.",
        details: { missing },
      },
    );
  return index;
}

async function openFile(folder: string, file: string): Promise<FileHandle> {
  const path = join(folder, file);
  try {
    // Before opening: a named pipe would wait for somebody to write.
    if (!(await stat(path)).isFile()) throw new CheckpointNotFoundError(`${path} is not a file`);
    return await open(path, "r");
  } catch (cause) {
    if (cause instanceof CheckpointNotFoundError) throw cause;
    throw new CheckpointNotFoundError(`${path} cannot be opened: ${(cause as Error).message}`, { cause });
  }
}

async function readHeader(handle: FileHandle, file: string): Promise<TensorInfo[]> {
  const { size } = await handle.stat();
  const where = { file, fileBytes: size };
  const prefix = new Uint8Array(Math.min(LENGTH_BYTES, size));
  await readFully(handle, 0, prefix, file);
  const header = new Uint8Array(readHeaderLength(prefix, where));
  await readFully(handle, LENGTH_BYTES, header, file);
  return parseSafetensorsHeader(header, where);
}

async function readFully(handle: FileHandle, position: number, into: Uint8Array, file: string): Promise<void> {
  for (let done = 0; done < into.byteLength; ) {
    let bytesRead: number;
    try {
      ({ bytesRead } = await handle.read(into, done, Math.min(into.byteLength - done, MAX_READ_BYTES), position + done));
    } catch (cause) {
      throw new CheckpointReadError(`${file} cannot be read: ${(cause as Error).message}`, { cause });
    }
    if (bytesRead === 0)
      throw new CheckpointReadError(`${file} has become shorter: byte ${position + done} is no longer there`, {
        hint: "Something wrote to the checkpoint while it was open.",
      });
    done += bytesRead;
  }
}

async function closeAll(handles: Map<string, FileHandle>): Promise<void> {
  const open = [...handles.values()];
  handles.clear();
  await Promise.all(open.map((handle) => handle.close()));
}
