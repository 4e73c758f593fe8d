import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { defineConfig, type UserConfig } from "tsdown";

// prom-client requires it; bundled from its CommonJS files it reads names before they are there.
const openTelemetry = fileURLToPath(new URL("node_modules/@opentelemetry/api/dist/index.mjs", import.meta.url));

// TypeScript 7, which checks the types too, writes declarations in a quarter of the time of earlier versions. It says
// itself where its program is, but under no name that it exports.
const { default: typeScript } = await import(new URL("node_modules/typescript-7/lib/getExePath.js", import.meta.url).href);

/** Cannot be bundled or imported as it is published, and is a third as large packed; its licence goes with it. */
function copyXGrammar(): void {
  mkdirSync("dist/structured", { recursive: true });
  const source = readFileSync("node_modules/@mlc-ai/web-xgrammar/lib/index.js");
  writeFileSync("dist/structured/xgrammar.cjs.gz", gzipSync(source, { level: 9 }));
  copyFileSync("src/structured/xgrammar.LICENSE.txt", "dist/structured/xgrammar.LICENSE.txt");
}

/** What a caller's process runs: the library, and the command line over it. */
const CALLERS = { index: "src/index.ts", plan: "src/plan.ts", "cli/main": "src/cli/main.ts" };
const DECLARATIONS = {
  entry: ["src/index.ts", "src/plan.ts"],
  tsconfig: "tsconfig.declarations.json",
  tsgo: { path: typeScript() },
};
/** Tests for machines with a GPU; not in the npm package. */
const GPU_TESTS = {
  main: "test/gpu/main.ts",
  "poisoned-engine": "test/gpu/poisoned-engine.ts",
  "sample-cards": "test/gpu/sample-cards.ts",
  "issue-305": "test/gpu/issue-305/main.ts",
  "prefill-checks": "test/gpu/prefill-checks.ts",
  "prompt-checks": "test/gpu/prompt-checks.ts",
  "host-steps": "test/gpu/host-steps.ts",
  "decode-checks": "test/gpu/decode-checks.ts",
  "batch-checks": "test/gpu/batch-checks.ts",
  "batch-cuts": "test/gpu/batch-cuts.ts",
  "chain-checks": "test/gpu/chain-checks.ts",
  "chain-rows-checks": "test/gpu/chain-rows-checks.ts",
  "norm-checks": "test/gpu/norm-checks.ts",
  "half-ring-checks": "test/gpu/half-ring-checks.ts",
  "head-checks": "test/gpu/head-checks.ts",
  "attention-splits": "test/gpu/attention-splits.ts",
};

// Every program that is started by file name is an entry. Those that run in processes or threads of
// their own are built by themselves: what several need lies in each, and so each starts by reading
// one file, not dozens that hold what others need.
export default defineConfig([
  program("dist", CALLERS, { dts: DECLARATIONS, onSuccess: copyXGrammar }),
  program("dist/engine", { child: "src/engine/child.ts", thread: "src/engine/thread.ts" }),
  program("dist/backend/cpu", { worker: "src/backend/cpu/worker.ts" }),
  program("dist/structured", { worker: "src/structured/worker.ts" }),
  program("dist/gpu", GPU_TESTS),
]);

function program(outDir: string, entry: Record<string, string>, more: Pick<UserConfig, "dts" | "onSuccess"> = {}): UserConfig {
  return {
    entry,
    outDir,
    format: "esm",
    platform: "node",
    target: "node20",
    fixedExtension: false,
    dts: false,
    // dist/ is published as it lies: chunks of earlier builds go, what other steps build (wasm/, page/) stays.
    clean: [`${outDir}/*.js`, `${outDir}/*.d.ts`, "dist/cli"],
    alias: { "@opentelemetry/api": openTelemetry },
    // Pure-JavaScript libraries (devDependencies) are bundled, so that installing the package
    // brings koffi and nothing else.
    deps: { neverBundle: ["koffi"] },
    // Docstrings are in the .d.ts files; here they would be a seventh of what every start reads.
    outputOptions: { comments: { jsdoc: false } },
    ...more,
  };
}
