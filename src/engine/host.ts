// The engine's side of the protocol, the same in a process and in a thread: takes messages,
// runs the calls on the one model that it loads, answers. What a model is and does lies behind
// `EngineFactory`; nothing here knows what it runs in.

import { ExllamaError } from "../errors.js";
import type { AdapterChoice } from "../generate/adapters.js";
import type { Plan } from "../memory/plan.js";
import type { PlanRequestData } from "../memory/plan-request.js";
import { ModelDisposedError } from "./errors.js";
import type { ChatMessage, EngineStatus, GenerationEvent, GenerationResult, ModelInfo, PlanOptions, Tool } from "./model.js";
import { Outbox } from "./outbox.js";
import type {
  AnswerOptions,
  Call,
  ChatAnswerOptions,
  EngineOptions,
  FromEngine,
  ModelCall,
  Replies,
  ToEngine,
} from "./protocol.js";
import { writeError } from "./wire-errors.js";

/** Progress crosses at most this often, in parts of the whole. */
const PROGRESS_PARTS = 200;

export interface AnswerHooks {
  readonly signal: AbortSignal;
  readonly onPiece: (piece: GenerationEvent) => void;
}

/** What text or ids are scored with. */
export interface ScoreHooks {
  readonly signal: AbortSignal;
  readonly adapters: readonly AdapterChoice[];
}

/** A loaded model as the host drives it. Calls may overlap; each ends early when its signal is aborted. */
export interface Engine {
  readonly info: ModelInfo;
  readonly plan: Plan;
  /** What the plan was made from. */
  readonly planning: PlanRequestData;
  generate(prompt: string | Int32Array, options: AnswerOptions, hooks: AnswerHooks): Promise<GenerationResult>;
  chat(messages: readonly ChatMessage[], options: ChatAnswerOptions, hooks: AnswerHooks): Promise<GenerationResult>;
  tokenize(text: string, options: { addBos: boolean; parseSpecial: boolean }): Promise<Int32Array>;
  detokenize(ids: Int32Array): Promise<string>;
  tokenizeChat(messages: readonly ChatMessage[], tools: readonly Tool[]): Promise<Int32Array>;
  /** Logits `[vocab]` of the last positions, in order; waits for `onRow` before the next. */
  logits(ids: Int32Array, last: number, hooks: ScoreHooks & { onRow: (row: Float32Array) => Promise<void> }): Promise<void>;
  logprobs(ids: Int32Array, hooks: ScoreHooks): Promise<Float32Array>;
  /** Mean of the final hidden states of each input, of length 1. */
  embed(inputs: ReadonlyArray<string | Int32Array>, hooks: ScoreHooks): Promise<Float32Array[]>;
  status(): EngineStatus;
  /** Gives everything back. Idempotent. */
  dispose(): Promise<void>;
}

export interface LoadHooks {
  readonly signal: AbortSignal;
  readonly onProgress: (progress: { loadedBytes: number; totalBytes: number }) => void;
}

export interface EngineFactory {
  load(path: string, options: EngineOptions, hooks: LoadHooks): Promise<Engine>;
  plan(path: string, options: PlanOptions, hooks: { signal: AbortSignal }): Promise<Plan>;
}

export interface HostPort {
  /** Resolves when the message has been handed on. */
  send(message: FromEngine): Promise<void>;
  /** Everything is given back: end the process or thread. */
  finish(): void;
}

export class Host {
  readonly #factory: EngineFactory;
  readonly #port: HostPort;
  readonly #outbox: Outbox;
  readonly #calls = new Map<number, { readonly controller: AbortController; readonly over: Promise<void> }>();
  #engine: Engine | null = null;
  #disposing: Promise<void> | null = null;

  constructor(factory: EngineFactory, port: HostPort) {
    this.#factory = factory;
    this.#port = port;
    this.#outbox = new Outbox((message) => void port.send(message));
  }

  receive(message: ToEngine): void {
    switch (message.type) {
      case "call": {
        const controller = new AbortController();
        const over = this.#serve(message.id, message.call, controller.signal);
        this.#calls.set(message.id, { controller, over });
        return;
      }
      case "cancel":
        this.#calls.get(message.id)?.controller.abort();
        return;
      case "ack":
        this.#outbox.acknowledge(message.steps);
        return;
      case "dispose":
        this.#disposing ??= this.#dispose();
    }
  }

  async #serve(id: number, call: Call, signal: AbortSignal): Promise<void> {
    try {
      const value = await this.#run(id, call, signal);
      this.#outbox.finish(id);
      await this.#port.send({ type: "done", id, value });
    } catch (error) {
      if (signal.aborted) this.#outbox.drop(id);
      else this.#outbox.finish(id);
      await this.#port.send({ type: "failed", id, error: writeError(error) });
      // After such a driver error nothing works in this process any more: the next load starts a fresh one.
      if (error instanceof ExllamaError && error.code === "CUDA_POISONED") this.#port.finish();
    } finally {
      this.#calls.delete(id);
    }
  }

  async #run(id: number, call: Call, signal: AbortSignal): Promise<Replies[keyof Replies]> {
    // The rest of the call's setup happens after receive() has noted it.
    await Promise.resolve();
    if (this.#disposing) throw new ModelDisposedError(this.#engine?.info.source ?? "being loaded");
    if (call.op === "plan") return this.#factory.plan(call.path, call.options, { signal });
    if (call.op === "load") {
      if (this.#engine) throw new Error("an engine holds one model");
      this.#engine = await this.#factory.load(call.path, call.options, { signal, onProgress: this.#progressOf(id) });
      const { info, plan, planning } = this.#engine;
      return { info, plan, planning };
    }
    if (!this.#engine) throw new Error("no model is loaded");
    return this.#runOnModel(this.#engine, id, call, signal);
  }

  async #runOnModel(engine: Engine, id: number, call: ModelCall, signal: AbortSignal): Promise<Replies[keyof Replies]> {
    const onPiece = (piece: GenerationEvent) => this.#outbox.add(id, piece);
    switch (call.op) {
      case "generate":
        return engine.generate(call.prompt, call.options, { signal, onPiece });
      case "chat":
        return engine.chat(call.messages, call.options, { signal, onPiece });
      case "tokenize":
        return engine.tokenize(call.text, call);
      case "detokenize":
        return engine.detokenize(call.ids);
      case "tokenizeChat":
        return engine.tokenizeChat(call.messages, call.tools);
      case "logits": {
        const onRow = (row: Float32Array) => this.#port.send({ type: "row", id, row });
        await engine.logits(call.ids, call.last, { signal, onRow, adapters: call.adapters });
        return null;
      }
      case "logprobs":
        return engine.logprobs(call.ids, { signal, adapters: call.adapters });
      case "embed":
        return engine.embed(call.inputs, { signal, adapters: call.adapters });
      case "status":
        return engine.status();
    }
  }

  #progressOf(id: number): LoadHooks["onProgress"] {
    let sent = -1;
    return ({ loadedBytes, totalBytes }) => {
      const part = Math.floor((loadedBytes / Math.max(1, totalBytes)) * PROGRESS_PARTS);
      if (part === sent) return;
      sent = part;
      void this.#port.send({ type: "progress", id, loadedBytes, totalBytes });
    };
  }

  async #dispose(): Promise<void> {
    const calls = [...this.#calls.values()];
    for (const { controller } of calls) controller.abort();
    await Promise.all(calls.map((call) => call.over));
    await this.#engine?.dispose();
    this.#port.finish();
  }
}
