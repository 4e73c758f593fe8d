// A file that torch.save wrote (`.bin`, `.pt`), read as a file of tensors: a zip archive of stored
// entries, one with the pickle that describes the tensors, one for each storage. The pickle is
// read without running anything (pickle.ts); contents are read in ranges, like safetensors.

import { type FileHandle, open, stat } from "node:fs/promises";
import type { Checkpoint, Dtype, TensorInfo } from "../checkpoint/checkpoint.js";
import { CheckpointReadError } from "../checkpoint/errors.js";
import { AdapterNotFoundError, TorchFileError } from "./errors.js";
import { readPickle } from "./pickle.js";
import { isDictionary, isTensor, type PickledTensor } from "./pickled-values.js";
import { type RangeReader, readStoredZip, type StoredEntry } from "./stored-zip.js";

/** The description of an adapter's tensors takes some hundred bytes each. */
const MOST_PICKLE_BYTES = 2 ** 24;
const MOST_DIMENSIONS = 8;

const STORAGES: Readonly<Record<string, { readonly dtype: Dtype; readonly bytes: number }>> = {
  "torch.FloatStorage": { dtype: "F32", bytes: 4 },
  "torch.HalfStorage": { dtype: "F16", bytes: 2 },
  "torch.BFloat16Storage": { dtype: "BF16", bytes: 2 },
};

/**
 * Opens the file and reads what describes its tensors.
 *
 * @throws {AdapterNotFoundError} when it cannot be opened
 * @throws {TorchFileError} when it is damaged, or holds anything but a dictionary of plain tensors
 */
export async function openTorchFile(path: string): Promise<Checkpoint> {
  const handle = await openFile(path);
  try {
    const file = await rangesOf(handle, path);
    const archive = await readStoredZip(file);
    const root = rootOf(archive, path);
    await checkByteOrder(file, archive.get(`${root}byteorder`));
    const pickle = archive.get(`${root}data.pkl`)!;
    if (pickle.bytes > MOST_PICKLE_BYTES)
      throw new TorchFileError(
        path,
        `the description of its tensors has ${pickle.bytes} bytes; at most ${MOST_PICKLE_BYTES} are read`,
      );
    const value = readPickle(await file.read(pickle.start, pickle.bytes), path);
    if (!isDictionary(value)) throw new TorchFileError(path, "it holds something else than a dictionary of tensors");
    const tensors = new Map<string, TensorInfo>();
    for (const [name, tensor] of value.entries) {
      if (typeof name !== "string") throw new TorchFileError(path, "a key of its dictionary is not a text");
      if (!isTensor(tensor)) throw new TorchFileError(path, `${show(name)} is not a tensor`);
      tensors.set(name, place(name, tensor, archive, root, path));
    }
    return new TorchFile(path, tensors, file, handle);
  } catch (error) {
    await handle.close();
    throw error;
  }
}

class TorchFile implements Checkpoint {
  readonly source: string;
  readonly configs = { config: null, generation: null, quantize: null };
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  readonly #file: RangeReader;
  #handle: FileHandle | null;

  constructor(source: string, tensors: ReadonlyMap<string, TensorInfo>, file: RangeReader, handle: FileHandle) {
    this.source = source;
    this.tensors = tensors;
    this.#file = file;
    this.#handle = handle;
  }

