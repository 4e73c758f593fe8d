import { fileURLToPath } from "node:url";
import { defineConfig } from "vite";

// Built into dist/page, which `exllama serve` reads. For work on the page itself:
// `exllama serve`, and `npx vite web` beside it.
export default defineConfig({
  root: fileURLToPath(new URL(".", import.meta.url)),
  base: "./",
  oxc: { jsx: { runtime: "automatic", importSource: "preact" } },
  build: {
    outDir: "../dist/page",
    emptyOutDir: true,
    target: "es2022",
    modulePreload: { polyfill: false },
    reportCompressedSize: false,
    assetsInlineLimit: 0,
    license: { fileName: "licenses.md" },
  },
  server: {
    proxy: Object.fromEntries(["/v1", "/api", "/tokenize", "/health", "/metrics"].map((path) => [path, "http://127.0.0.1:5005"])),
  },
});
