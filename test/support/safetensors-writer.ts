// Writes safetensors files: eight bytes of header length, a JSON header, the tensors' bytes.
// One file, or several with the index that names each tensor's file.

import { writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Dtype } from "../../src/checkpoint/checkpoint.js";

export interface WrittenTensor {
  readonly name: string;
  readonly dtype: Dtype;
  readonly shape: readonly number[];
  readonly data: Uint8Array;
}

/** Entry of a header as the format spells it. */
export interface HeaderEntry {
  dtype: string;
  shape: number[];
  data_offsets: [number, number];
}

/** The header of these tensors laid one after the other; tests may spoil it before writing. */
export function headerOf(tensors: readonly WrittenTensor[]): Record<string, HeaderEntry> {
  const header: Record<string, HeaderEntry> = {};
  let end = 0;
  for (const { name, dtype, shape, data } of tensors) {
    header[name] = { dtype, shape: [...shape], data_offsets: [end, end + data.length] };
    end += data.length;
  }
  return header;
}

/** A whole file; the header is padded with spaces so that the contents begin at a multiple of 8. */
export function safetensorsBytes(tensors: readonly WrittenTensor[], header: unknown = headerOf(tensors)): Uint8Array {
  const json = new TextEncoder().encode(JSON.stringify(header));
  const headerBytes = Math.ceil(json.length / 8) * 8;
  const contents = tensors.reduce((sum, tensor) => sum + tensor.data.length, 0);
  const bytes = new Uint8Array(8 + headerBytes + contents).fill(0x20, 8, 8 + headerBytes);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(headerBytes), true);
  bytes.set(json, 8);
  let at = 8 + headerBytes;
  for (const { data } of tensors) {
    bytes.set(data, at);
    at += data.length;
  }
  return bytes;
}

/** Writes `model.safetensors`, or with `shards` > 1 `model-0000i-of-0000n.safetensors` and their index. */
export function writeWeights(folder: string, tensors: readonly WrittenTensor[], shards = 1): void {
  if (shards === 1) {
    writeFileSync(join(folder, "model.safetensors"), safetensorsBytes(tensors));
    return;
  }
  const weightMap: Record<string, string> = {};
  const number = (i: number) => String(i).padStart(5, "0");
  for (let shard = 0; shard < shards; shard++) {
    const file = `model-${number(shard + 1)}-of-${number(shards)}.safetensors`;
    // Every shards-th tensor: neighbours of one linear fall into different files.
    const part = tensors.filter((_, i) => i % shards === shard);
    for (const { name } of part) weightMap[name] = file;
    writeFileSync(join(folder, file), safetensorsBytes(part));
  }
  const total = tensors.reduce((sum, tensor) => sum + tensor.data.length, 0);
  writeFileSync(
    join(folder, "model.safetensors.index.json"),
    JSON.stringify({ metadata: { total_size: total }, weight_map: weightMap }),
  );
}