  async read({ start, bytes, name }: TensorInfo, offset: number, into: Uint8Array): Promise<void> {
    if (!(Number.isSafeInteger(offset) && offset >= 0 && offset + into.byteLength <= bytes))
      throw new CheckpointReadError(`bytes ${offset} to ${offset + into.byteLength} of ${name} do not exist; it has ${bytes}`);
    into.set(await this.#file.read(start + offset, into.byteLength));
  }

  async close(): Promise<void> {
    const handle = this.#handle;
    this.#handle = null;
    await handle?.close();
  }
}

async function openFile(path: string): Promise<FileHandle> {
  try {
    // Before opening: a named pipe would wait for somebody to write.
    if (!(await stat(path)).isFile()) throw new AdapterNotFoundError(`${path} is not a file`);
    return await open(path, "r");
  } catch (cause) {
    if (cause instanceof AdapterNotFoundError) throw cause;
    throw new AdapterNotFoundError(`${path} cannot be opened: ${(cause as Error).message}`, { cause });
  }
}

async function rangesOf(handle: FileHandle, name: string): Promise<RangeReader> {
  const { size } = await handle.stat();
  return {
    name,
    bytes: size,
    read: async (start, bytes) => {
      if (start < 0 || start + bytes > size)
        throw new TorchFileError(name, `bytes ${start} to ${start + bytes} are not there; it has ${size}`);
      const into = new Uint8Array(bytes);
      for (let done = 0; done < bytes; ) {
        const { bytesRead } = await handle.read(into, done, bytes - done, start + done);
        if (bytesRead === 0) throw new TorchFileError(name, `it has become shorter: byte ${start + done} is no longer there`);
        done += bytesRead;
      }
      return into;
    },
  };
}

/** The folder inside the archive that holds everything. */
function rootOf(archive: ReadonlyMap<string, StoredEntry>, path: string): string {
  const roots = [...archive.keys()].filter((name) => /^[^/]+\/data\.pkl$/.test(name));
  if (roots.length !== 1)
    throw new TorchFileError(
      path,
      roots.length === 0 ? "it is a zip archive, but not one of PyTorch's" : "it holds several archives",
    );
  return roots[0]!.slice(0, -"data.pkl".length);
}

async function checkByteOrder(file: RangeReader, entry: StoredEntry | undefined): Promise<void> {
  if (!entry) return; // written before there was another
  const order = entry.bytes <= 16 ? new TextDecoder().decode(await file.read(entry.start, entry.bytes)).trim() : "unknown";
  if (order !== "little") throw new TorchFileError(file.name, `its byte order is ${show(order)}; little is read`);
}

function place(
  name: string,
  { storage, offset, shape, strides }: PickledTensor,
  archive: ReadonlyMap<string, StoredEntry>,
  root: string,
  path: string,
): TensorInfo {
  const fault = (message: string) => new TorchFileError(path, `${show(name)} ${message}`, { details: { tensor: name } });
  const type = Object.hasOwn(STORAGES, storage.type) ? STORAGES[storage.type] : undefined;
  if (!type) throw fault(`is kept in a ${storage.type}; floats of 16 and 32 bits are read`);
  if (shape.length > MOST_DIMENSIONS) throw fault(`has ${shape.length} dimensions`);
  const elements = shape.reduce((product, size) => product * size, 1);
  if (!isContiguous(shape, strides)) throw fault("is a view of other tensors, not stored by itself row by row");
  const entry = archive.get(`${root}data/${storage.key}`);
  if (!entry) throw fault(`is kept in storage ${show(storage.key)}, which is not there`);
  if (entry.bytes !== storage.elements * type.bytes)
    throw fault(`is kept in a storage of ${entry.bytes} bytes; ${storage.elements * type.bytes} were announced`);
  if (!(offset + elements <= storage.elements)) throw fault(`reaches beyond its storage of ${storage.elements} elements`);
  return {
    name,
    dtype: type.dtype,
    shape,
    file: path,
    start: entry.start + offset * type.bytes,
    bytes: elements * type.bytes,
  };
}

function isContiguous(shape: readonly number[], strides: readonly number[]): boolean {
  let step = 1;
  for (let i = shape.length - 1; i >= 0; i--) {
    if (shape[i] !== 1 && strides[i] !== step) return false;
    step *= shape[i]!;
  }
  return true;
}

function show(text: string): string {
  return JSON.stringify(text.length > 80 ? `${text.slice(0, 79)}…` : text);
}
