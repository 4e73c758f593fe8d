// The header of a safetensors file: 8 bytes of little-endian header length, then that many
// bytes of JSON, `{name: {dtype, shape, data_offsets: [begin, end]}, __metadata__?: {text: text}}`,
// then the tensors' bytes. The header comes from strangers, so everything in it is checked
// before anybody relies on it. As the format demands
// (https://github.com/huggingface/safetensors, "Format"): no duplicate keys, and the bytes
// after the header belong to tensors without overlap and without holes, to the last byte.
// The header's limit of 100 MB is the reference implementation's.

import type { Dtype, TensorInfo } from "./checkpoint.js";
import { SafetensorsError } from "./errors.js";
import { scanJsonKeys } from "./json-keys.js";

/** Bytes of the length field at the beginning of a file. */
export const LENGTH_BYTES = 8;
/** Longest header that is read, bytes. */
export const MAX_HEADER_BYTES = 100_000_000;

/** Bytes of one element. */
export const DTYPE_BYTES: Readonly<Record<Dtype, number>> = {
  F64: 8,
  F32: 4,
  F16: 2,
  BF16: 2,
  I64: 8,
  I32: 4,
  I16: 2,
  I8: 1,
  U64: 8,
  U32: 4,
  U16: 2,
  U8: 1,
  BOOL: 1,
  F8_E4M3: 1,
  F8_E5M2: 1,
};

/** The deepest object of a valid header: `{"name": {"shape": [1]}}`. */
const MAX_DEPTH = 3;

export interface SafetensorsFile {
  /** Name for messages and for `TensorInfo.file`. */
  readonly file: string;
  /** Length of the whole file, bytes. */
  readonly fileBytes: number;
}

/**
 * Reads the length field.
 *
 * @param prefix the first bytes of the file, 8 or (where the file is shorter) fewer
 * @returns bytes of the header that follows
 * @throws {SafetensorsError} when the file cannot hold such a header, or it exceeds the limit
 */
export function readHeaderLength(prefix: Uint8Array, { file, fileBytes }: SafetensorsFile): number {
  if (prefix.byteLength < LENGTH_BYTES || fileBytes < LENGTH_BYTES)
    throw new SafetensorsError("SAFETENSORS_TRUNCATED", file, `${fileBytes} bytes are too few for a safetensors file`, {
      fileBytes,
    });
  const length = new DataView(prefix.buffer, prefix.byteOffset, LENGTH_BYTES).getBigUint64(0, true);
  if (length > BigInt(MAX_HEADER_BYTES))
    throw new SafetensorsError(
      "SAFETENSORS_HEADER_TOO_LARGE",
      file,
      `announces a header of ${length} bytes; the format allows ${MAX_HEADER_BYTES}`,
      { headerBytes: length.toString() },
    );
  const bytes = Number(length);
  if (LENGTH_BYTES + bytes > fileBytes)
    throw new SafetensorsError(
      "SAFETENSORS_TRUNCATED",
      file,
      `announces a header of ${bytes} bytes, but only ${fileBytes - LENGTH_BYTES} follow`,
      { headerBytes: bytes, fileBytes },
    );
  return bytes;
}

/**
 * Reads the header's JSON and checks every entry against the format and the file's length.
 *
 * @param header the bytes after the length field, exactly as many as it says
 * @returns the tensors in the order of their bytes
 * @throws {SafetensorsError}
 */
export function parseSafetensorsHeader(header: Uint8Array, where: SafetensorsFile): TensorInfo[] {
  const { file, fileBytes } = where;
  const dataStart = LENGTH_BYTES + header.byteLength;
  const tensors: TensorInfo[] = [];
  for (const [name, entry] of Object.entries(parseObject(header, file))) {
    if (name === "__metadata__") checkMetadata(entry, file);
    else tensors.push(readEntry(name, entry, file, dataStart));
  }
  // Empty tensors sort before the one that begins at the same byte.
  tensors.sort((a, b) => a.start - b.start || a.bytes - b.bytes);
  checkCoverage(tensors, dataStart, file, fileBytes);
  return tensors;
}

function parseObject(header: Uint8Array, file: string): Record<string, unknown> {
  const fault = (message: string) => new SafetensorsError("SAFETENSORS_HEADER_SYNTAX", file, message);
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(header);
  } catch {
    throw fault("the header is not valid UTF-8");
  }
  if (text[0] !== "{") throw fault("the header does not begin with {");
  // Before JSON.parse: a hundred million brackets would be a hundred million arrays.
  const keys = scanJsonKeys(text, MAX_DEPTH);
  if (keys.tooDeep) throw fault(`the header is nested deeper than ${MAX_DEPTH} levels`);
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw fault(`the header is not valid JSON (${(cause as Error).message})`);
  }
  if (keys.duplicate !== null)
    throw new SafetensorsError("SAFETENSORS_DUPLICATE_KEY", file, `the header has the key ${quote(keys.duplicate)} twice`, {
      key: keys.duplicate,
    });
  return value as Record<string, unknown>;
}

