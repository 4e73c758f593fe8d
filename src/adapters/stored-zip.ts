// The directory of a zip archive whose entries are stored as they are: all that PyTorch writes.
// Compressed entries are refused, so nothing can unpack to more than the file holds; every
// number is held against the file's length before anything is read there.

import { TorchFileError } from "./errors.js";

/** Where an entry's bytes lie in the file. */
export interface StoredEntry {
  readonly start: number;
  readonly bytes: number;
}

/** A file that can be read in ranges. */
export interface RangeReader {
  readonly name: string;
  readonly bytes: number;
  /** Exactly these bytes. */
  read(start: number, bytes: number): Promise<Uint8Array>;
}

const END = 0x06054b50;
const END64 = 0x06064b50;
const END64_LOCATOR = 0x07064b50;
const DIRECTORY_ENTRY = 0x02014b50;
const LOCAL_HEADER = 0x04034b50;

const END_BYTES = 22;
const LOCATOR_BYTES = 20;
const END64_BYTES = 56;
const ENTRY_BYTES = 46;
const LOCAL_BYTES = 30;
/** Longest comment behind the end record. */
const MOST_COMMENT = 0xffff;

/** An adapter has some hundreds of entries; a directory beyond this is no adapter's. */
const MOST_ENTRIES = 100_000;
const MOST_DIRECTORY_BYTES = 2 ** 25;

const FULL16 = 0xffff;
const FULL32 = 0xffffffff;

/** @throws {TorchFileError} for anything but a plain archive of stored entries */
export async function readStoredZip(file: RangeReader): Promise<Map<string, StoredEntry>> {
  const { at, count, start, bytes } = await findDirectory(file);
  if (count > MOST_ENTRIES || bytes > MOST_DIRECTORY_BYTES)
    throw new TorchFileError(file.name, `its directory has ${count} entries in ${bytes} bytes; no adapter needs so many`);
  if (start + bytes > at) throw new TorchFileError(file.name, "its directory reaches beyond the place where it should end");
  const view = viewOf(await file.read(start, bytes));
  const entries = new Map<string, StoredEntry>();
  let position = 0;
  for (let i = 0; i < count; i++) {
    if (position + ENTRY_BYTES > bytes || view.getUint32(position, true) !== DIRECTORY_ENTRY)
      throw new TorchFileError(file.name, `entry ${i} of its directory is damaged`);
    const { name, entry, length } = await readEntry(file, view, position, start);
    if (entries.has(name)) throw new TorchFileError(file.name, `${show(name)} stands twice in its directory`);
    entries.set(name, entry);
    position += length;
  }
  return entries;
}

interface Directory {
  /** Where the record lies that describes it. */
  readonly at: number;
  readonly count: number;
  readonly start: number;
  readonly bytes: number;
}

async function findDirectory(file: RangeReader): Promise<Directory> {
  const tailBytes = Math.min(file.bytes, END_BYTES + MOST_COMMENT);
  const tail = viewOf(await file.read(file.bytes - tailBytes, tailBytes));
  for (let at = tailBytes - END_BYTES; at >= 0; at--) {
    if (tail.getUint32(at, true) !== END || at + END_BYTES + tail.getUint16(at + 20, true) !== tailBytes) continue;
    const place = file.bytes - tailBytes + at;
    const found = {
      at: place,
      count: tail.getUint16(at + 10, true),
      bytes: tail.getUint32(at + 12, true),
      start: tail.getUint32(at + 16, true),
    };
    return found.count === FULL16 || found.bytes === FULL32 || found.start === FULL32 ? large(file, place) : found;
  }
  throw new TorchFileError(file.name, "it is no zip archive, as PyTorch writes them since version 1.6");
}

