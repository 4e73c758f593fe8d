import { defineConfig } from "vitest/config";

const UNIT = ["src/**/*.test.ts", "web/**/*.test.ts"];
/** They play with time: what another file left waiting would run through it. */
const APART = ["src/engine/client.test.ts", "src/server/model-keeper.test.ts", "src/server/page/live-figures.test.ts"];

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
        // Two processes run them all: to start one for each would take longer than the tests.
        test: { name: "unit", include: UNIT, exclude: APART, isolate: false },
      },
      {
        extends: true,
        // Each file in a process of its own, in which nothing is left of others.
        test: { name: "whole", include: [...APART, "test/**/*.test.ts"] },
      },
    ],
  },
});
