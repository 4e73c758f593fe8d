import { defineConfig } from "vitest/config";

const ALL = ["src/**/*.test.ts", "web/**/*.test.ts", "test/**/*.test.ts"];
/** Files that a process shared with others would disturb. */
const APART = [
  // They play with time: what another file left waiting would run through it.
  "src/engine/client.test.ts",
  "src/server/model-keeper.test.ts",
  "src/server/page/live-figures.test.ts",
  // They look at their own process: its children, its memory.
  "test/bad-input/contents.test.ts",
  "test/e2e/library-engine-death.test.ts",
  "test/e2e/library-lifecycle.test.ts",
];

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
        // Each file in a process of its own.
        test: { name: "apart", include: APART },
      },
      {
        extends: true,
        // Two processes run them all: to start one for each, and to load there what it tests, takes a tenth of the whole time.
        test: { name: "together", include: ALL, exclude: APART, isolate: false },
      },
    ],
  },
});
