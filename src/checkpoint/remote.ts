// The headers of a checkpoint that is somewhere else: its small JSON files whole, and of
// each safetensors file 8 bytes and then the header, by HTTP range requests. No weight byte
// is read, so a plan for a model of a hundred gigabytes takes a second.

import { environment, type HubSettings, type RemoteBase, remoteBases } from "./address.js";
import type { CheckpointHeaders, TensorInfo } from "./checkpoint.js";
import { CheckpointConfigError, CheckpointIndexError, CheckpointNotFoundError, RemoteCheckpointError } from "./errors.js";
import { chooseWeightFiles, isPlainFileName, joinTensors, readShardIndex, type ShardIndex } from "./files.js";
import { getRange, getSmallFile, type HttpSettings } from "./http.js";
import { CONFIG_FILES, MAX_JSON_BYTES, parseJsonFile } from "./json-files.js";
import { LENGTH_BYTES, parseSafetensorsHeader, readHeaderLength } from "./safetensors.js";

export interface RemoteOptions extends HubSettings {
  /** Ends the requests; the promise rejects with `signal.reason`. */
  readonly signal?: AbortSignal;
  /** Default: the global one. */
  readonly fetch?: typeof globalThis.fetch;
  /** Sent as a bearer token. Default: HF_TOKEN of the environment, for the hub's own address only. */
  readonly token?: string;
  /** Longest time without a byte, ms; default 30,000. */
  readonly timeoutMs?: number;
}

/** Files asked for at the same time. */
const PARALLEL = 8;

/**
 * Reads configs and tensor headers from `hf:owner/name[@revision]`, `https://host/owner/name`
 * (a hub's repository) or the address of a folder. Equal to what `openCheckpoint` finds in a
 * copy of it, but for `source`.
 *
 * @throws {UsageError} when the address is none of these
 * @throws {RemoteCheckpointError} unreachable, refusing, too slow, or without range requests
 * @throws {CheckpointNotFoundError | CheckpointConfigError | CheckpointIndexError | SafetensorsError}
 */
export async function fetchCheckpointHeaders(address: string, options: RemoteOptions = {}): Promise<CheckpointHeaders> {
  // One failure ends the requests beside it, too.
  const group = new AbortController();
  const abort = () => group.abort(options.signal?.reason);
  if (options.signal?.aborted) abort();
  options.signal?.addEventListener("abort", abort, { once: true });
  try {
    return await fetchHeaders(address, { ...options, signal: group.signal });
  } finally {
    options.signal?.removeEventListener("abort", abort);
    group.abort();
  }
}

async function fetchHeaders(address: string, options: RemoteOptions): Promise<CheckpointHeaders> {
  const { http, base, config } = await findBase(address, options);
  const json = (name: string) => getJson(base, name, http);
  const [generation, quantize] = await Promise.all([json(CONFIG_FILES.generation), json(CONFIG_FILES.quantize)]);
  const configs = { config, generation, quantize };

  const single = await fetchHeader(base, "model.safetensors", http);
  if (single) return { source: address, configs, tensors: joinTensors([single], null) };
  const index = await fetchIndex(base, "model.safetensors.index.json", http);
  if (index) return { source: address, configs, tensors: await fetchShards(base, index, http) };
  return { source: address, configs, tensors: await fetchOtherNames(address, base, config, quantize, http) };
}

interface Found {
  readonly base: RemoteBase;
  readonly http: HttpSettings;
  readonly config: unknown;
}

/** The first base that has a config.json. */
async function findBase(address: string, options: RemoteOptions): Promise<Found> {
  const bases = remoteBases(address, options);
  for (const base of bases) {
    const token = options.token ?? (base.trusted ? environment("HF_TOKEN") : undefined);
    const http: HttpSettings = {
      fetch: options.fetch ?? globalThis.fetch,
      headers: token ? { authorization: `Bearer ${token}` } : {},
      signal: options.signal,
      absent: [404],
      timeoutMs: options.timeoutMs ?? 30_000,
    };
    const bytes = await getSmallFile(`${base.files}${CONFIG_FILES.config}`, MAX_JSON_BYTES, http);
    if (bytes)
      return { base, http: { ...http, absent: [404, 403] }, config: parseJsonFile(bytes, `${base.files}${CONFIG_FILES.config}`) };
  }
  throw new CheckpointConfigError(`${address} has no config.json`, {
    hint: "Check the spelling of the address and of the revision.",
    details: { tried: bases.map(({ files }) => `${files}${CONFIG_FILES.config}`) },
  });
}

