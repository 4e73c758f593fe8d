// The body of POST /v1/chat/completions.

import { z } from "zod";
import type { ChatOptions } from "../../engine/model.js";
import { InvalidRequestError } from "../errors.js";
import { modelShape, type ServedModel } from "../served-model.js";
import { constraintOf, constraintShape } from "./constraints.js";
import { messagesSchema } from "./messages.js";
import { checkGoesWith, checkLogprobs, harmlessShape, said, samplingOptions, samplingShape } from "./sampling.js";
import { toolOptions, toolShape } from "./tools.js";

/** Most answers to one request. */
export const MOST_CHOICES = 128;
/** As in OpenAI's API. */
const MOST_TOP_LOGPROBS = 20;

const tokens = z.int().min(1).nullish();
const onlyText = z.array(z.literal("text", { error: "only text: this model writes nothing else" })).nullish();

export const streamOptions = z.strictObject({
  include_usage: z.boolean().nullish(),
  include_obfuscation: z.literal(false, { error: "only false: streams are not padded" }).nullish(),
});

export const chatRequest = z.strictObject({
  ...modelShape,
  messages: messagesSchema,
  ...samplingShape,
  ...harmlessShape,
  ...constraintShape,
  ...toolShape,
  max_tokens: tokens,
  max_completion_tokens: tokens,
  n: z.int().min(1).max(MOST_CHOICES).nullish(),
  stream: z.boolean().nullish(),
  stream_options: streamOptions.nullish(),
  logprobs: z.boolean().nullish(),
  top_logprobs: z.int().min(0).max(MOST_TOP_LOGPROBS).nullish(),
  modalities: onlyText,
  reasoning_effort: z.literal("none", { error: "only none: this model does not reason apart from its answer" }).nullish(),
  verbosity: z.literal("medium", { error: "only medium: ask for shorter or longer answers in the messages" }).nullish(),
});

export type ChatRequest = z.output<typeof chatRequest>;

/** What the engine is asked for one answer. */
export function chatOptions(request: ChatRequest, { adapters }: ServedModel): ChatOptions {
  if (request.top_logprobs != null && !request.logprobs)
    throw new InvalidRequestError("'top_logprobs' goes with 'logprobs': true", { param: "top_logprobs" });
  if (request.stream_options) checkGoesWith(request.stream === true, "stream_options", "'stream': true");
  if (request.logprobs) checkLogprobs(request.n ?? 1, request.top_logprobs ?? 0, "top_logprobs");
  return {
    ...samplingOptions(request),
    ...toolOptions(request),
    ...said<ChatOptions>({
      maxTokens: answerLength(request),
      adapters,
      constraint: constraintOf(request),
      logprobs: request.logprobs ? (request.top_logprobs ?? 0) : undefined,
    }),
  };
}

function answerLength({ max_tokens: old, max_completion_tokens: now }: ChatRequest): number | undefined {
  if (old != null && now != null && old !== now)
    throw new InvalidRequestError("'max_tokens' and 'max_completion_tokens' say different things", {
      param: "max_tokens",
      hint: "Leave max_tokens out; it is the older name.",
    });
  return now ?? old ?? undefined;
}
