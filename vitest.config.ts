import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    testTimeout: 60_000,
    setupFiles: ["test/support/typed-array-equality.ts"],
    unstubEnvs: true,
    pool: "forks",
    maxWorkers: 2,
    projects: [
      {
        extends: true,
        // One process after the other runs them all: to start one for each would take longer than the tests.
        test: { name: "unit", include: ["src/**/*.test.ts", "web/**/*.test.ts"], exclude: ["src/backend/**"], isolate: false },
      },
      {
        extends: true,
        // They start engines, servers, threads, and look at what is left of them: each in a process of its own.
        test: { name: "whole", include: ["src/backend/**/*.test.ts", "test/**/*.test.ts"] },
      },
    ],
  },
});
