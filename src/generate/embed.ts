// Texts as vectors: the mean of the final hidden states over all positions, of length 1. Inputs
// run through the scheduler like any other request, chunk by chunk, as many at once as the
// plan has places, so that a long list does not fill the queue: where there is room for some of
// them only, the rest waits for these.

import type { Output, OutputRequest } from "../backend/backend.js";
import type { AdapterUse } from "../model/adapter.js";
import { resolveAdapters } from "./adapters.js";
import { NOTHING } from "./answer-outputs.js";
import { NoRoomError, QueueFullError } from "./errors.js";
import { checkIds } from "./prompt.js";
import type { Scheduler } from "./scheduler.js";
import { checkContext, ScoreJob, type ScoreOptions, untilDone } from "./score.js";

/**
 * @returns for each input `[hidden]`
 * @throws {EmptyPromptError}, {@link TokenIdError}, {@link PromptTooLongError}, {@link CacheTooSmallError}: all inputs are
 *   checked before the first runs; {@link QueueFullError}, {@link NoRoomError} when not one of them can run; the
 *   signal's reason when aborted
 */
export async function embed(
  scheduler: Scheduler,
  inputs: ReadonlyArray<ArrayLike<number>>,
  options: ScoreOptions = {},
): Promise<Float32Array[]> {
  options.signal?.throwIfAborted();
  const { spec, plan } = scheduler.runtime;
  const prompts = inputs.map((ids) => checkIds(ids, spec.vocabSize));
  for (const prompt of prompts) checkContext(scheduler, prompt.length);
  const adapters = resolveAdapters(options.adapters ?? [], spec.adapters);

  const stop = new AbortController();
  const signal = options.signal ? AbortSignal.any([options.signal, stop.signal]) : stop.signal;
  const vectors = new Array<Float32Array>(prompts.length);
  const left = [...prompts.keys()].reverse();
  let running = 0;
  const work = async (): Promise<void> => {
    for (let index = left.pop(); index !== undefined; index = left.pop()) {
      running++;
      try {
        vectors[index] = await embedOne(scheduler, prompts[index]!, adapters, signal);
      } catch (error) {
        const refused = error instanceof QueueFullError || error instanceof NoRoomError;
        if (!refused || running === 1) throw error;
        left.push(index); // one of those that run will see to it
        return;
      } finally {
        running--;
      }
    }
  };
  const workers = Array.from({ length: Math.min(prompts.length, plan.run.maxSequences) }, work);
  try {
    await Promise.all(workers);
  } catch (error) {
    stop.abort(error); // the others' pages are free when the caller hears of it
    await Promise.allSettled(workers);
    throw error;
  }
  return vectors;
}

async function embedOne(
  scheduler: Scheduler,
  prompt: Int32Array,
  adapters: readonly AdapterUse[],
  signal: AbortSignal,
): Promise<Float32Array> {
  const sum = new Float64Array(scheduler.runtime.spec.hiddenSize);
  const job = new ScoreJob(prompt, { adapters, wanted: wantHidden, take: (output) => addHidden(sum, output) });
  await untilDone(scheduler.submit(job), signal);
  const length = Math.sqrt(sum.reduce((squares, value) => squares + value * value, 0));
  return Float32Array.from(sum, (value) => (length === 0 ? 0 : value / length));
}

function wantHidden(): Omit<OutputRequest, "index"> {
  return { ...NOTHING, hidden: true };
}

function addHidden(sum: Float64Array, { hidden }: Output): void {
  for (let i = 0; i < sum.length; i++) sum[i]! += hidden![i]!;
}
