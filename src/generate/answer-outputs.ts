// What an answer wants of the positions that are fed, whichever job feeds them.

import type { OutputRequest } from "../backend/backend.js";
import type { SampleRequest } from "../sampling/parameters.js";
import type { AnswerRecord } from "./answer-record.js";

/** What is wanted of a position: nothing yet. */
export const NOTHING = { sample: null, target: null, topLogprobs: 0, logits: false, hidden: false } as const;

/** How the id that follows `ids` is chosen. */
export function choiceAfter({ prompt, options, constraint }: AnswerRecord, ids: Int32Array): SampleRequest {
  return {
    parameters: options.sampling,
    history: ids,
    promptLength: prompt.length,
    seed: options.seed,
    position: ids.length,
    mask: constraint?.mask() ?? null,
  };
}

/** Each prompt token after the first, as what follows the one before it; where they are wanted. */
export function promptOutputs({ prompt, options }: AnswerRecord, start: number, end: number): OutputRequest[] {
  const requests: OutputRequest[] = [];
  if (options.promptLogprobs === null) return requests;
  for (let at = start; at < Math.min(end, prompt.length - 1); at++)
    requests.push({ ...NOTHING, index: at - start, target: prompt[at + 1]!, topLogprobs: options.promptLogprobs });
  return requests;
}