/** The record for what 32 bits cannot say. */
async function large(file: RangeReader, end: number): Promise<Directory> {
  const fault = () => new TorchFileError(file.name, "the record of its long directory is damaged");
  if (end < LOCATOR_BYTES) throw fault();
  const locator = viewOf(await file.read(end - LOCATOR_BYTES, LOCATOR_BYTES));
  const at = locator.getUint32(0, true) === END64_LOCATOR ? whole(locator, 8) : Number.NaN;
  if (!(at + END64_BYTES <= end)) throw fault();
  const record = viewOf(await file.read(at, END64_BYTES));
  if (record.getUint32(0, true) !== END64) throw fault();
  const found = { at, count: whole(record, 32), bytes: whole(record, 40), start: whole(record, 48) };
  if (!Object.values(found).every(Number.isSafeInteger)) throw fault();
  return found;
}

async function readEntry(file: RangeReader, view: DataView, at: number, directory: number) {
  const nameBytes = view.getUint16(at + 28, true);
  const extraBytes = view.getUint16(at + 30, true);
  const length = ENTRY_BYTES + nameBytes + extraBytes + view.getUint16(at + 32, true);
  if (at + length > view.byteLength) throw new TorchFileError(file.name, "its directory ends within an entry");
  const name = text(file, view, at + ENTRY_BYTES, nameBytes);
  const method = view.getUint16(at + 10, true);
  if (view.getUint16(at + 8, true) & 1) throw new TorchFileError(file.name, `${show(name)} is encrypted`);
  if (method !== 0)
    throw new TorchFileError(file.name, `${show(name)} is compressed (method ${method}); PyTorch stores its entries as they are`);
  const [packed, bytes, header] = sizes(file, view, at, at + ENTRY_BYTES + nameBytes, extraBytes, name);
  if (packed !== bytes) throw new TorchFileError(file.name, `${show(name)} is stored in ${packed} bytes and has ${bytes}`);
  if (header + LOCAL_BYTES > directory) throw new TorchFileError(file.name, `${show(name)} begins beyond the entries`);
  const local = viewOf(await file.read(header, LOCAL_BYTES));
  if (local.getUint32(0, true) !== LOCAL_HEADER) throw new TorchFileError(file.name, `${show(name)} has no header of its own`);
  const start = header + LOCAL_BYTES + local.getUint16(26, true) + local.getUint16(28, true);
  if (start + bytes > directory) throw new TorchFileError(file.name, `${show(name)} reaches beyond the entries`);
  return { name, entry: { start, bytes }, length };
}

/** Packed size, size and place of the local header, from the extra field where 32 bits are too few. */
function sizes(file: RangeReader, view: DataView, at: number, extra: number, extraBytes: number, name: string): number[] {
  const values = [view.getUint32(at + 20, true), view.getUint32(at + 24, true), view.getUint32(at + 42, true)];
  if (!values.includes(FULL32)) return values;
  for (let field = extra; field + 4 <= extra + extraBytes; ) {
    const end = field + 4 + view.getUint16(field + 2, true);
    if (view.getUint16(field, true) === 1 && end <= extra + extraBytes) {
      // Uncompressed size first, then the packed one, then the place: each only where it is needed.
      let next = field + 4;
      for (const index of [1, 0, 2]) {
        if (values[index] !== FULL32) continue;
        if (next + 8 > end) break;
        values[index] = whole(view, next);
        next += 8;
      }
      if (values.every((value) => Number.isSafeInteger(value) && value !== FULL32)) return values;
    }
    field = end;
  }
  throw new TorchFileError(file.name, `${show(name)} does not say how large it is`);
}

function text(file: RangeReader, view: DataView, at: number, bytes: number): string {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(new Uint8Array(view.buffer, view.byteOffset + at, bytes));
  } catch {
    throw new TorchFileError(file.name, "a name in its directory is not UTF-8");
  }
}

function whole(view: DataView, at: number): number {
  return Number(view.getBigUint64(at, true));
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function show(name: string): string {
  return JSON.stringify(name.length > 80 ? `${name.slice(0, 79)}…` : name);
}