async function getJson(base: RemoteBase, name: string, http: HttpSettings): Promise<unknown> {
  const bytes = await getSmallFile(`${base.files}${name}`, MAX_JSON_BYTES, http);
  return bytes && parseJsonFile(bytes, `${base.files}${name}`);
}

async function fetchIndex(base: RemoteBase, name: string, http: HttpSettings): Promise<ShardIndex | null> {
  const value = await getJson(base, name, http);
  return value === null ? null : readShardIndex(value, `${base.files}${name}`);
}

/** @returns `null` when there is no such file */
async function fetchHeader(base: RemoteBase, file: string, http: HttpSettings): Promise<TensorInfo[] | null> {
  const url = `${base.files}${encodeURIComponent(file)}`;
  const prefix = await getRange(url, 0, LENGTH_BYTES, http);
  if (!prefix) return null;
  const where = { file, fileBytes: prefix.fileBytes };
  const length = readHeaderLength(prefix.bytes, where);
  const header = length === 0 ? null : await getRange(url, LENGTH_BYTES, length, http);
  if (header && header.fileBytes !== prefix.fileBytes)
    throw new RemoteCheckpointError(`${url} changed its length between two requests`, { details: { url } });
  return parseSafetensorsHeader(header?.bytes ?? new Uint8Array(), where);
}

async function fetchShards(base: RemoteBase, index: ShardIndex, http: HttpSettings): Promise<Map<string, TensorInfo>> {
  const headers: TensorInfo[][] = [];
  for (let first = 0; first < index.files.length; first += PARALLEL) {
    const files = index.files.slice(first, first + PARALLEL);
    const some = await Promise.all(files.map((file) => fetchHeader(base, file, http)));
    some.forEach((header, at) => {
      if (!header)
        throw new CheckpointIndexError(`${base.files} has no ${files[at]}, which its index names`, {
          details: { file: files[at] },
        });
      headers.push(header);
    });
  }
  return joinTensors(headers, index);
}

/** Files of other names: as the hub lists them or, in a plain folder, as AutoGPTQ calls them. */
async function fetchOtherNames(
  address: string,
  base: RemoteBase,
  config: unknown,
  quantize: unknown,
  http: HttpSettings,
): Promise<Map<string, TensorInfo>> {
  if (base.listing) {
    const listing = await getSmallFile(base.listing, MAX_JSON_BYTES, http);
    const names = listing ? listedNames(parseJsonFile(listing, base.listing)) : [];
    const weights = chooseWeightFiles(names, address);
    if (weights.kind === "index") {
      const index = await fetchIndex(base, weights.index, http);
      if (index) return fetchShards(base, index, http);
    } else {
      const header = await fetchHeader(base, weights.file, http);
      if (header) return joinTensors([header], null);
    }
    throw new CheckpointNotFoundError(`${address} lists files that it does not give`);
  }
  const names = quantisedNames(config, quantize);
  for (const name of names) {
    const header = await fetchHeader(base, name, http);
    if (header) return joinTensors([header], null);
  }
  throw new CheckpointNotFoundError(
    `${address} has none of ${["model.safetensors", "model.safetensors.index.json", ...names].join(", ")}`,
    { hint: "A plain folder cannot be listed over HTTP; rename the file to model.safetensors." },
  );
}

function listedNames(listing: unknown): string[] {
  const siblings = isObject(listing) && Array.isArray(listing.siblings) ? listing.siblings : [];
  return siblings
    .map((entry: unknown) => (isObject(entry) ? entry.rfilename : null))
    .filter((name): name is string => typeof name === "string" && !name.includes("/"));
}

/** `model_file_base_name`, and AutoGPTQ's default `gptq_model-4bit-128g`. */
function quantisedNames(config: unknown, quantize: unknown): string[] {
  const inner = isObject(config) ? config.quantization_config : null;
  return [quantize, inner].filter(isObject).flatMap((values) => {
    const names = [`gptq_model-${values.bits}bit-${values.group_size}g.safetensors`];
    if (typeof values.model_file_base_name === "string") names.unshift(`${values.model_file_base_name}.safetensors`);
    return names.filter(isPlainFileName);
  });
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
