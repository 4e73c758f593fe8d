// POST /v1/responses, and GET and DELETE of those that are kept.

import { Hono } from "hono";
import type { ChatMessage, GenerationResult } from "../../engine/model.js";
import { AnswerFeed } from "../answer-feed.js";
import { begin, streamedAnswer, wholeAnswer } from "../answer-stream.js";
import type { RouteContext } from "../app.js";
import type { AppEnv } from "../app-env.js";
import { readJson } from "../body.js";
import { errorReply } from "../error-response.js";
import { refuseTooLong } from "../prompt-length.js";
import { textsOf } from "../requests/messages.js";
import { negativeTextsOf, widthOf } from "../requests/sampling.js";
import { newId, type OutputEvent, ResponseOutput } from "../responses/output.js";
import {
  inputMessages,
  type ResponseRequest,
  responseOptions,
  responseRequest,
  wantsLogprobs,
  withInstructions,
} from "../responses/request.js";
import { ResponseNotFoundError, ResponseStore } from "../responses/store.js";
import { servedModel } from "../served-model.js";
import { sseEvent } from "../sse.js";
import { type Usage, usageOf } from "../usage.js";

export function responseRoutes({ models, answering, metrics, maxBody }: RouteContext): Hono<AppEnv> {
  const store = new ResponseStore();
  return new Hono<AppEnv>()
    .post("/v1/responses", async (context) => {
      const asked = performance.now();
      const request = await readJson(context, maxBody, responseRequest);
      const served = servedModel(models, request);
      const options = responseOptions(request, served);
      const earlier =
        request.previous_response_id == null ? [] : store.get(request.previous_response_id, "previous_response_id").messages;
      const messages = [...earlier, ...inputMessages(request)];
      await refuseTooLong(models.current(), textsOf(messages), "input");
      await refuseTooLong(models.current(), negativeTextsOf(request), "guidance");
      const scope = answering.begin(context, widthOf(request));
      const answer = { context, scope, metrics, route: "/v1/responses" };
      const feed = begin(answer, () => {
        const generation = scope.model.chat(withInstructions(messages, request.instructions), {
          ...options,
          signal: scope.signal,
        });
        return new AnswerFeed(generation, asked, metrics);
      });
      const made = new MadeResponse(request, served.name, feed, (body, output) => {
        if (request.store !== false) store.keep({ id: body.id, body, messages: [...messages, ...output] });
      });
      if (request.stream) return streamedAnswer(answer, [feed], () => made.events());
      return wholeAnswer(answer, () => made.whole());
    })
    .get("/v1/responses/:id", (context) => context.json(store.get(context.req.param("id")).body))
    .delete("/v1/responses/:id", (context) => {
      const id = context.req.param("id");
      if (!store.remove(id)) throw new ResponseNotFoundError(id, null);
      return context.json({ id, object: "response.deleted", deleted: true });
    });
}

type Keep = (body: { readonly id: string }, output: readonly ChatMessage[]) => void;

/** One response on its way. */
class MadeResponse {
  readonly #request: ResponseRequest;
  readonly #feed: AnswerFeed;
  readonly #keep: Keep;
  readonly #output: ResponseOutput;
  readonly #head: { readonly id: string; readonly created_at: number; readonly model: string };

  constructor(request: ResponseRequest, model: string, feed: AnswerFeed, keep: Keep) {
    this.#request = request;
    this.#feed = feed;
    this.#keep = keep;
    this.#output = new ResponseOutput(wantsLogprobs(request));
    this.#head = { id: newId("resp"), created_at: Math.floor(Date.now() / 1000), model };
  }

  async whole(): Promise<{ body: object; usage: Usage }> {
    for await (const _ of this.#outputEvents()); // the items are all that is wanted
    const { body, usage } = this.#complete(await this.#feed.result);
    return { body, usage };
  }

  async *events(): AsyncGenerator<string, Usage> {
    let number = 0;
    const event = (one: OutputEvent) => sseEvent({ ...one, sequence_number: number++ }, one.type);
    yield event({ type: "response.created", response: this.#body("in_progress") });
    yield event({ type: "response.in_progress", response: this.#body("in_progress") });
    try {
      for await (const one of this.#outputEvents()) yield event(one);
      const { body, usage } = this.#complete(await this.#feed.result);
      yield event({ type: `response.${body.status}`, response: body });
      return usage;
    } catch (error) {
      const { code, message } = errorReply(error).body.error;
      yield event({ type: "response.failed", response: { ...this.#body("failed"), error: { code, message } } });
      throw error;
    }
  }

  async *#outputEvents(): AsyncGenerator<OutputEvent> {
    for (let piece = await this.#feed.next(); piece !== null; piece = await this.#feed.next()) yield* this.#output.add(piece);
    yield* this.#output.end((await this.#feed.result).finishReason !== "length");
  }

  #complete(result: GenerationResult) {
    const usage = usageOf([[result]]);
    const complete = result.finishReason !== "length";
    const body = {
      ...this.#body(complete ? "completed" : "incomplete"),
      ...(complete ? { completed_at: Math.floor(Date.now() / 1000) } : { incomplete_details: { reason: "max_output_tokens" } }),
      output: this.#output.items,
      usage: {
        input_tokens: usage.prompt_tokens,
        input_tokens_details: usage.prompt_tokens_details,
        output_tokens: usage.completion_tokens,
        output_tokens_details: { reasoning_tokens: 0 },
        total_tokens: usage.total_tokens,
      },
    };
    const { toolCalls, text } = this.#output;
    this.#keep(body, [{ role: "assistant", content: text, ...(toolCalls.length > 0 ? { tool_calls: toolCalls } : {}) }]);
    return { body, usage };
  }

  #body(status: "in_progress" | "completed" | "incomplete" | "failed") {
    const request = this.#request;
    return {
      ...this.#head,
      object: "response",
      status,
      background: false,
      error: null,
      incomplete_details: null,
      instructions: request.instructions ?? null,
      max_output_tokens: request.max_output_tokens ?? null,
      metadata: request.metadata ?? {},
      output: [] as unknown[],
      parallel_tool_calls: request.parallel_tool_calls ?? true,
      previous_response_id: request.previous_response_id ?? null,
      reasoning: { effort: null, summary: null },
      service_tier: "default",
      store: request.store ?? true,
      temperature: request.temperature ?? null,
      text: { format: request.text?.format ?? { type: "text" } },
      tool_choice: request.tool_choice ?? "auto",
      tools: request.tools ?? [],
      top_logprobs: request.top_logprobs ?? 0,
      top_p: request.top_p ?? null,
      truncation: "disabled",
      usage: null,
      user: request.user ?? null,
    };
  }
}
