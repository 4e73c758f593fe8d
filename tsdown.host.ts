import { defineConfig } from "tsdown";
export default defineConfig({ entry: { "gpu/host-steps": "test/gpu/host-steps.ts" }, format: "esm", platform: "node", target: "node20", fixedExtension: false, dts: false, clean: false, deps: { neverBundle: ["koffi"] } });
