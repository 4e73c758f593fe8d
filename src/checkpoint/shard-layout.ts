// Which tensors go into which file when a checkpoint is split: in their order, as many as a file's
// size allows, header included, none ever cut. Pure; the bytes are moved by shard.ts.

import type { TensorInfo } from "./checkpoint.js";
import { LENGTH_BYTES } from "./safetensors.js";

export interface Shard {
  /** `model-00002-of-00005.safetensors` */
  readonly file: string;
  readonly tensors: readonly TensorInfo[];
  /** Length field and JSON, padded so that the contents begin at a multiple of 8. */
  readonly header: Uint8Array;
  /** Of the whole file. */
  readonly bytes: number;
}

/** Contents of `__metadata__`, the same in every file. */
export type ShardMetadata = Readonly<Record<string, string>>;

/**
 * @param most bytes of a file; only one that holds a single tensor may be larger
 */
export function layOutShards(tensors: readonly TensorInfo[], most: number, metadata: ShardMetadata): Shard[] {
  const groups: TensorInfo[][] = [];
  const empty = LENGTH_BYTES + jsonBytes({ __metadata__: metadata }) + 16;
  let bytes = 0;
  for (const tensor of tensors) {
    const more = tensor.bytes + entryBytes(tensor);
    if (groups.length === 0 || bytes + more > most) {
      groups.push([]);
      bytes = empty;
    }
    groups.at(-1)!.push(tensor);
    bytes += more;
  }
  const number = (i: number) => String(i).padStart(5, "0");
  return groups.map((group, i) => {
    const header = headerOf(group, metadata);
    const contents = group.reduce((sum, tensor) => sum + tensor.bytes, 0);
    const file = `model-${number(i + 1)}-of-${number(groups.length)}.safetensors`;
    return { file, tensors: group, header, bytes: header.byteLength + contents };
  });
}

/** model.safetensors.index.json */
export function shardIndex(shards: readonly Shard[]): string {
  const map: Record<string, string> = {};
  let total = 0;
  for (const { file, tensors } of shards)
    for (const { name, bytes } of tensors) {
      Object.defineProperty(map, name, { value: file, enumerable: true });
      total += bytes;
    }
  return `${JSON.stringify({ metadata: { total_size: total }, weight_map: map }, null, 2)}\n`;
}

/** At most what a tensor adds to a header. */
function entryBytes({ name, dtype, shape }: TensorInfo): number {
  const offsets = [Number.MAX_SAFE_INTEGER, Number.MAX_SAFE_INTEGER];
  return jsonBytes({ [name]: { dtype, shape, data_offsets: offsets } });
}

function jsonBytes(value: unknown): number {
  return new TextEncoder().encode(JSON.stringify(value)).byteLength;
}

function headerOf(tensors: readonly TensorInfo[], metadata: ShardMetadata): Uint8Array {
  const entries: string[] = [];
  if (Object.keys(metadata).length > 0) entries.push(`"__metadata__":${JSON.stringify(metadata)}`);
  let end = 0;
  for (const { name, dtype, shape, bytes } of tensors) {
    entries.push(`${JSON.stringify(name)}:${JSON.stringify({ dtype, shape, data_offsets: [end, end + bytes] })}`);
    end += bytes;
  }
  const json = new TextEncoder().encode(`{${entries.join(",")}}`);
  const padded = Math.ceil(json.byteLength / 8) * 8;
  const header = new Uint8Array(LENGTH_BYTES + padded).fill(0x20, LENGTH_BYTES);
  new DataView(header.buffer).setBigUint64(0, BigInt(padded), true);
  header.set(json, LENGTH_BYTES);
  return header;
}
