import { describe, expect, it } from "vitest";
import { promptOf } from "../../test/support/fake-answers.js";
import { expectAllFree, setUp } from "../../test/support/fake-generation.js";
import { embed } from "./embed.js";
import { EmptyPromptError, PromptTooLongError, QueueFullError, TokenIdError } from "./errors.js";

describe("embed", () => {
  it("gives each input the mean of its hidden states, of length 1, whatever chunks and neighbours it has", async () => {
    const { runtime, scheduler } = setUp({ prefillChunk: 33, maxSequences: 3, cacheTokens: 2048 });
    const inputs = [promptOf(100), promptOf(7, 2), promptOf(300, 3), promptOf(1, 4), promptOf(40, 5)];
    const vectors = await embed(scheduler, inputs);
    for (const [i, ids] of inputs.entries()) {
      const sum = new Float64Array(8);
      for (let end = 1; end <= ids.length; end++) {
        const logits = runtime.expectedLogits(ids.slice(0, end), ids.length);
        for (let d = 0; d < 8; d++) sum[d]! += logits[d]!;
      }
      const length = Math.hypot(...sum);
      for (let d = 0; d < 8; d++) expect(vectors[i]?.[d]).toBeCloseTo(sum[d]! / length, 6);
    }
    expect(Math.max(...runtime.steps.map(({ entries }) => entries))).toBeGreaterThan(1);
    expect(scheduler.load.idle).toBe(0);
    expectAllFree(scheduler);
  });

  it.each([{ maxWaiting: 0 }, { onPressure: "refuse" as const }])(
    "makes do with the room that others leave, %j",
    async (options) => {
      const { scheduler, ask } = setUp({ maxSequences: 3, cacheTokens: 2048 }, options);
      const inputs = Array.from({ length: 9 }, (_, i) => promptOf(30, i));
      const others = async (seed: number): Promise<void> => {
        for (let i = 0; i < 5; i++) {
          await new Promise((resolve) => setImmediate(resolve));
          if (scheduler.load.running < 3) await ask({ ids: promptOf(10, seed), options: { maxTokens: 4 } });
        }
      };
      const first = ask({ ids: promptOf(10, 3), options: { maxTokens: 9 } });
      const [vectors] = await Promise.all([embed(scheduler, inputs), others(1), others(2)]);
      await first;
      expect(vectors).toEqual(await embed(setUp().scheduler, inputs));
      expectAllFree(scheduler);
    },
  );

  it("ends with the refusal where there is no room for a single one", async () => {
    const { scheduler, ask } = setUp({}, { maxWaiting: 0 });
    const answer = ask({ ids: [1], options: { maxTokens: 20 } });
    await expect(embed(scheduler, [promptOf(3), promptOf(4)])).rejects.toThrow(QueueFullError);
    await answer;
    expectAllFree(scheduler);
  });

  it("of nothing is nothing", async () => {
    expect(await embed(setUp().scheduler, [])).toEqual([]);
  });

  it.each([
    [[[1], []], EmptyPromptError],
    [[[1], [99]], TokenIdError],
    [[[1], promptOf(513)], PromptTooLongError],
  ])("refuses all when one input is wrong, before anything runs", async (inputs, error) => {
    const { runtime, scheduler } = setUp();
    await expect(embed(scheduler, inputs)).rejects.toThrow(error);
    expect(runtime.steps.length).toBe(0);
  });

  it("ends with the signal's reason, or the backend's error, everything freed", async () => {
    const { runtime, scheduler } = setUp({ prefillChunk: 10, maxSequences: 2, cacheTokens: 1024 });
    const controller = new AbortController();
    runtime.beforeStep = () => {
      if (runtime.steps.length === 2) controller.abort("enough");
    };
    await expect(embed(scheduler, [promptOf(300), promptOf(300, 2)], { signal: controller.signal })).rejects.toBe("enough");
    expectAllFree(scheduler);
    const death = new Error("the device is gone");
    runtime.beforeStep = () => {
      throw death;
    };
    await expect(embed(scheduler, [promptOf(300), promptOf(300, 2), promptOf(3)])).rejects.toBe(death);
    expectAllFree(scheduler);
  });
});
