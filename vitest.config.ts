import { defineConfig } from "vitest/config";

/** Folders of `test` that ask what is built, over processes or HTTP, or are small. */
const ROOMS = ["bad-input", "bench", "e2e", "reference", "server", "support"];
/** Two processes run them all: to start one for each would take as long as many of the tests. */
const TOGETHER = ["src/**/*.test.ts", "web/**/*.test.ts", `test/{${ROOMS.join()}}/*.test.ts`];
/** They play with time, or count the processes that they start: what another file left would run through it. */
const APART = [
  "src/engine/client.test.ts",
  "src/server/model-keeper.test.ts",
  "src/server/page/live-figures.test.ts",
  "test/e2e/library-engine-death.test.ts",
  "test/e2e/library-lifecycle.test.ts",
  "test/server/lifecycle.test.ts",
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
        test: { name: "together", include: TOGETHER, exclude: APART, isolate: false },
      },
      {
        extends: true,
        // Each file in a process of its own, in which nothing is left of others.
        test: { name: "apart", include: [...APART, "test/*.test.ts", `test/!(${ROOMS.join("|")})/**/*.test.ts`] },
      },
    ],
  },
});
