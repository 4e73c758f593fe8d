// Writes a dictionary of tensors as torch.save does: a zip archive of stored entries, the pickle
// (protocol 2) in one, each storage in one of its own. Instruction by instruction what Python's
// pickler makes of it, memo included. Tests may put another pickle or other entries in.

import type { WrittenTensor } from "./safetensors-writer.js";

export interface ZipEntry {
  readonly name: string;
  readonly data: Uint8Array;
  /** Compression method as the headers claim it; default 0. */
  readonly method?: number;
}

const STORAGE: Readonly<Record<string, string>> = {
  F32: "FloatStorage",
  F16: "HalfStorage",
  BF16: "BFloat16Storage",
  I64: "LongStorage",
};
const ELEMENT: Readonly<Record<string, number>> = { F32: 4, F16: 2, BF16: 2, I64: 8 };

/** A whole file. */
export function torchFileBytes(tensors: readonly WrittenTensor[], options: { metadata?: boolean } = {}): Uint8Array {
  return zipBytes(torchEntries(tensors, options));
}

export function torchEntries(tensors: readonly WrittenTensor[], { metadata = false } = {}): ZipEntry[] {
  const root = "adapter_model";
  return [
    { name: `${root}/data.pkl`, data: statePickle(tensors, metadata) },
    { name: `${root}/byteorder`, data: new TextEncoder().encode("little") },
    ...tensors.map(({ data }, i) => ({ name: `${root}/data/${i}`, data })),
    { name: `${root}/version`, data: new TextEncoder().encode("3\n") },
  ];
}

/** Writes pickles; `raw` and the small methods are instructions. */
export class PickleWriter {
  readonly #bytes: number[] = [0x80, 2];
  readonly #known = new Map<string, number>();
  #memo = 0;

  raw(...bytes: number[]): this {
    this.#bytes.push(...bytes);
    return this;
  }

  put(): this {
    const key = this.#memo++;
    return key < 256 ? this.raw(0x71, key) : this.raw(0x72, ...u32(key));
  }

  get(key: number): this {
    return key < 256 ? this.raw(0x68, key) : this.raw(0x6a, ...u32(key));
  }

  /** Remembered once, recalled from then on. */
  once(key: string, write: () => void): this {
    const known = this.#known.get(key);
    if (known !== undefined) return this.get(known);
    write();
    this.#known.set(key, this.#memo);
    return this.put();
  }

  text(text: string): this {
    const bytes = new TextEncoder().encode(text);
    return this.once(`text ${text}`, () => this.raw(0x58, ...u32(bytes.length), ...bytes));
  }

  global(module: string, name: string): this {
    return this.once(`global ${module} ${name}`, () => this.raw(0x63, ...new TextEncoder().encode(`${module}\n${name}\n`)));
  }

  integer(value: number): this {
    if (value < 256) return this.raw(0x4b, value);
    return value < 65536 ? this.raw(0x4d, value & 255, value >> 8) : this.raw(0x4a, ...u32(value));
  }

  integers(values: readonly number[]): this {
    if (values.length > 3) this.raw(0x28);
    for (const value of values) this.integer(value);
    if (values.length === 0) return this.raw(0x29);
    return this.raw(values.length > 3 ? 0x74 : 0x84 + values.length).put();
  }

  tensor(key: number, { dtype, shape, data }: WrittenTensor, strides = contiguous(shape), offset = 0): this {
    this.global("torch._utils", "_rebuild_tensor_v2").raw(0x28, 0x28).text("storage").global("torch", STORAGE[dtype]!);
    this.text(String(key))
      .text("cpu")
      .integer(data.length / ELEMENT[dtype]!)
      .raw(0x74)
      .put()
      .raw(0x51);
    this.integer(offset).integers(shape).integers(strides).raw(0x89);
    this.global("collections", "OrderedDict").raw(0x29, 0x52).put();
    return this.raw(0x74).put().raw(0x52).put();
  }

