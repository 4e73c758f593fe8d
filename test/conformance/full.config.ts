// Runs full.ts and full-random.ts, which are too long for `npm test`.

import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["test/conformance/full.ts", "test/conformance/full-random.ts"],
    testTimeout: 900_000,
    pool: "forks",
    maxWorkers: 2, // one thread each
  },
});
