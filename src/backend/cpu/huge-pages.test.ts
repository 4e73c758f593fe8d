import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { askForHugePages } from "./huge-pages.js";

describe("askForHugePages", () => {
  it("says whether it asked, and why not if not", async () => {
    const memory = new WebAssembly.Memory({ initial: 256, maximum: 256, shared: true });
    const answer = await askForHugePages([memory]);
    expect(answer.asked).toBe(answer.reason === null);
    new Uint8Array(memory.buffer).fill(1);
    if (answer.asked) expect(advisedBytes()).toBeGreaterThanOrEqual(memory.buffer.byteLength);
  });
});

/** Bytes of this process's mappings that carry the kernel's huge page advice. */
function advisedBytes(): number {
  const mappings = readFileSync("/proc/self/smaps", "utf8").split(/(?=^VmFlags:)/m);
  let bytes = 0;
  for (let i = 1; i < mappings.length; i++)
    if (/^VmFlags:.* hg\b/.test(mappings[i]!)) bytes += Number(/^Size: +(\d+) kB/m.exec(mappings[i - 1]!)?.[1] ?? 0) * 1024;
  return bytes;
}
