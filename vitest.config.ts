import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["src/**/*.test.ts", "test/**/*.test.ts", "web/**/*.test.ts"],
    testTimeout: 60_000,
    setupFiles: ["test/support/typed-array-equality.ts"],
    pool: "forks",
    maxWorkers: 2,
  },
});
