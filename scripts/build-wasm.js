// Compiles the kernels (wasm/index.ts) twice: with relaxed SIMD, and without for engines that lack
// it; and their products alone (wasm/products.ts) twice: as they are, and for processors that have an
// instruction for them (wasm/dot-add.ts). One source; `ASC_FEATURE_RELAXED_SIMD` and `DOT_ADD` choose
// the instructions inside.

import { existsSync, mkdirSync, readFileSync, renameSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import asc from "assemblyscript/asc";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const folder = join(root, "dist/wasm");
/** Arenas keep their first 64 KiB for the module's static data. */
const STATIC_LIMIT = 64 * 1024;

mkdirSync(folder, { recursive: true });
const SIMD = ["simd", "threads"];
const RELAXED = [...SIMD, "relaxed-simd"];
for (const [name, entry, features, dotAdd] of [
  ["kernels-relaxed", "wasm/index.ts", RELAXED, false],
  ["kernels-simd", "wasm/index.ts", SIMD, false],
  ["products-relaxed", "wasm/products.ts", RELAXED, false],
  ["products-dot", "wasm/products.ts", RELAXED, true],
])
  await build(name, entry, features, dotAdd);

/** The sources, with wasm/dot-add.ts saying `dotAdd`. */
function sourcesWith(dotAdd) {
  return (file, baseDir) => {
    const path = join(baseDir, file);
    if (!existsSync(path)) return null; // the compiler tries several names
    const text = readFileSync(path, "utf8");
    return dotAdd && path === join(root, "wasm/dot-add.ts") ? text.replace("= false", "= true") : text;
  };
}

/** Both builds hold the same data; the plain one can be instantiated everywhere. */
function checkStaticData(bytes) {
  const memory = new WebAssembly.Memory({ initial: 1, maximum: 65536, shared: true });
  const { exports } = new WebAssembly.Instance(new WebAssembly.Module(bytes), { env: { memory } });
  if (exports.static_end() > STATIC_LIMIT)
    throw new Error(`the kernels' data ends at ${exports.static_end()}, after ${STATIC_LIMIT}`);
}

async function build(name, entry, features, dotAdd) {
  const out = join(folder, `${name}.wasm`);
  const partial = `${out}.${process.pid}.tmp`; // complete files only: another process may be reading
  const options = [
    entry,
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
  ];
  const { error, stderr } = await asc.main(options, { readFile: sourcesWith(dotAdd) });
  if (error) {
    process.stderr.write(stderr.toString());
    process.stderr.write(`${error.message}\n`);
    process.exit(1);
  }
  if (!features.includes("relaxed-simd")) checkStaticData(readFileSync(partial));
  renameSync(partial, out);
}
