// Huge pages under the arenas: weights are read from end to end for every token, and with
// pages of 2 MiB that costs a five-hundredth of the address translations. V8 does not ask the
// kernel for them; madvise() does, on memory that nobody has touched yet. Where it cannot be
// had, everything works as before, and the reason is kept.

import { readFile } from "node:fs/promises";

export interface HugePages {
  readonly asked: boolean;
  /** Why not; `null` where they were asked for. */
  readonly reason: string | null;
}

/** <sys/mman.h>, the same number on every Linux. */
const MADV_HUGEPAGE = 14;
const SETTING = "/sys/kernel/mm/transparent_hugepage/enabled";

/** Asks for huge pages for every arena; call it before anything is written there. Never throws. */
export async function askForHugePages(memories: readonly WebAssembly.Memory[]): Promise<HugePages> {
  try {
    const reason = await whyNot();
    if (reason) return { asked: false, reason };
    const { default: koffi } = await import("koffi");
    const madvise = koffi.load(null).func("int madvise(void *address, size_t length, int advice)");
    for (const { buffer } of memories)
      if (madvise(new Uint8Array(buffer), buffer.byteLength, MADV_HUGEPAGE) !== 0)
        return { asked: false, reason: `madvise failed with error ${koffi.errno()}` };
    return { asked: true, reason: null };
  } catch (error) {
    return { asked: false, reason: error instanceof Error ? error.message : String(error) };
  }
}

async function whyNot(): Promise<string | null> {
  if (process.platform !== "linux") return "only Linux has them on request";
  const setting = await readFile(SETTING, "utf8").catch(() => "");
  if (setting.includes("[never]")) return "the system's setting is never";
  return setting === "" ? "the kernel has none" : null;
}
