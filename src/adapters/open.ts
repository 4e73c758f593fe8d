// An adapter's folder → an adapter whose weights can be read: config and tensor headers are
// judged first, against the model; contents are read linear by linear, and checked on the way.

import { readFile, stat } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import type { Checkpoint, TensorInfo } from "../checkpoint/checkpoint.js";
import { parseJsonFile } from "../checkpoint/json-files.js";
import { openSafetensors } from "../checkpoint/local.js";
import { decodeValues, type PlainDtype } from "../checkpoint/plain-values.js";
import type { AdapterSpec, AdapterTarget } from "../model/adapter.js";
import type { ModelSpec } from "../model/spec.js";
import { type AdapterTensors, readAdapterTensors } from "./adapter-tensors.js";
import { readAdapterConfig } from "./config.js";
import { AdapterConfigError, AdapterNotFoundError, AdapterTensorError } from "./errors.js";

const CONFIG = "adapter_config.json";
/** In the order of preference. */
const WEIGHTS = ["adapter_model.safetensors", "adapter_model.bin"] as const;

/** Real ones have one or two thousand. */
const MOST_CONFIG_BYTES = 2 ** 20;

/** f16's largest number: factors are kept so. */
const MOST_FACTOR = 65504;

/** An adapter's files, open. */
export class OpenAdapter {
  readonly spec: AdapterSpec;
  /** Of its tensors. */
  readonly bytes: number;
  readonly #file: Checkpoint;
  readonly #tensors: AdapterTensors;

  constructor(spec: AdapterSpec, file: Checkpoint, tensors: AdapterTensors) {
    this.spec = spec;
    this.bytes = [...file.tensors.values()].reduce((sum, { bytes }) => sum + bytes, 0);
    this.#file = file;
    this.#tensors = tensors;
  }

  /**
   * The factors of one linear, scale folded into B: A [rank, in], B [out, rank].
   *
   * @throws {AdapterTensorError} for contents that are no usable numbers
   */
  async read(layer: number, target: AdapterTarget): Promise<{ a: Float32Array; b: Float32Array }> {
    const pair = this.#tensors.pair(layer, target);
    if (!pair) throw new Error(`adapter ${this.spec.name} leaves ${target} of layer ${layer} alone`);
    const a = await this.#values(pair.a);
    const b = await this.#values(pair.b);
    for (let i = 0; i < b.length; i++) b[i] = b[i]! * pair.scale;
    checkRange(a, pair.a);
    checkRange(b, pair.b);
    return { a, b };
  }

  /** @throws {AdapterTensorError} when a bias is not zero */
  async checkBiases(): Promise<void> {
    for (const tensor of this.#tensors.biases)
      if ((await this.#values(tensor)).some((value) => value !== 0))
        throw new AdapterTensorError(`${tensor.name} of adapter ${this.spec.name} is not zero: biases are not applied`, {
          hint: "Merge the adapter into the model, or train it with bias none.",
          details: { tensor: tensor.name },
        });
  }

  /** Idempotent. */
  close(): Promise<void> {
    return this.#file.close();
  }

  async #values(tensor: TensorInfo): Promise<Float32Array> {
    const bytes = new Uint8Array(tensor.bytes);
    await this.#file.read(tensor, 0, bytes);
    return decodeValues(tensor.dtype as PlainDtype, bytes);
  }
}

/**
 * Opens an adapter for a model. Reads its config and headers, and its biases.
 *
 * @param path its folder, or its weights file beside adapter_config.json
 * @param name by which requests will ask for it
 * @throws {AdapterNotFoundError | AdapterConfigError | UnsupportedAdapterError | AdapterTensorError}
 * @throws {SafetensorsError | TorchFileError | CheckpointConfigError} for files that break their format
 */
export async function openAdapter(path: string, name: string, spec: ModelSpec): Promise<OpenAdapter> {
  const { folder, weights } = await findFiles(path);
  const config = readAdapterConfig(await readConfig(join(folder, CONFIG)), join(folder, CONFIG));
  const file = await openWeights(weights);
  try {
    const tensors = readAdapterTensors(file.tensors, config, spec, basename(weights));
    const adapter = new OpenAdapter({ name, layers: tensors.layers }, file, tensors);
    await adapter.checkBiases();
    return adapter;
  } catch (error) {
    await file.close();
    throw error;
  }
}

/** What reads PyTorch's own files is much, and they are few. */
async function openWeights(path: string): Promise<Checkpoint> {
  if (path.endsWith(".safetensors")) return openSafetensors(path);
  const { openTorchFile } = await import("./torch-file.js");
  return openTorchFile(path);
}

async function findFiles(path: string): Promise<{ folder: string; weights: string }> {
  const isFolder = await stat(path).then(
    (info) => info.isDirectory(),
    (cause) => {
      throw new AdapterNotFoundError(`there is no adapter at ${path}`, { cause });
    },
  );
  if (!isFolder) return { folder: dirname(path), weights: path };
  for (const name of WEIGHTS) if (await isFile(join(path, name))) return { folder: path, weights: join(path, name) };
  throw new AdapterNotFoundError(`${path} holds neither ${WEIGHTS.join(" nor ")}`, {
    hint: "An adapter's folder has adapter_config.json and its weights, as PEFT saves them.",
  });
}

async function readConfig(path: string): Promise<unknown> {
  const info = await stat(path).catch(() => null);
  if (!info?.isFile())
    throw new AdapterNotFoundError(`${path} is missing`, {
      hint: "It says how strongly the adapter counts; get it from where the weights came.",
    });
  if (info.size > MOST_CONFIG_BYTES)
    throw new AdapterConfigError(`${path} has ${info.size} bytes; at most ${MOST_CONFIG_BYTES} are read`);
  return parseJsonFile(await readFile(path), path);
}

async function isFile(path: string): Promise<boolean> {
  return stat(path).then(
    (info) => info.isFile(),
    () => false,
  );
}

function checkRange(values: Float32Array, { name }: TensorInfo): void {
  const wrong = values.findIndex((value) => !(Math.abs(value) <= MOST_FACTOR));
  if (wrong >= 0)
    throw new AdapterTensorError(`value ${wrong} of ${name} is ${values[wrong]} with its scale: no number that can be used`, {
      hint: "The file is damaged; get it again.",
      details: { tensor: name, index: wrong },
    });
}
