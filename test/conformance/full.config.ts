// Runs full.ts, which is too long for `npm test`.

import { defineConfig } from "vitest/config";

export default defineConfig({
  test: { include: ["test/conformance/full.ts"], testTimeout: 900_000, pool: "forks", maxWorkers: 1 },
});
