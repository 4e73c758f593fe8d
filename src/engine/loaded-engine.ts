// A loaded model as the host drives it: text to ids, requests to the scheduler, answers back.

import type { Runtime } from "../backend/backend.js";
import { UsageError } from "../errors.js";
import { embed } from "../generate/embed.js";
import { EmptyPromptError, TokenIdError } from "../generate/errors.js";
import { type AnswerTokenizer, type GenerationContext, generate, readToEnd } from "../generate/generate.js";
import type { GenerationOptions, GenerationRequest } from "../generate/request.js";
import { Scheduler } from "../generate/scheduler.js";
import type { PressureOptions } from "../generate/scheduler-options.js";
import { logitRows, logprobs } from "../generate/score.js";
import { Speculator } from "../generate/speculation/speculator.js";
import type { Speculation } from "../generate/strategy-options.js";
import type { Plan } from "../memory/plan.js";
import type { PlanRequestData } from "../memory/plan-request.js";
import { StructuredOutput } from "../structured/structured-output.js";
import type { AnswerHooks, Engine, ScoreHooks } from "./host.js";
import type { ChatMessage, DeviceMemory, EngineStatus, GenerationResult, ModelInfo, Tool } from "./model.js";
import type { ModelText } from "./model-text.js";
import { withNegativeIds, withSystem } from "./negative-prompt.js";
import type { AnswerOptions, ChatAnswerOptions } from "./protocol.js";
import { ToolAnswer } from "./tool-answer.js";

export interface EngineParts {
  readonly info: ModelInfo;
  readonly runtime: Runtime;
  readonly text: ModelText;
  readonly planning: PlanRequestData;
  readonly pressure: PressureOptions;
  /** Guesses ahead where a request does not say; `null`: as the draft model makes by default. */
  readonly speculate: Speculation | null;
  /** What the devices' memory is used for now. */
  readonly measureDevices: () => DeviceMemory[];
}

export class LoadedEngine implements Engine {
  readonly info: ModelInfo;
  readonly plan: Plan;
  readonly planning: PlanRequestData;
  readonly #runtime: Runtime;
  readonly #text: ModelText;
  readonly #context: GenerationContext;
  readonly #measureDevices: () => DeviceMemory[];
  #structured: StructuredOutput | null = null;

