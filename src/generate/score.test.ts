import { describe, expect, it } from "vitest";
import { expectedIds, promptOf } from "../../test/support/fake-answers.js";
import { expectAllFree, setUp } from "../../test/support/fake-generation.js";
import { logSoftmaxAt } from "../sampling/logprobs.js";
import { EmptyPromptError, GenerationOptionError, PromptTooLongError, TokenIdError } from "./errors.js";
import { logitRows, logits, logprobs } from "./score.js";

describe("logprobs", () => {
  it.each([[[null]], [[100, null]]])("scores every id after those before it, chunk by chunk, windows %j", async (windows) => {
    const { runtime, scheduler } = setUp({ windows, prefillChunk: 60 });
    const ids = promptOf(400);
    const scores = await logprobs(scheduler, ids);
    const fed = ids.length - 1;
    const expected = Float32Array.from({ length: fed }, (_, i) =>
      logSoftmaxAt(runtime.expectedLogits(ids.slice(0, i + 1), fed), ids[i + 1]!),
    );
    expect(scores).toEqual(expected);
    expect(runtime.steps.length).toBe(7);
    expect(scheduler.load.idle).toBe(0);
    expectAllFree(scheduler);
  });

  it("takes one id more than the context, which is not fed", async () => {
    const { scheduler } = setUp({ context: 256 });
    expect((await logprobs(scheduler, promptOf(257))).length).toBe(256);
    await expect(logprobs(scheduler, promptOf(258))).rejects.toThrow(PromptTooLongError);
  });

  it("of one id are none", async () => {
    expect(await logprobs(setUp().scheduler, [3])).toEqual(new Float32Array(0));
  });

  it("run beside generations, which they leave as they are", async () => {
    const { runtime, scheduler, ask } = setUp({ maxSequences: 2, cacheTokens: 1024 });
    const [scores, answer] = await Promise.all([
      logprobs(scheduler, promptOf(300, 2)),
      ask({ ids: promptOf(50), options: { maxTokens: 20 } }),
    ]);
    expect(scores).toEqual(await logprobs(setUp().scheduler, promptOf(300, 2)));
    expect(answer.ids).toEqual(expectedIds(runtime, promptOf(50), 20));
    expectAllFree(scheduler);
  });

  it("refuse what is no list of ids", async () => {
    const { scheduler } = setUp();
    await expect(logprobs(scheduler, [])).rejects.toThrow(EmptyPromptError);
    await expect(logprobs(scheduler, [1, 2, 40])).rejects.toThrow(TokenIdError);
  });
});

describe("logits", () => {
  it.each([1, 3, 70, 200])("gives the last %i rows, in order", async (last) => {
    const { runtime, scheduler } = setUp();
    const ids = promptOf(200);
    const rows = await logits(scheduler, ids, { last });
    expect(rows).toEqual(Array.from({ length: last }, (_, i) => runtime.expectedLogits(ids.slice(0, 200 - last + i + 1), 200)));
    expectAllFree(scheduler);
  });

  it("gives the last row by default", async () => {
    expect((await logits(setUp().scheduler, promptOf(10))).length).toBe(1);
  });

  it.each([0, -1, 11, 1.5, Number.NaN])("refuses %d rows of a prompt of 10", async (last) => {
    await expect(logits(setUp().scheduler, promptOf(10), { last })).rejects.toThrow(GenerationOptionError);
  });

  it("fits a prompt as long as the context, and no longer one", async () => {
    const { scheduler } = setUp();
    expect((await logits(scheduler, promptOf(512))).length).toBe(1);
    await expect(logits(scheduler, promptOf(513))).rejects.toThrow(/513 tokens.*512/);
  });

  it("waits for a slow reader, and ends with one who leaves", async () => {
    const { runtime, scheduler } = setUp({ prefillChunk: 20 });
    let read = 0;
    for await (const _ of logitRows(scheduler, promptOf(200), { last: 200 })) {
      await new Promise((resolve) => setTimeout(resolve, 1));
      expect(runtime.steps.length).toBeLessThanOrEqual(Math.floor(read / 20) + 1);
      if (++read === 50) break;
    }
    expectAllFree(scheduler);
  });
});

describe.each([
  ["logprobs", logprobs],
  ["logits", logits],
])("%s", (_, score) => {
  it("ends with the signal's reason within one step, everything freed", async () => {
    const { runtime, scheduler } = setUp({ prefillChunk: 10 });
    const controller = new AbortController();
    const reason = new Error("enough");
    runtime.beforeStep = () => {
      if (runtime.steps.length === 2) controller.abort(reason);
    };
    await expect(score(scheduler, promptOf(300), { signal: controller.signal })).rejects.toBe(reason);
    expect(runtime.steps.length).toBe(3);
    expectAllFree(scheduler);
    await expect(score(scheduler, promptOf(300), { signal: controller.signal })).rejects.toBe(reason);
  });

  it("ends with the backend's error", async () => {
    const { runtime, scheduler } = setUp();
    const death = new Error("the device is gone");
    runtime.beforeStep = () => {
      throw death;
    };
    await expect(score(scheduler, promptOf(30))).rejects.toBe(death);
    expectAllFree(scheduler);
  });
});
