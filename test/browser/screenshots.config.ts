import { defineConfig } from "vitest/config";

// Takes the pictures of docs/ anew: npx vitest run --config test/browser/screenshots.config.ts
export default defineConfig({
  test: { include: ["test/browser/screenshots.ts"], testTimeout: 300_000, hookTimeout: 300_000, pool: "forks" },
});