  bytes(): Uint8Array {
    return Uint8Array.from([...this.#bytes, 0x2e]);
  }
}

function statePickle(tensors: readonly WrittenTensor[], metadata: boolean): Uint8Array {
  const pickle = new PickleWriter();
  if (metadata) pickle.global("collections", "OrderedDict").raw(0x29, 0x52).put();
  else pickle.raw(0x7d).put();
  pickle.raw(0x28);
  tensors.forEach((tensor, i) => {
    pickle.text(tensor.name).tensor(i, tensor);
  });
  pickle.raw(0x75);
  // A module's state dictionary carries its versions as an attribute: {"_metadata": {"": {"version": 1}}}.
  if (metadata) {
    pickle.raw(0x7d).put().text("_metadata").global("collections", "OrderedDict").raw(0x29, 0x52).put();
    pickle.text("").raw(0x7d).put().text("version").integer(1).raw(0x73, 0x73, 0x73, 0x62);
  }
  return pickle.bytes();
}

/** A zip archive, contents aligned to 64 bytes as PyTorch aligns them. */
export function zipBytes(entries: readonly ZipEntry[]): Uint8Array {
  const parts: Uint8Array[] = [];
  const directory: Uint8Array[] = [];
  let at = 0;
  const add = (bytes: Uint8Array) => {
    parts.push(bytes);
    at += bytes.length;
  };
  for (const { name, data, method = 0 } of entries) {
    const nameBytes = new TextEncoder().encode(name);
    const padding = (64 - ((at + 30 + nameBytes.length + 4) % 64)) % 64;
    const place = at;
    add(
      fields(
        [0x04034b50, 4],
        [0, 2],
        [0, 2],
        [method, 2],
        [0, 4],
        [0, 4],
        [data.length, 4],
        [data.length, 4],
        [nameBytes.length, 2],
        [padding + 4, 2],
      ),
    );
    add(nameBytes);
    add(fields([0x4246, 2], [padding, 2]));
    add(new Uint8Array(padding).fill(0x5a));
    add(data);
    directory.push(
      fields(
        ...([
          [0x02014b50, 4],
          [0, 2],
          [0, 2],
          [0, 2],
          [method, 2],
          [0, 4],
          [0, 4],
        ] as const),
        ...([
          [data.length, 4],
          [data.length, 4],
          [nameBytes.length, 2],
          [0, 2],
          [0, 2],
          [0, 2],
          [0, 2],
          [0, 4],
          [place, 4],
        ] as const),
      ),
      nameBytes,
    );
  }
  const start = at;
  for (const bytes of directory) add(bytes);
  const { length } = entries;
  // PyTorch always writes the record for large archives too, whether it is needed or not.
  const end64 = at;
  add(fields([0x06064b50, 4], [44, 4], [0, 4], [0, 2], [0, 2], [0, 4], [0, 4], [length, 4], [0, 4], [length, 4], [0, 4]));
  add(fields([end64 - start, 4], [0, 4], [start, 4], [0, 4]));
  add(fields([0x07064b50, 4], [0, 4], [end64, 4], [0, 4], [1, 4]));
  add(fields([0x06054b50, 4], [0, 2], [0, 2], [length, 2], [length, 2], [end64 - start, 4], [start, 4], [0, 2]));
  return concat(parts);
}

function contiguous(shape: readonly number[]): number[] {
  return shape.map((_, i) => shape.slice(i + 1).reduce((product, size) => product * size, 1));
}

function fields(...values: readonly (readonly [value: number, bytes: number])[]): Uint8Array {
  return Uint8Array.from(values.flatMap(([value, bytes]) => u32(value).slice(0, bytes)));
}

function u32(value: number): number[] {
  return [value & 255, (value >>> 8) & 255, (value >>> 16) & 255, value >>> 24];
}

function concat(parts: readonly Uint8Array[]): Uint8Array {
  const bytes = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}
