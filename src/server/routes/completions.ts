// POST /v1/completions

import { randomUUID } from "node:crypto";
import { Hono } from "hono";
import type { GenerationResult, Model } from "../../engine/model.js";
import { AnswerFeed } from "../answer-feed.js";
import { begin, streamedAnswer, wholeAnswer } from "../answer-stream.js";
import type { RouteContext } from "../app.js";
import type { AppEnv } from "../app-env.js";
import { readJson } from "../body.js";
import { asTheyCome, optionsOfChoice } from "../choices.js";
import { completionLogprobs, TextOffsets } from "../logprobs.js";
import { refuseTooLong } from "../prompt-length.js";
import {
  type CompletionRequest,
  choicesOf,
  completionOptions,
  completionRequest,
  type Prompt,
  promptsOf,
} from "../requests/completion.js";
import { negativeTextsOf, widthOf } from "../requests/sampling.js";
import { servedModel } from "../served-model.js";
import { sseEvent } from "../sse.js";
import { timingsOf, type Usage, usageOf } from "../usage.js";

export function completionRoutes({ models, answering, metrics, maxBody }: RouteContext): Hono<AppEnv> {
  return new Hono<AppEnv>().post("/v1/completions", async (context) => {
    const asked = performance.now();
    const request = await readJson(context, maxBody, completionRequest);
    const prompts = promptsOf(request);
    const { computed, given } = choicesOf(request);
    const served = servedModel(models, request);
    const options = prompts.map((prompt) => completionOptions(request, prompt, served));
    const head = {
      id: `cmpl-${randomUUID().replaceAll("-", "")}`,
      object: "text_completion",
      created: Math.floor(Date.now() / 1000),
      model: served.name,
    };
    for (const prompt of prompts) if (typeof prompt === "string") await refuseTooLong(models.current(), [prompt], "prompt");
    await refuseTooLong(models.current(), negativeTextsOf(request), "guidance");
    const scope = answering.begin(context, prompts.length * computed * widthOf(request));
    const { model, signal } = scope;
    const answer = { context, scope, metrics, route: "/v1/completions" };
    // [prompt][answer]
    const feeds = begin(answer, () =>
      prompts.map((prompt, place) =>
        Array.from({ length: computed }, (_, index) => {
          const generation = model.generate(prompt, { ...optionsOfChoice(options[place]!, index), signal });
          return new AnswerFeed(generation, asked, metrics);
        }),
      ),
    );
    const echoed = () => Promise.all(prompts.map((prompt) => (request.echo ? textOf(model, prompt) : "")));
    if (request.stream) return streamedAnswer(answer, feeds.flat(), () => chunks(head, request, feeds, echoed));
    return wholeAnswer(answer, async () => {
      const results = await Promise.all(feeds.map((row) => Promise.all(row.map((feed) => feed.result))));
      const usage = usageOf(results);
      const texts = await echoed();
      const choices = results.flatMap((row, place) =>
        best(row, given).map((result, i) => choice(place * given + i, request, result, texts[place]!)),
      );
      return { body: { ...head, choices, usage, timings: timingsOf(results[0]![0]!) }, usage };
    });
  });
}

type Head = Readonly<Record<"id" | "object" | "model", string>> & { readonly created: number };

function choice(index: number, request: CompletionRequest, result: GenerationResult, echoed: string) {
  const tokens = [...(result.promptLogprobs ?? []), ...(result.tokens ?? [])];
  const text = echoed + result.text;
  return {
    index,
    text,
    logprobs: request.logprobs == null ? null : completionLogprobs(tokens, new TextOffsets(text)),
    finish_reason: result.finishReason,
    ...(request.return_token_ids ? { token_ids: result.ids } : {}),
  };
}

/** The likeliest answers, by the mean log-probability of their tokens. */
function best(results: readonly GenerationResult[], count: number): readonly GenerationResult[] {
  if (results.length === count) return results;
  const mean = ({ tokens = [] }: GenerationResult) =>
    tokens.length === 0 ? Number.NEGATIVE_INFINITY : tokens.reduce((sum, { logprob }) => sum + logprob, 0) / tokens.length;
  return [...results].sort((a, b) => mean(b) - mean(a)).slice(0, count);
}

/** What `echo` gives back of a prompt. */
function textOf(model: Model, prompt: Prompt): Promise<string> {
  return typeof prompt === "string" ? Promise.resolve(prompt) : model.detokenize(prompt);
}

async function* chunks(
  head: Head,
  request: CompletionRequest,
  feeds: ReadonlyArray<readonly AnswerFeed[]>,
  echoed: () => Promise<readonly string[]>,
): AsyncGenerator<string, Usage> {
  const withUsage = request.stream_options?.include_usage === true;
  const perPrompt = feeds[0]!.length;
  const chunk = (choices: readonly unknown[]) => sseEvent({ ...head, choices, ...(withUsage ? { usage: null } : {}) });
  const results: GenerationResult[][] = feeds.map(() => []);
  const offsets = feeds.flat().map(() => new TextOffsets());
  if (request.echo)
    for (const [place, text] of (await echoed()).entries())
      for (let i = 0; i < perPrompt; i++)
        yield chunk([{ index: place * perPrompt + i, text, logprobs: null, finish_reason: null }]);
  for await (const event of asTheyCome(feeds.flat())) {
    const { index } = event;
    if ("piece" in event) {
      const { text, ids, tokens } = event.piece;
      const logprobs = request.logprobs == null ? null : completionLogprobs(tokens ?? [], offsets[index]!);
      if (text === "" && logprobs === null && !request.return_token_ids) continue; // text lags behind tokens
      yield chunk([{ index, text, logprobs, finish_reason: null, ...(request.return_token_ids ? { token_ids: ids } : {}) }]);
    } else {
      results[Math.floor(index / perPrompt)]![index % perPrompt] = event.result;
      yield chunk([{ index, text: "", logprobs: null, finish_reason: event.result.finishReason }]);
    }
  }
  const usage = usageOf(results);
  if (withUsage) yield sseEvent({ ...head, choices: [], usage, timings: timingsOf(results[0]![0]!) });
  yield sseEvent("[DONE]");
  return usage;
}
