import { defineConfig } from "vitest/config";

const UNIT = ["src/**/*.test.ts", "web/**/*.test.ts"];
/** Rooms that start engines, servers and threads, or play with time. */
const APART = ["src/backend/**", "src/engine/**", "src/server/**"];

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
        test: { name: "unit", include: UNIT, exclude: APART, isolate: false },
      },
      {
        extends: true,
        // Each file in a process of its own, in which nothing is left of others.
        test: { name: "whole", include: [...APART.map((room) => `${room}/*.test.ts`), "test/**/*.test.ts"] },
      },
    ],
  },
});
