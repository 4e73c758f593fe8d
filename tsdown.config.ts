import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { defineConfig } from "tsdown";

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

// Pure-JavaScript libraries (devDependencies) are bundled, so that installing the package
// brings koffi and nothing else; every program that is started by file name is an entry.
export default defineConfig({
  entry: {
    index: "src/index.ts",
    plan: "src/plan.ts",
    "cli/main": "src/cli/main.ts",
    "engine/child": "src/engine/child.ts",
    "engine/thread": "src/engine/thread.ts",
    "backend/cpu/worker": "src/backend/cpu/worker.ts",
    "structured/worker": "src/structured/worker.ts",
    // Tests for machines with a GPU; not in the npm package.
    "gpu/main": "test/gpu/main.ts",
    "gpu/poisoned-engine": "test/gpu/poisoned-engine.ts",
    "gpu/sample-cards": "test/gpu/sample-cards.ts",
    "gpu/issue-305": "test/gpu/issue-305/main.ts",
    "gpu/prefill-checks": "test/gpu/prefill-checks.ts",
    "gpu/prompt-checks": "test/gpu/prompt-checks.ts",
    "gpu/host-steps": "test/gpu/host-steps.ts",
    "gpu/decode-checks": "test/gpu/decode-checks.ts",
    "gpu/batch-checks": "test/gpu/batch-checks.ts",
    "gpu/chain-checks": "test/gpu/chain-checks.ts",
  },
  format: "esm",
  platform: "node",
  target: "node20",
  fixedExtension: false,
  dts: { entry: ["src/index.ts", "src/plan.ts"], tsconfig: "tsconfig.declarations.json", tsgo: { path: typeScript() } },
  // dist/ is published as it lies: chunks of earlier builds go, what other steps build (wasm/, page/) stays.
  clean: ["dist/*.js", "dist/*.d.ts", "dist/backend", "dist/cli", "dist/engine", "dist/gpu", "dist/structured"],
  alias: { "@opentelemetry/api": openTelemetry },
  onSuccess: copyXGrammar,
  deps: { neverBundle: ["koffi"] },
});
