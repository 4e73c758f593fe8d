// Lets `toEqual` compare typed arrays at the speed of memory. Left to itself it walks them key by key,
// with keys that are strings: a microsecond a number, seconds for the logits of a prompt. Arrays
// with the same bytes are equal by its rules too; all others are left to it, which also
// says where they differ. Loaded before every test file (vitest.config.ts).

import { expect } from "vitest";

// Files that share a process share what is added, too.
const ADDED = Symbol.for("exllama-ts: typed arrays are compared by their bytes");
const shared = globalThis as { [ADDED]?: true };

if (!shared[ADDED])
  expect.addEqualityTesters([
    (a: unknown, b: unknown): boolean | undefined => {
      if (!ArrayBuffer.isView(a) || !ArrayBuffer.isView(b)) return undefined;
      if (a.constructor !== b.constructor || a.byteLength !== b.byteLength) return undefined;
      return bytesOf(a).equals(bytesOf(b)) ? true : undefined;
    },
  ]);
shared[ADDED] = true;

function bytesOf({ buffer, byteOffset, byteLength }: ArrayBufferView): Buffer {
  return Buffer.from(buffer, byteOffset, byteLength);
}
