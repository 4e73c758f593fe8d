// The caller's side: starts an engine, speaks to it, and is the `Model` that the library gives
// out. Everything that takes time happens in the engine, tokenisation included, so the caller's
// event loop only ever moves messages.
//
// While nothing is being asked of it a loaded model does not keep a program running: a script
// that ends without dispose() ends, and its engine with it.

import { join } from "node:path";
import { UsageError } from "../errors.js";
import type { Plan } from "../memory/plan.js";
import type { PlanRequestData } from "../memory/plan-request.js";
import { packageRoot } from "../paths.js";
import { checkMessages } from "../text/messages.js";
import { Answer } from "./answer.js";
import { Connection } from "./connection.js";
import { ModelDisposedError } from "./errors.js";
import type { EngineLink } from "./link.js";
import type {
  ChatMessage,
  ChatOptions,
  EngineStatus,
  GenerateOptions,
  Generation,
  LoadOptions,
  Model,
  ModelInfo,
  PlanOptions,
  ScoreOptions,
  Tool,
} from "./model.js";
import { known, pathOf } from "./option-kinds.js";
import {
  checkAnswerOptions,
  checkChatOptions,
  checkLoadOptions,
  checkPlanOptions,
  idsOf,
  inputsOf,
  plainTools,
} from "./options.js";
import { startProcess } from "./process-link.js";
import type { ChatCall, EngineOptions, GenerateCall, Replies } from "./protocol.js";
import { startThread } from "./thread-link.js";

const SCORE_OPTIONS = { signal: "an AbortSignal", adapters: true } as const;

/** How long an engine that was asked to end may take before it is killed, ms. */
const GRACE_MS = 3000;

/** The model that comes with the package. */
export const demoModel: string = join(packageRoot, "demo");

/**
 * Loads a model: makes its memory plan, refuses what does not fit before a weight is read, and
 * streams the weights in.
 *
 * @param path folder of a checkpoint; default: the small model that comes with the package
 * @throws {PlanRefusedError} when it does not fit; says what would
 * @throws {EngineDiedError} when the engine is killed or crashes while loading
 */
export async function loadModel(path: string = demoModel, options: LoadOptions = {}): Promise<Model> {
  const { engineOptions, engine, signal, onProgress } = checkLoadOptions(options);
  signal?.throwIfAborted();
  const folder = pathOf(path);
  return loadOver(engine === "thread" ? startThread() : startProcess(), folder, engineOptions, { signal, onProgress });
}

/** loadModel() over a given link. */
export async function loadOver(
  link: EngineLink,
  path: string,
  options: EngineOptions,
  events: Pick<LoadOptions, "signal" | "onProgress"> = {},
): Promise<Model> {
  const connection = new Connection(link);
  try {
    const loaded = await connection.call({ op: "load", path, options }, events).reply;
    return new LoadedModel(connection, loaded);
  } catch (error) {
    // The memory is free again when the caller hears of it.
    connection.kill();
    await connection.ended;
    throw error;
  }
}

/**
 * The memory plan that loadModel() would make with the same options, without reading a weight.
 * Made by an engine of its own, so its baseline is the one that a load would have.
 *
 * @param path folder of a checkpoint, or the address of a remote one
 * @throws {PlanRefusedError} when it does not fit; `details` is the refusal
 */
export async function plan(path: string = demoModel, options: PlanOptions & { signal?: AbortSignal } = {}): Promise<Plan> {
  const { planOptions, signal } = checkPlanOptions(options);
  const folder = pathOf(path);
  signal?.throwIfAborted();
  const connection = new Connection(startProcess());
  try {
    return await connection.call({ op: "plan", path: folder, options: planOptions }, { signal }).reply;
  } finally {
    connection.kill();
    await connection.ended;
  }
}

class LoadedModel implements Model {
  readonly info: ModelInfo;
  readonly plan: Plan;
  readonly planning: PlanRequestData;
  readonly #connection: Connection;
  #disposed: Promise<void> | null = null;

