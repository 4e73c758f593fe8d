// Which files make up a checkpoint, decided from names alone, so that a folder and a remote
// repository are understood by the same rules: `model.safetensors` (as transformers prefers
// it), else the shards that a `*.safetensors.index.json` lists, else the only `*.safetensors`
// there is, whatever its name (GPTQ checkpoints often have one of their own).

import type { TensorInfo } from "./checkpoint.js";
import { CheckpointIndexError, CheckpointNotFoundError } from "./errors.js";

/** Where the tensors are. */
export type WeightFiles = { readonly kind: "single"; readonly file: string } | { readonly kind: "index"; readonly index: string };

const OTHER_WEIGHTS = /\.(bin|pt|pth|gguf|ggml|h5|msgpack|onnx|npz)$/i;
/** Weights in a format that this program does not read. */
export function isOtherWeightFile(name: string): boolean {
  return OTHER_WEIGHTS.test(name);
}

/** The largest published models have some two hundred. */
const MAX_SHARDS = 2000;
const INDEX = /\.safetensors\.index\.json$/;

/**
 * @param names files in the folder or repository, without subfolders
 * @param source the folder or address, for messages
 * @throws {CheckpointNotFoundError} when there are no safetensors files, or several and nothing says which
 */
export function chooseWeightFiles(names: readonly string[], source: string): WeightFiles {
  if (names.includes("model.safetensors")) return { kind: "single", file: "model.safetensors" };
  if (names.includes("model.safetensors.index.json")) return { kind: "index", index: "model.safetensors.index.json" };
  const indexes = names.filter((name) => INDEX.test(name));
  if (indexes.length === 1) return { kind: "index", index: indexes[0]! };
  const files = names.filter((name) => name.endsWith(".safetensors")).sort();
  if (files.length === 1) return { kind: "single", file: files[0]! };
  if (files.length > 1)
    throw new CheckpointNotFoundError(`${source} holds ${files.length} safetensors files and no index: ${list(files)}`, {
      hint: "Add model.safetensors.index.json, or keep one checkpoint in the folder.",
      details: { files },
    });
  const others = names.filter((name) => OTHER_WEIGHTS.test(name)).sort();
  if (others.length > 0)
    throw new CheckpointNotFoundError(`${source} holds no safetensors files, only ${list(others)}`, {
      hint: "This program reads safetensors only: look for a safetensors version of the model, or convert it.",
      details: { files: others },
    });
  throw new CheckpointNotFoundError(`${source} holds no safetensors files`, {
    hint: "A checkpoint has config.json and model.safetensors, or shards with model.safetensors.index.json.",
    details: { files: names.slice(0, 20) },
  });
}

/** A shard index that has been checked: tensor → file, and the files in the order of their names. */
export interface ShardIndex {
  readonly weightMap: ReadonlyMap<string, string>;
  readonly files: readonly string[];
}

/**
 * Reads `{"weight_map": {tensor: file}}`.
 *
 * @param index name of the index file, for messages
 * @throws {CheckpointIndexError} on anything else, and on file names that would leave the folder
 */
export function readShardIndex(value: unknown, index: string): ShardIndex {
  const map = isObject(value) ? value.weight_map : undefined;
  if (!isObject(map)) throw new CheckpointIndexError(`${index} has no weight_map from tensor names to file names`);
  const weightMap = new Map<string, string>();
  for (const [tensor, file] of Object.entries(map)) {
    if (!isPlainFileName(file))
      throw new CheckpointIndexError(
        `${index} places tensor ${JSON.stringify(tensor)} in ${JSON.stringify(file)}, which is not the name of a safetensors file in the same folder`,
        { details: { tensor } },
      );
    weightMap.set(tensor, file);
  }
  if (weightMap.size === 0) throw new CheckpointIndexError(`the weight_map of ${index} is empty`);
  const files = [...new Set(weightMap.values())].sort();
  if (files.length > MAX_SHARDS)
    throw new CheckpointIndexError(`${index} names ${files.length} files; at most ${MAX_SHARDS} are opened`);
  return { weightMap, files };
}

/**
 * Joins the tensors of all files.
 *
 * @throws {CheckpointIndexError} when a tensor is in two files, or not where the index says
 */
export function joinTensors(files: readonly (readonly TensorInfo[])[], index: ShardIndex | null): Map<string, TensorInfo> {
  const tensors = new Map<string, TensorInfo>();
  for (const tensor of files.flat()) {
    const other = tensors.get(tensor.name);
    if (other) throw new CheckpointIndexError(`tensor ${tensor.name} is both in ${other.file} and in ${tensor.file}`);
    tensors.set(tensor.name, tensor);
  }
  for (const [name, file] of index?.weightMap ?? []) {
    const tensor = tensors.get(name);
    if (tensor?.file !== file)
      throw new CheckpointIndexError(
        `the index places tensor ${name} in ${file}, but it is ${tensor ? `in ${tensor.file}` : "not there"}`,
        { hint: "Index and shards are of different versions of the model; get all of them again.", details: { tensor: name } },
      );
  }
  return tensors;
}

/** Neither a path nor a device: the file lies beside the one that names it. */
export function isPlainFileName(value: unknown): value is string {
  return typeof value === "string" && /^[^/\\:\p{Cc}]{1,255}$/u.test(value) && value.endsWith(".safetensors") && value[0] !== ".";
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function list(names: readonly string[]): string {
  return names.length > 5 ? `${names.slice(0, 5).join(", ")} and ${names.length - 5} more` : names.join(", ");
}
