// Compiles the kernels (wasm/index.ts) twice: with relaxed SIMD, and without for engines that lack
// it; and their products alone (wasm/products.ts), in the order in which V8 joins operations (wasm/joined.ts),
// twice: as they are, and for processors that have an instruction for them (wasm/dot-add.ts). One source;
// `ASC_FEATURE_RELAXED_SIMD`, `JOINED` and `DOT_ADD` choose the instructions inside. Nothing is compiled
// where nothing has changed (build-once.js).

import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { buildOnce, root } from "./build-once.js";

const folder = join(root, "dist/wasm");
/** Arenas keep their first 64 KiB for the module's static data. */
const STATIC_LIMIT = 64 * 1024;

mkdirSync(folder, { recursive: true });
const SIMD = ["simd", "threads"];
const RELAXED = [...SIMD, "relaxed-simd"];
const BUILDS = [
  ["kernels-relaxed", "wasm/index.ts", RELAXED],
  ["kernels-simd", "wasm/index.ts", SIMD],
  ["products-relaxed", "wasm/products.ts", RELAXED, "wasm/joined.ts"],
  ["products-dot", "wasm/products.ts", RELAXED, "wasm/joined.ts", "wasm/dot-add.ts"],
];
// What an earlier version built under another name would go into the package.
for (const file of readdirSync(folder))
  if (file.endsWith(".wasm") && !BUILDS.some(([name]) => file === `${name}.wasm`)) rmSync(join(folder, file));
const modules = {
  record: "dist/wasm/built.json",
  inputs: ["wasm", "scripts/build-wasm.js", "scripts/build-once.js"],
  outputs: () => BUILDS.map(([name]) => `dist/wasm/${name}.wasm`),
  tools: { compiler: createRequire(import.meta.url)("assemblyscript/package.json").version },
};
await buildOnce(modules, async () => {
  for (const [name, entry, features, ...choices] of BUILDS) await build(name, entry, features, choices);
});

/** The sources, with the constant of each of `choices` true. */
function sourcesWith(choices) {
  const paths = choices.map((file) => join(root, file));
  return (file, baseDir) => {
    const path = join(baseDir, file);
    if (!existsSync(path)) return null; // the compiler tries several names
    const text = readFileSync(path, "utf8");
    return paths.includes(path) ? text.replace("= false", "= true") : text;
  };
}

/** Both builds hold the same data; the plain one can be instantiated everywhere. */
function checkStaticData(bytes) {
  const memory = new WebAssembly.Memory({ initial: 1, maximum: 65536, shared: true });
  const { exports } = new WebAssembly.Instance(new WebAssembly.Module(bytes), { env: { memory } });
  if (exports.static_end() > STATIC_LIMIT)
    throw new Error(`the kernels' data ends at ${exports.static_end()}, after ${STATIC_LIMIT}`);
}

async function build(name, entry, features, choices) {
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
  const { default: asc } = await import("assemblyscript/asc");
  const { error, stderr } = await asc.main(options, { readFile: sourcesWith(choices) });
  if (error) {
    process.stderr.write(stderr.toString());
    process.stderr.write(`${error.message}\n`);
    process.exit(1);
  }
  if (!features.includes("relaxed-simd")) checkStaticData(readFileSync(partial));
  renameSync(partial, out);
}
