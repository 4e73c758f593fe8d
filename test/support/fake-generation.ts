// Generations over the fake runtime, set up for a test.

import { expect } from "vitest";
import { type GenerationContext, generate, readToEnd } from "../../src/generate/generate.js";
import type { GenerationRequest, GenerationResult } from "../../src/generate/request.js";
import { Scheduler, type SchedulerOptions } from "../../src/generate/scheduler.js";
import { Speculator } from "../../src/generate/speculation/speculator.js";
import { GREEDY } from "../../src/sampling/parameters.js";
import { letters } from "./fake-answers.js";
import { type FakeModel, FakeRuntime } from "./fake-runtime.js";

export function setUp(model: FakeModel = {}, options: SchedulerOptions = {}) {
  const runtime = new FakeRuntime(model);
  const speculator = new Speculator(runtime);
  const scheduler = new Scheduler(runtime, { propose: () => speculator.propose(), ...options });
  const context: GenerationContext = { scheduler, tokenizer: letters, defaults: GREEDY, speculator, speculate: null };
  const ask = (request: GenerationRequest, signal?: AbortSignal): Promise<GenerationResult> =>
    readToEnd(generate(context, request, signal), () => {});
  return { runtime, scheduler, context, ask };
}

/** Nothing held but by idle sequences, which give way; then nothing at all. */
export function expectAllFree(scheduler: Scheduler): void {
  expect(scheduler.load).toMatchObject({ waiting: 0, running: 0 });
  expect(scheduler.load.reservedPages.every((pages) => pages === 0)).toBe(true);
  scheduler.clearIdle();
  expect(scheduler.load.freePages).toEqual(scheduler.runtime.plan.cacheGroups.map((group) => group.pages));
}