  constructor(connection: Connection, { info, plan, planning }: Replies["load"]) {
    this.#connection = connection;
    this.info = info;
    this.plan = plan;
    this.planning = planning;
  }

  generate(prompt: string | readonly number[], options: GenerateOptions = {}): Generation {
    const { answerOptions, signal } = checkAnswerOptions(options);
    const wirePrompt = typeof prompt === "string" ? prompt : idsOf(prompt, "prompt");
    return this.#answer({ op: "generate", prompt: wirePrompt, options: answerOptions }, signal);
  }

  chat(messages: readonly ChatMessage[], options: ChatOptions = {}): Generation {
    const { answerOptions, signal } = checkChatOptions(options);
    return this.#answer({ op: "chat", messages: checkMessages(messages), options: answerOptions }, signal);
  }

  async tokenize(text: string, options: { addBos?: boolean; parseSpecial?: boolean } = {}): Promise<number[]> {
    this.#assertUsable();
    if (typeof text !== "string") throw new UsageError(`${String(text)} is not a text to tokenize`, { expected: "a string" });
    const { addBos = false, parseSpecial = false } = known("tokenize", options, {
      addBos: "true or false",
      parseSpecial: "true or false",
    });
    return Array.from(await this.#connection.call({ op: "tokenize", text, addBos, parseSpecial }).reply);
  }

  async detokenize(ids: readonly number[]): Promise<string> {
    this.#assertUsable();
    return this.#connection.call({ op: "detokenize", ids: idsOf(ids, "ids") }).reply;
  }

  async tokenizeChat(messages: readonly ChatMessage[], options: { tools?: readonly Tool[] } = {}): Promise<number[]> {
    this.#assertUsable();
    const { tools } = known("tokenizeChat", options, { tools: true });
    const call = { op: "tokenizeChat", messages: checkMessages(messages), tools: plainTools(tools) } as const;
    return Array.from(await this.#connection.call(call).reply);
  }

  async logits(ids: readonly number[], options: ScoreOptions & { last?: number } = {}): Promise<Float32Array[]> {
    this.#assertUsable();
    const { last = 1, signal, adapters = [] } = known("logits", options, { last: "a number", ...SCORE_OPTIONS });
    const rows: Float32Array[] = [];
    const onRow = (row: Float32Array) => void rows.push(row);
    await this.#connection.call({ op: "logits", ids: idsOf(ids, "ids"), last, adapters }, { signal, onRow }).reply;
    return rows;
  }

  async logprobs(ids: readonly number[], options: ScoreOptions = {}): Promise<Float32Array> {
    this.#assertUsable();
    const { signal, adapters = [] } = known("logprobs", options, SCORE_OPTIONS);
    return this.#connection.call({ op: "logprobs", ids: idsOf(ids, "ids"), adapters }, { signal }).reply;
  }

  async embed(inputs: ReadonlyArray<string | readonly number[]>, options: ScoreOptions = {}): Promise<Float32Array[]> {
    this.#assertUsable();
    const { signal, adapters = [] } = known("embed", options, SCORE_OPTIONS);
    return this.#connection.call({ op: "embed", inputs: inputsOf(inputs), adapters }, { signal }).reply;
  }

  async status(): Promise<EngineStatus> {
    this.#assertUsable();
    return this.#connection.call({ op: "status" }).reply;
  }

  dispose(): Promise<void> {
    this.#disposed ??= this.#dispose();
    return this.#disposed;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.dispose();
  }

  async #dispose(): Promise<void> {
    this.#connection.close(new ModelDisposedError(this.info.source));
    this.#connection.sendDispose();
    const killing = setTimeout(() => this.#connection.kill(), GRACE_MS);
    await this.#connection.ended;
    clearTimeout(killing);
  }

  #answer(call: GenerateCall | ChatCall, signal?: AbortSignal): Generation {
    this.#assertUsable();
    return new Answer((onPiece) => this.#connection.call(call, { signal, onPiece }), signal);
  }

  #assertUsable(): void {
    if (this.#disposed) throw new ModelDisposedError(this.info.source);
  }
}
