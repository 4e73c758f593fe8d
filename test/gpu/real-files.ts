// Loading from real files: a GPTQ checkpoint of a 7B model's shape is written where files are in memory, and must be
// on the card within seconds.

import { closeSync, existsSync, mkdtempSync, openSync, rmSync, writeFileSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Backend } from "../../src/backend/backend.js";
import type { Checkpoint } from "../../src/checkpoint/checkpoint.js";
import { openSynthetic, syntheticAddress } from "../../src/checkpoint/synthetic.js";
import { formatBytes, MiB } from "../../src/memory/size.js";
import { Driver } from "../conformance/driver.js";
import type { Report } from "./report.js";

const MOST_MS = 3000;
const LOADS = 3;
const PIECE = 64 * MiB;
/** Files that lie in memory, where the system has such a folder. */
const MEMORY_FOLDER = "/dev/shm";

export async function checkFileLoading(backend: Backend, report: Report): Promise<void> {
  const folder = mkdtempSync(join(existsSync(MEMORY_FOLDER) ? MEMORY_FOLDER : tmpdir(), "exllama-7b-"));
  try {
    const bytes = await writeCheckpoint(openSynthetic(syntheticAddress("llama-7b")), folder);
    await report.check("a 7B model's files are on the card within three seconds", async () => {
      const times: number[] = [];
      for (let load = 0; load < LOADS; load++) {
        const begun = performance.now();
        const driver = await Driver.load(backend, folder, { cacheType: "f16", context: 2048, prefillChunk: 512 });
        times.push(performance.now() - begun);
        await driver.greedy([1, 2, 3], 2);
        await driver.runtime.dispose();
      }
      const said = `${formatBytes(bytes)} in ${times.map((ms) => `${(ms / 1000).toFixed(2)} s`).join(", ")}`;
      // The first also compiles and pins.
      if (!times.slice(1).every((ms) => ms < MOST_MS)) throw new Error(said);
      return said;
    });
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Writes any checkpoint as one safetensors file with its configuration. @returns its bytes */
async function writeCheckpoint(checkpoint: Checkpoint, folder: string): Promise<number> {
  writeFileSync(join(folder, "config.json"), JSON.stringify(checkpoint.configs.config));
  const tensors = [...checkpoint.tensors.values()];
  const header = Object.fromEntries(
    tensors.map(({ name, dtype, shape, start, bytes }) => [name, { dtype, shape, data_offsets: [start, start + bytes] }]),
  );
  const text = JSON.stringify(header);
  const json = Buffer.from(text.padEnd(Math.ceil(text.length / 8) * 8));
  const size = Buffer.alloc(8);
  size.writeBigUInt64LE(BigInt(json.length));
  const file = openSync(join(folder, "model.safetensors"), "w");
  let written = 0;
  try {
    written += writeSync(file, size) + writeSync(file, json);
    const piece = new Uint8Array(PIECE);
    for (const tensor of tensors)
      for (let offset = 0; offset < tensor.bytes; offset += PIECE) {
        const part = piece.subarray(0, Math.min(PIECE, tensor.bytes - offset));
        await checkpoint.read(tensor, offset, part);
        for (let done = 0; done < part.length; ) done += writeSync(file, part, done);
        written += part.length;
      }
  } finally {
    closeSync(file);
  }
  return written;
}
