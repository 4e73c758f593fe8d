// POST /v1/chat/completions

import { randomUUID } from "node:crypto";
import { Hono } from "hono";
import type { GenerationEvent, GenerationResult, ToolCallDelta } from "../../engine/model.js";
import { AnswerFeed } from "../answer-feed.js";
import { begin, streamedAnswer, wholeAnswer } from "../answer-stream.js";
import type { RouteContext } from "../app.js";
import type { AppEnv } from "../app-env.js";
import { readJson } from "../body.js";
import { asTheyCome, optionsOfChoice } from "../choices.js";
import { chatLogprobs } from "../logprobs.js";
import { refuseTooLong } from "../prompt-length.js";
import { type ChatRequest, chatOptions, chatRequest } from "../requests/chat.js";
import { messagesOf, textsOf } from "../requests/messages.js";
import { negativeTextsOf, widthOf } from "../requests/sampling.js";
import { servedModel } from "../served-model.js";
import { sseEvent } from "../sse.js";
import { timingsOf, type Usage, usageOf } from "../usage.js";

export function chatRoutes({ models, answering, metrics, maxBody }: RouteContext): Hono<AppEnv> {
  return new Hono<AppEnv>().post("/v1/chat/completions", async (context) => {
    const asked = performance.now();
    const request = await readJson(context, maxBody, chatRequest);
    const served = servedModel(models, request);
    const options = chatOptions(request, served);
    const messages = messagesOf(request.messages);
    const head = {
      id: `chatcmpl-${randomUUID().replaceAll("-", "")}`,
      created: Math.floor(Date.now() / 1000),
      model: served.name,
    };
    const count = request.n ?? 1;
    await refuseTooLong(models.current(), textsOf(messages), "messages");
    await refuseTooLong(models.current(), negativeTextsOf(request), "guidance");
    const scope = answering.begin(context, count * widthOf(request));
    const { model, signal } = scope;
    const answer = { context, scope, metrics, route: "/v1/chat/completions" };
    const feeds = begin(answer, () =>
      Array.from({ length: count }, (_, index) => {
        return new AnswerFeed(model.chat(messages, { ...optionsOfChoice(options, index), signal }), asked, metrics);
      }),
    );
    if (request.stream) return streamedAnswer(answer, feeds, () => chunks(head, request, feeds));
    return wholeAnswer(answer, async () => {
      const results = await Promise.all(feeds.map((feed) => feed.result));
      return { body: completion(head, request, results), usage: usageOf([results]) };
    });
  });
}

interface Head {
  readonly id: string;
  readonly created: number;
  readonly model: string;
}

function completion(head: Head, request: ChatRequest, results: readonly GenerationResult[]) {
  const choices = results.map((result, index) => ({
    index,
    message: messageOf(result),
    logprobs: request.logprobs ? chatLogprobs(result.tokens) : null,
    finish_reason: finishReason(result),
    ...(request.return_token_ids ? { token_ids: result.ids } : {}),
  }));
  return { ...head, object: "chat.completion", choices, usage: usageOf([results]), timings: timingsOf(results[0]!) };
}

/** A message that only calls has no content. */
function messageOf({ text, toolCalls }: GenerationResult) {
  if (!toolCalls?.length) return { role: "assistant", content: text, refusal: null };
  return { role: "assistant", content: text === "" ? null : text, refusal: null, tool_calls: toolCalls };
}

function finishReason({ finishReason: reason, toolCalls }: GenerationResult): "stop" | "length" | "tool_calls" {
  return reason === "stop" && toolCalls?.length ? "tool_calls" : reason;
}

/** The role first, then contents, then why it ended; last the usage, if asked for. */
async function* chunks(head: Head, request: ChatRequest, feeds: readonly AnswerFeed[]): AsyncGenerator<string, Usage> {
  const withUsage = request.stream_options?.include_usage === true;
  const chunk = (index: number, choice: object) =>
    sseEvent({
      ...head,
      object: "chat.completion.chunk",
      choices: [{ index, delta: {}, logprobs: null, finish_reason: null, ...choice }],
      ...(withUsage ? { usage: null } : {}),
    });
  const results: GenerationResult[] = [];
  for (const index of feeds.keys()) yield chunk(index, { delta: { role: "assistant", content: "", refusal: null } });
  for await (const event of asTheyCome(feeds)) {
    if ("piece" in event) {
      const choice = choiceOfPiece(request, event.piece);
      if (choice) yield chunk(event.index, choice);
    } else {
      results[event.index] = event.result;
      yield chunk(event.index, { finish_reason: finishReason(event.result) });
    }
  }
  const usage = usageOf([results]);
  if (withUsage)
    yield sseEvent({ ...head, object: "chat.completion.chunk", choices: [], usage, timings: timingsOf(results[0]!) });
  yield sseEvent("[DONE]");
  return usage;
}

/** `null`: nothing that the client wants to know; text lags behind tokens. */
function choiceOfPiece(request: ChatRequest, { text, ids, tokens, toolCalls = [] }: GenerationEvent): object | null {
  const withTokens = request.logprobs || request.return_token_ids;
  if (text === "" && toolCalls.length === 0 && !withTokens) return null;
  return {
    delta: { ...(text === "" && toolCalls.length > 0 ? {} : { content: text }), ...toolDelta(toolCalls) },
    ...(request.logprobs ? { logprobs: chatLogprobs(tokens) } : {}),
    ...(request.return_token_ids ? { token_ids: ids } : {}),
  };
}

/** Name and id come with a call's first piece, then its arguments in pieces. */
function toolDelta(calls: readonly ToolCallDelta[]): object {
  if (calls.length === 0) return {};
  const tool_calls = calls.map(({ index, id, name, arguments: piece }) => ({
    index,
    ...(id === undefined ? {} : { id, type: "function" }),
    function: { ...(name === undefined ? {} : { name }), ...(piece === undefined ? {} : { arguments: piece }) },
  }));
  return { tool_calls };
}