  constructor({ info, planning, runtime, text, pressure, speculate, measureDevices }: EngineParts) {
    this.info = info;
    this.#measureDevices = measureDevices;
    this.plan = runtime.plan;
    this.planning = planning;
    this.#runtime = runtime;
    this.#text = text;
    const speculator = new Speculator(runtime);
    this.#context = {
      scheduler: new Scheduler(runtime, { ...pressure, propose: () => speculator.propose() }),
      tokenizer: text.hasTokenizer ? text.tokenizer : WORDLESS,
      defaults: info.sampling.parameters,
      speculator,
      speculate,
    };
  }

  async generate(prompt: string | Int32Array, options: AnswerOptions, hooks: AnswerHooks): Promise<GenerationResult> {
    const { addBos, parseSpecial, ...others } = options;
    const encode = (text: string) => this.#encode(text, { addBos, parseSpecial });
    const rest = withNegativeIds(others, encode);
    if (typeof prompt !== "string") {
      refuseTextOptions(options, "a prompt of ids");
      return this.#answer({ ids: prompt, continuation: true, options: rest }, hooks);
    }
    if (prompt === "") throw new EmptyPromptError();
    return this.#answer({ ids: encode(prompt), continuation: true, options: rest }, hooks);
  }

  async chat(messages: readonly ChatMessage[], options: ChatAnswerOptions, hooks: AnswerHooks): Promise<GenerationResult> {
    const { tools = [], toolChoice = "none", parallelToolCalls = true, ...others } = options;
    refuseTextOptions(others, "a chat, whose template places special tokens");
    const negative = (text: string) => this.#text.encodeChat(withSystem(messages, text), toolChoice === "none" ? [] : tools);
    const answerOptions = withNegativeIds(others, negative);
    if (toolChoice === "none") return this.#answer({ ids: this.#text.encodeChat(messages), options: answerOptions }, hooks);
    const answer = new ToolAnswer({
      tokenizer: this.#text.tokenizer,
      structured: this.#structuredOutput(),
      format: this.#text.toolFormat,
      tools,
      choice: toolChoice,
      parallel: parallelToolCalls,
    });
    const request = { ids: this.#text.encodeChat(messages, tools), options: answerOptions };
    const { signal, onPiece } = hooks;
    const constraint = await answer.open();
    try {
      const stream = generate(this.#context, request, signal, { constraint, text: answer.text() });
      const { last, result } = answer.end(await readToEnd(stream, (event) => onPiece(answer.event(event))));
      if (last) onPiece(last);
      return result;
    } finally {
      constraint.close();
    }
  }

  async tokenize(text: string, options: { addBos: boolean; parseSpecial: boolean }): Promise<Int32Array> {
    return Int32Array.from(this.#encode(text, options));
  }

  async detokenize(ids: Int32Array): Promise<string> {
    const { vocabSize } = this.info;
    const wrong = ids.findIndex((id) => id >= vocabSize);
    if (wrong >= 0) throw new TokenIdError(`ids[${wrong}]`, ids[wrong], vocabSize);
    return this.#text.tokenizer.decode(ids);
  }

  async tokenizeChat(messages: readonly ChatMessage[], tools: readonly Tool[]): Promise<Int32Array> {
    return Int32Array.from(this.#text.encodeChat(messages, tools));
  }

  async logits(
    ids: Int32Array,
    last: number,
    { onRow, ...hooks }: ScoreHooks & { onRow: (row: Float32Array) => Promise<void> },
  ): Promise<void> {
    for await (const row of logitRows(this.#context.scheduler, ids, { last, ...hooks })) await onRow(row);
  }

  async logprobs(ids: Int32Array, hooks: ScoreHooks): Promise<Float32Array> {
    return logprobs(this.#context.scheduler, ids, hooks);
  }

  async embed(inputs: ReadonlyArray<string | Int32Array>, hooks: ScoreHooks): Promise<Float32Array[]> {
    const prompts = inputs.map((input) => {
      if (input === "") throw new EmptyPromptError();
      return typeof input === "string" ? this.#encode(input, {}) : input;
    });
    return embed(this.#context.scheduler, prompts, hooks);
  }

  status(): EngineStatus {
    const { scheduler, speculator } = this.#context;
    const { load, counters } = scheduler;
    return { scheduler: load, counters, guesses: speculator.guesses, devices: this.#measureDevices() };
  }

  async dispose(): Promise<void> {
    await this.#context.scheduler.close();
    await this.#context.speculator.close();
    await this.#structured?.close();
    await this.#runtime.dispose();
  }

  #encode(text: string, { addBos, parseSpecial }: { addBos?: boolean; parseSpecial?: boolean }): number[] {
    const { tokenizer } = this.#text;
    if (addBos && tokenizer.bosId === null)
      throw new UsageError("addBos is set, and this model's tokenizer has no BOS token", { hint: "leave addBos out" });
    return tokenizer.encode(text, { addBos: addBos ?? tokenizer.addsBos, parseSpecial: parseSpecial ?? false });
  }

  async #answer(request: AnswerRequest, { signal, onPiece }: AnswerHooks): Promise<GenerationResult> {
    // Without a tokenizer there is no text in which a stop string could be found: this throws then.
    if (request.options.stop !== undefined) void this.#text.tokenizer;
    const { constraint, ...options } = request.options;
    if (constraint === undefined) return readToEnd(generate(this.#context, request, signal), onPiece);
    const matcher = await this.#structuredOutput().open(constraint);
    try {
      // Every byte of the answer is the constraint's, a space at its beginning too.
      const constrained = { ...request, options, continuation: true };
      return await readToEnd(generate(this.#context, constrained, signal, { constraint: matcher }), onPiece);
    } finally {
      matcher.close();
    }
  }

  /** @throws {TokenizerError} when the model has no tokenizer */
  #structuredOutput(): StructuredOutput {
    const { tokenizer } = this.#text;
    this.#structured ??= new StructuredOutput(tokenizer, [...this.#runtime.spec.eosIds, ...tokenizer.eosIds]);
    return this.#structured;
  }
}

interface AnswerRequest extends GenerationRequest {
  readonly options: Omit<AnswerOptions, "guidance"> & GenerationOptions;
}

/** Stands in for a tokenizer that is not there: answers are ids only, their text is empty. */
const WORDLESS: AnswerTokenizer = {
  eosIds: [],
  stream: () => ({ push: () => "", end: () => "" }),
  bytes: () => new Uint8Array(),
};

/** @throws {UsageError} for options that only mean something where text becomes ids */
function refuseTextOptions({ addBos, parseSpecial }: AnswerOptions, where: string): void {
  for (const [name, value] of Object.entries({ addBos, parseSpecial }))
    if (value !== undefined)
      throw new UsageError(`${name} does not go with ${where}`, { hint: `leave ${name} out; it is for prompts of text` });
}
