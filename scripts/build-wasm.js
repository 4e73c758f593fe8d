// Compiles wasm/index.ts twice: with relaxed SIMD, and without for engines and processors
// that lack it. One source; `ASC_FEATURE_RELAXED_SIMD` chooses the instructions inside.

import { mkdirSync, readFileSync, renameSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import asc from "assemblyscript/asc";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const folder = join(root, "dist/wasm");
/** Arenas keep their first 64 KiB for the module's static data. */
const STATIC_LIMIT = 64 * 1024;

mkdirSync(folder, { recursive: true });
for (const [name, features] of [
  ["kernels-relaxed", ["simd", "threads", "relaxed-simd"]],
  ["kernels-simd", ["simd", "threads"]],
])
  await build(name, features);

/** Both builds hold the same data; the plain one can be instantiated everywhere. */
function checkStaticData(bytes) {
  const memory = new WebAssembly.Memory({ initial: 1, maximum: 65536, shared: true });
  const { exports } = new WebAssembly.Instance(new WebAssembly.Module(bytes), { env: { memory } });
  if (exports.static_end() > STATIC_LIMIT)
    throw new Error(`the kernels' data ends at ${exports.static_end()}, after ${STATIC_LIMIT}`);
}

async function build(name, features) {
  const out = join(folder, `${name}.wasm`);
  const partial = `${out}.${process.pid}.tmp`; // complete files only: another process may be reading
  const { error, stderr } = await asc.main([
    "wasm/index.ts",
    "--baseDir",
    root,
    "--outFile",
    partial,
    "-O3",
    "--noAssert",
    "--runtime",
    "stub",
    "--importMemory",
    "--sharedMemory",
    "--initialMemory",
    "1",
    "--maximumMemory",
    "65536",
    ...features.flatMap((feature) => ["--enable", feature]),
  ]);
  if (error) {
    process.stderr.write(stderr.toString());
    process.stderr.write(`${error.message}\n`);
    process.exit(1);
  }
  if (!features.includes("relaxed-simd")) checkStaticData(readFileSync(partial));
  renameSync(partial, out);
}
