// Random schedules: requests of all kinds that come, share beginnings, are cancelled and press on
// one another. Whatever happens, each is told what it would be told alone, and no page is lost.

import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { expectedIds, promptOf } from "../../test/support/fake-answers.js";
import { expectAllFree, setUp } from "../../test/support/fake-generation.js";
import { FakeRuntime } from "../../test/support/fake-runtime.js";
import { WanderingJob } from "../../test/support/wandering-job.js";
import { GREEDY } from "../sampling/parameters.js";
import { CacheTooSmallError, NoRoomError, QueueFullError } from "./errors.js";
import { generate } from "./generate.js";
import { logprobs } from "./score.js";

const anyModel = fc.record({
  maxSequences: fc.integer({ min: 2, max: 6 }),
  prefillChunk: fc.integer({ min: 1, max: 400 }),
  atOnce: fc.option(fc.integer({ min: 1, max: 4 }), { nil: undefined }),
  cacheTokens: fc.integer({ min: 4, max: 10 }).map((pages) => pages * 256),
  windows: fc.constantFrom([null], [null], [200], [null, 300], [64, null, 513]),
  rope: fc.constantFrom(
    { kind: "default", theta: 1 } as const,
    { kind: "dynamic", theta: 1, factor: 2, originalContext: 300 } as const,
  ),
});

const anyPressure = fc.record({
  onPressure: fc.constantFrom("wait" as const, "preempt" as const, "preempt" as const, "refuse" as const),
  maxWaiting: fc.option(fc.nat(6), { nil: undefined, freq: 3 }),
});

const anyRequest = fc.record({
  kind: fc.constantFrom("answer", "answer", "answer", "guesses", "repeats", "guided", "beams", "wander", "twins", "score"),
  /** Begins with so many ids of one of a few texts. */
  text: fc.nat(2),
  keep: fc.oneof(fc.nat(700), fc.constantFrom(0, 300)),
  fresh: fc.oneof(fc.integer({ min: 1, max: 300 }), fc.constant(150)),
  ending: fc.nat(1),
  maxTokens: fc.integer({ min: 1, max: 60 }),
  temperature: fc.constantFrom(0, 1),
  /** Comes after so many steps. */
  after: fc.nat(60),
  /** Is given up after so many steps more. */
  leaveAfter: fc.option(fc.nat(40), { nil: null, freq: 2 }),
});

/** Kinds of answers, by their options. */
const STRATEGIES = {
  answer: {},
  guesses: { speculate: 4 },
  repeats: { speculate: { tokens: 6, ngram: 1 } },
  guided: { guidance: { scale: 1.5, negative: promptOf(15, 77) } },
  beams: { beams: { count: 2, length: 4 } },
};

describe("the scheduler", () => {
  it("tells every request what it would be told alone, and returns all pages", async () => {
    await fc.assert(
      fc.asyncProperty(
        anyModel,
        anyPressure,
        fc.boolean(),
        fc.array(anyRequest, { minLength: 1, maxLength: 14 }),
        async (model, pressure, drafted, all) => {
          const { windows, rope } = model;
          const draft = drafted ? new FakeRuntime({ context: 1024, cacheTokens: 1536, rope }) : undefined;
          const { runtime, scheduler, context } = setUp({ context: 1024, ...model, draft }, pressure);
          const alone = () => setUp({ context: 1024, cacheTokens: 8192, maxSequences: 4, windows, rope });
          const clock = new Clock();
          runtime.beforeStep = () => {
            clock.tick();
            const { freePages, idlePages, totalPages, running } = scheduler.load;
            for (const [g, total] of totalPages.entries()) expect(freePages[g]! + idlePages[g]!).toBeLessThan(total);
            expect(running).toBeLessThanOrEqual(model.maxSequences);
          };
          const run = async (request: (typeof all)[number], seed: number): Promise<void> => {
            const { kind, text, keep, fresh, ending, maxTokens, temperature, after, leaveAfter } = request;
            await clock.at(after);
            const controller = new AbortController();
            if (leaveAfter !== null) void clock.at(after + leaveAfter).then(() => controller.abort("left"));
            const { signal } = controller;
            const ids = [...promptOf(keep, text + 1), ...promptOf(fresh, ending + 10)].slice(0, 900);
            if (Object.hasOwn(STRATEGIES, kind)) {
              const said: number[] = [];
              const options = { maxTokens, temperature, seed, ...STRATEGIES[kind as keyof typeof STRATEGIES] };
              const stream = generate(context, { ids, options }, signal);
              const expected =
                kind === "guided" || kind === "beams"
                  ? (await alone().ask({ ids, options })).ids
                  : expectedIds(runtime, ids, maxTokens, { parameters: { ...GREEDY, temperature }, seed });
              for await (const event of stream) {
                said.push(...event.ids);
                expect(said).toEqual(expected.slice(0, said.length));
              }
              expect(said.length).toBe(maxTokens);
            } else if (kind === "score") {
              expect(await logprobs(scheduler, ids, { signal })).toEqual(await logprobs(alone().scheduler, ids));
            } else {
              const prompts = kind === "twins" ? [ids, promptOf(20, seed)] : [ids];
              const job = new WanderingJob(runtime, { seed, prompts, width: 2, rounds: 10, stride: 4 });
              const ticket = scheduler.submit(job);
              signal.addEventListener("abort", () => void ticket.cancel());
              await ticket.done;
              expect(job.problem).toBe(null);
            }
          };
          const results = await Promise.all(
            all.map(async (request, seed) =>
              run(request, seed).then(
                () => null,
                (error: unknown) => error,
              ),
            ),
          );
          for (const error of results) if (error !== null && error !== "left" && !isRefusal(error, pressure)) throw error;
          expectAllFree(scheduler);
          if (context.speculator.draft) expectAllFree(context.speculator.draft);
          if (pressure.onPressure !== "preempt") expect(scheduler.counters.preemptions).toBe(0);
        },
      ),
      { numRuns: Number(process.env.SCHEDULES ?? 40) },
    );
  });
});

function isRefusal(error: unknown, { onPressure, maxWaiting }: { onPressure: string; maxWaiting: number | undefined }): boolean {
  if (error instanceof CacheTooSmallError) return true; // more than the cache has, even alone
  if (error instanceof NoRoomError) return onPressure === "refuse";
  return error instanceof QueueFullError && maxWaiting !== undefined;
}

/** Counts steps; while nothing steps, time passes by itself. */
class Clock {
  #now = 0;
  #idling = false;
  #waiting: { readonly at: number; readonly go: () => void }[] = [];

  at(time: number): Promise<void> {
    return new Promise((go) => {
      this.#waiting.push({ at: time, go });
      this.#idle(this.#now);
    });
  }

  tick(): void {
    this.#now++;
    const due = this.#waiting.filter(({ at }) => at <= this.#now);
    this.#waiting = this.#waiting.filter(({ at }) => at > this.#now);
    for (const { go } of due) go();
  }

  #idle(since: number): void {
    if (this.#idling || this.#waiting.length === 0) return;
    this.#idling = true;
    setImmediate(() => {
      setImmediate(() => {
        this.#idling = false;
        if (this.#now === since) this.tick();
        this.#idle(this.#now);
      });
    });
  }
}
