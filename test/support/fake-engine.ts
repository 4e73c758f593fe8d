// An engine without a model, over a link without a process: what the tests of the client, the
// connection and the host run against. Messages are cloned as they would be at a border, and
// delivered one macrotask later.

import type { EngineEnd } from "../../src/engine/errors.js";
import { type AnswerHooks, type Engine, type EngineFactory, Host } from "../../src/engine/host.js";
import type { EngineLink } from "../../src/engine/link.js";
import type { EngineStatus, GenerationResult, ModelInfo, TokenInfo } from "../../src/engine/model.js";
import type { AnswerOptions, FromEngine, ToEngine } from "../../src/engine/protocol.js";
import { UsageError } from "../../src/errors.js";
import { samplingDefaults } from "../../src/generate/defaults.js";
import type { Plan } from "../../src/memory/plan.js";
import type { PlanRequestData } from "../../src/memory/plan-request.js";

export const fakeInfo: ModelInfo = {
  source: "fake",
  architecture: "llama",
  parameters: 1,
  quantization: "4-bit",
  vocabSize: 4,
  contextLimit: 16,
  hasChatTemplate: true,
  adapters: [],
  backend: "cpu",
  sampling: samplingDefaults(null),
};

export const fakePlan = { ok: true, context: 16 } as Plan;

export const fakePlanning = { packing: "cpu", context: 16 } as PlanRequestData;

const TICK: TokenInfo = { id: 1, text: "tick ", bytes: [116, 105, 99, 107, 32], logprob: -0.5, top: [] };

/** Answers with one "tick " for each macrotask, `maxTokens` of them; notes what it is asked and what it frees. */
export class FakeEngine implements Engine {
  readonly info = fakeInfo;
  readonly plan = fakePlan;
  readonly planning = fakePlanning;
  readonly asked: unknown[] = [];
  /** Sequences that are running now. */
  running = 0;
  disposals = 0;
  /** dispose() never ends. */
  stuck = false;

  async generate(
    prompt: string | Int32Array,
    options: AnswerOptions,
    { signal, onPiece }: AnswerHooks,
  ): Promise<GenerationResult> {
    this.asked.push(prompt);
    if (prompt === "") throw new UsageError("the prompt is empty", { hint: "write one", details: { at: 3 } });
    const total = options.maxTokens ?? 3;
    this.running += 1;
    try {
      for (let token = 0; token < total; token++) {
        await new Promise((resolve) => setImmediate(resolve));
        signal.throwIfAborted();
        onPiece({ text: "tick ", ids: [1], ...(options.logprobs === undefined ? {} : { tokens: [TICK] }) });
      }
    } finally {
      this.running -= 1;
    }
    const timings = {
      firstTokenMs: 0,
      promptMs: 0,
      generationMs: 0,
      promptTokensPerSecond: 0,
      tokensPerSecond: 0,
      reusedTokens: 0,
    };
    return { text: "tick ".repeat(total), ids: Array<number>(total).fill(1), promptTokens: 1, finishReason: "length", timings };
  }

  async chat(messages: readonly unknown[], options: AnswerOptions, hooks: AnswerHooks): Promise<GenerationResult> {
    return this.generate(JSON.stringify(messages), options, hooks);
  }

  async tokenize(text: string): Promise<Int32Array> {
    return Int32Array.from(text, (letter) => letter.codePointAt(0) ?? 0);
  }

  async detokenize(ids: Int32Array): Promise<string> {
    return String.fromCodePoint(...ids);
  }

  async tokenizeChat(): Promise<Int32Array> {
    return Int32Array.of(1, 2);
  }

  async logits(_ids: Int32Array, last: number, { onRow }: { onRow: (row: Float32Array) => Promise<void> }): Promise<void> {
    for (let row = 0; row < last; row++) await onRow(Float32Array.of(row, 0, 0, 0));
  }

  async logprobs(ids: Int32Array): Promise<Float32Array> {
    return new Float32Array(ids.length - 1);
  }

  async embed(inputs: ReadonlyArray<string | Int32Array>): Promise<Float32Array[]> {
    return inputs.map((input) => Float32Array.of(input.length));
  }

  status(): EngineStatus {
    const scheduler = {
      waiting: 0,
      running: this.running,
      idle: 0,
      freePages: [4],
      reservedPages: [0],
      idlePages: [0],
      totalPages: [4],
    };
    const counters = { steps: 0, promptTokens: 0, generatedTokens: 0, reusedTokens: 0, preemptions: 0 };
    return { scheduler, counters, guesses: { proposed: 0, accepted: 0 }, devices: [{ id: "cpu", planned: 2, measured: 1 }] };
  }

  async dispose(): Promise<void> {
    if (this.stuck) await new Promise(() => {});
    this.disposals += 1;
  }
}

export interface FakeLink extends EngineLink {
  readonly engine: FakeEngine;
  /** Messages that the engine has sent, in order. */
  readonly received: FromEngine[];
  readonly killed: () => boolean;
  readonly held: () => boolean;
  /** Ends the engine as a signal would. */
  die(signal: string): void;
}

/** A link to a host with a fake engine; `load` may stand in for the factory's. */
export function fakeLink(load?: EngineFactory["load"]): FakeLink {
  const engine = new FakeEngine();
  const received: FromEngine[] = [];
  let gone = false;
  let killed = false;
  let held = false;
  let resolveEnded!: (end: EngineEnd) => void;
  const end = (exitCode: number | null, signal: string | null) => {
    gone = true;
    resolveEnded({ kind: "process", pid: 1, exitCode, signal, stderr: "" });
  };
  const factory: EngineFactory = { load: load ?? (async () => engine), plan: async () => fakePlan };
  const host = new Host(factory, {
    send: (message) =>
      later(() => {
        if (gone) return;
        received.push(structuredClone(message));
        link.onMessage(structuredClone(message));
      }),
    finish: () => void later(() => end(0, null)),
  });
  const link: FakeLink = {
    engine,
    received,
    killed: () => killed,
    held: () => held,
    onMessage: () => {},
    send: (message: ToEngine) => {
      const copy = structuredClone(message);
      void later(() => {
        if (!gone) host.receive(copy);
      });
    },
    ended: new Promise((resolve) => {
      resolveEnded = resolve;
    }),
    holdEventLoop: (hold) => {
      held = hold;
    },
    kill: () => {
      killed = true;
      void later(() => end(null, "SIGKILL"));
    },
    die: (signal) => end(null, signal),
  };
  return link;
}

function later(run: () => void): Promise<void> {
  return new Promise((resolve) =>
    setImmediate(() => {
      run();
      resolve();
    }),
  );
}