function checkMetadata(entry: unknown, file: string): void {
  if (!isObject(entry) || !Object.values(entry).every((value) => typeof value === "string"))
    throw new SafetensorsError("SAFETENSORS_ENTRY", file, "__metadata__ is not an object of text to text");
}

function readEntry(name: string, entry: unknown, file: string, dataStart: number): TensorInfo {
  const called = `tensor ${quote(name)}`;
  if (!isObject(entry)) throw new SafetensorsError("SAFETENSORS_ENTRY", file, `${called} is not an object`, { tensor: name });
  const { dtype, shape, data_offsets: offsets } = entry;
  if (typeof dtype !== "string" || !Object.hasOwn(DTYPE_BYTES, dtype))
    throw new SafetensorsError(
      "SAFETENSORS_UNKNOWN_DTYPE",
      file,
      `${called} has dtype ${quote(dtype)}; known are ${Object.keys(DTYPE_BYTES).join(", ")}`,
      { tensor: name },
    );
  const bytes = shapeBytes(shape, DTYPE_BYTES[dtype as Dtype]);
  if (bytes === null)
    throw new SafetensorsError("SAFETENSORS_SHAPE", file, `${called} has the impossible shape ${quote(shape)}`, { tensor: name });
  if (!Array.isArray(offsets) || offsets.length !== 2 || !offsets.every(isSize) || offsets[1] < offsets[0])
    throw new SafetensorsError(
      "SAFETENSORS_OFFSETS",
      file,
      `${called} has data_offsets ${quote(offsets)}; two ordered positions are needed`,
      { tensor: name },
    );
  const [begin, end] = offsets as [number, number];
  if (end - begin !== bytes)
    throw new SafetensorsError(
      "SAFETENSORS_OFFSETS",
      file,
      `${called}, ${dtype} [${(shape as number[]).join(", ")}], takes ${bytes} bytes, but its data_offsets span ${end - begin}`,
      { tensor: name, needed: bytes, had: end - begin },
    );
  return {
    name,
    dtype: dtype as Dtype,
    shape: (shape as number[]).map((size) => size + 0),
    file,
    start: dataStart + begin,
    bytes,
  };
}

/** Bytes of a tensor, or `null` where `shape` is no shape or the product leaves the exact integers. */
function shapeBytes(shape: unknown, elementBytes: number): number | null {
  if (!Array.isArray(shape) || !shape.every(isSize)) return null;
  let bytes = elementBytes;
  for (const size of shape as number[]) {
    bytes *= size;
    if (bytes > Number.MAX_SAFE_INTEGER) return null;
  }
  return bytes;
}

function checkCoverage(tensors: readonly TensorInfo[], dataStart: number, file: string, fileBytes: number): void {
  let end = dataStart;
  let before: TensorInfo | null = null;
  for (const tensor of tensors) {
    if (tensor.start < end)
      throw new SafetensorsError(
        "SAFETENSORS_OVERLAP",
        file,
        `tensors ${quote(before?.name)} and ${quote(tensor.name)} share ${Math.min(end - tensor.start, tensor.bytes)} bytes`,
        { tensors: [before?.name, tensor.name] },
      );
    if (tensor.start > end)
      throw new SafetensorsError(
        "SAFETENSORS_GAP",
        file,
        `${tensor.start - end} bytes before tensor ${quote(tensor.name)} belong to no tensor`,
        { tensor: tensor.name, bytes: tensor.start - end },
      );
    end = tensor.start + tensor.bytes;
    before = tensor;
  }
  if (end > fileBytes)
    throw new SafetensorsError("SAFETENSORS_TRUNCATED", file, `the tensors need ${end} bytes, the file has ${fileBytes}`, {
      needed: end,
      had: fileBytes,
    });
  if (end < fileBytes)
    throw new SafetensorsError("SAFETENSORS_GAP", file, `${fileBytes - end} bytes after the last tensor belong to none`, {
      bytes: fileBytes - end,
    });
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isSize(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

/** A value from the header in a message: as JSON, and never longer than a line. */
function quote(value: unknown): string {
  const text = JSON.stringify(value) ?? "nothing";
  return text.length > 120 ? `${text.slice(0, 117)}…` : text;
}
