import { defineConfig } from "vitest/config";
import { BaseSequencer, type TestSpecification } from "vitest/node";

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

/** Short files last, so that both processes end at about the same time: those of single rooms, after those of whole programs. */
class ShortLast extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const isShort = ({ project, moduleId }: TestSpecification) =>
      project.name === "together" && !moduleId.startsWith(`${this.ctx.config.root}/test/`);
    const sorted = await super.sort(files);
    return [...sorted.filter((file) => !isShort(file)), ...sorted.filter(isShort)];
  }
}

export default defineConfig({
  test: {
    testTimeout: 60_000,
    setupFiles: ["test/support/typed-array-equality.ts"],
    unstubEnvs: true,
    pool: "forks",
    maxWorkers: 2,
    sequence: { sequencer: ShortLast },
    projects: [
      {
        extends: true,
        // Each file in a process of its own.
        test: { name: "apart", include: APART },
      },
      {
        extends: true,
        // Two processes run them all: each further one takes half a second to start, and to load what its file tests.
        test: { name: "together", include: ALL, exclude: APART, isolate: false },
      },
    ],
  },
});
