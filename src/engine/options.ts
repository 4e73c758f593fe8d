// What a program passes in is checked before it crosses to the engine: an option that is not
// one is refused rather than ignored, and ids and messages become plain values. What the
// values may be is for those to say who use them (planning, sampling, the scheduler).

import { UsageError } from "../errors.js";
import { nearestName } from "../sampling/nearest-name.js";
import { type Constraint, checkConstraint } from "../structured/constraint.js";
import type { ChatMessage, GenerateOptions, LoadOptions, PlanOptions } from "./model.js";
import type { AnswerOptions, EngineOptions } from "./protocol.js";

type Names<T> = { readonly [K in keyof Required<T>]: true };

const PLAN_OPTIONS: Names<PlanOptions> = {
  backend: true,
  devices: true,
  gpuSplit: true,
  splitMode: true,
  ctx: true,
  cache: true,
  cacheTokens: true,
  maxSequences: true,
  prefillChunk: true,
  cpuMemory: true,
  cpuExact: true,
  draft: true,
  ropeScale: true,
  ropeAlpha: true,
  ropeTheta: true,
  adapters: true,
};

const ENGINE_OPTIONS: Names<EngineOptions> = {
  ...PLAN_OPTIONS,
  threads: true,
  hugePages: true,
  peers: true,
  onPressure: true,
  maxWaiting: true,
};

const ANSWER_OPTIONS: Names<AnswerOptions> = {
  temperature: true,
  topK: true,
  topP: true,
  minP: true,
  typical: true,
  repetitionPenalty: true,
  penaltySustain: true,
  penaltyDecay: true,
  frequencyPenalty: true,
  presencePenalty: true,
  logitBias: true,
  bannedIds: true,
  maxTokens: true,
  seed: true,
  stop: true,
  stopIds: true,
  ignoreEos: true,
  logprobs: true,
  adapters: true,
  promptLogprobs: true,
  constraint: true,
  parseSpecial: true,
  addBos: true,
};

const MESSAGE_FIELDS: Names<ChatMessage> = { role: true, content: true };

/** Splits LoadOptions into what crosses to the engine and what stays here. */
export function checkLoadOptions(options: LoadOptions): {
  readonly engineOptions: EngineOptions;
  readonly engine: "process" | "thread";
  readonly signal: AbortSignal | undefined;
  readonly onProgress: LoadOptions["onProgress"];
} {
  const { signal, onProgress, engine = "process", ...engineOptions } = options;
  if (engine !== "process" && engine !== "thread")
    throw new UsageError(`engine: ${JSON.stringify(engine)} is not known`, { expected: `"process" or "thread"` });
  return { engineOptions: known("loadModel", engineOptions, ENGINE_OPTIONS), engine, signal, onProgress };
}

export function checkPlanOptions(options: PlanOptions): PlanOptions {
  return known("plan", options, PLAN_OPTIONS);
}

export function checkAnswerOptions(options: GenerateOptions): {
  readonly answerOptions: AnswerOptions;
  readonly signal: AbortSignal | undefined;
} {
  const { signal, constraint, ...rest } = options;
  const answerOptions: AnswerOptions = known("generate", rest, ANSWER_OPTIONS);
  if (constraint === undefined) return { answerOptions, signal };
  return { answerOptions: { ...answerOptions, constraint: plainConstraint(constraint) }, signal };
}

/** A schema may be an object that says how it is written as JSON; what crosses is that. @throws {ConstraintError} */
function plainConstraint(constraint: Constraint): Constraint {
  return JSON.parse(JSON.stringify(checkConstraint(constraint))) as Constraint;
}

/** Ids as they cross; whether the model has them, the engine says. */
export function idsOf(ids: readonly number[], name: string): Int32Array {
  if (!Array.isArray(ids) && !ArrayBuffer.isView(ids))
    throw new UsageError(`${name} is ${ids === null ? "null" : typeof ids}`, { expected: "an array of token ids" });
  const wrong = ids.findIndex((id) => !Number.isInteger(id) || id < 0 || id > 0x7fffffff);
  if (wrong >= 0)
    throw new UsageError(`${name}[${wrong}] is ${String(ids[wrong])}`, { expected: "a token id: a whole number from 0" });
  return Int32Array.from(ids);
}

/** What is to be embedded, as it crosses. */
export function inputsOf(inputs: ReadonlyArray<string | readonly number[]>): (string | Int32Array)[] {
  if (!Array.isArray(inputs))
    throw new UsageError(`inputs is ${inputs === null ? "null" : typeof inputs}`, {
      expected: "an array of texts or of lists of ids",
    });
  return inputs.map((input, i) => (typeof input === "string" ? input : idsOf(input, `inputs[${i}]`)));
}

/** Messages as they cross: role and content, nothing else, as no template would get more. */
export function messagesOf(messages: readonly ChatMessage[]): ChatMessage[] {
  if (!Array.isArray(messages) || messages.length === 0)
    throw new UsageError("there are no messages", { expected: `an array such as [{ role: "user", content: "…" }]` });
  return messages.map((message, index) => {
    const { role, content } = Object(message) as Partial<ChatMessage>;
    if (typeof role !== "string" || typeof content !== "string")
      throw new UsageError(`messages[${index}] has no role and content of text`, {
        expected: `{ role: "user", content: "…" }`,
      });
    known(`messages[${index}]`, message, MESSAGE_FIELDS);
    return { role, content };
  });
}

/** @throws {UsageError} naming the first option that is none */
export function known<T extends object>(call: string, options: T, names: Readonly<Record<string, true>>): T {
  const wrong = Object.keys(options).find((key) => !Object.hasOwn(names, key));
  if (wrong === undefined) return options;
  const nearest = nearestName(wrong, Object.keys(names));
  throw new UsageError(`${call} has no option "${wrong}"`, {
    hint: nearest ? `did you mean ${nearest}?` : `its options are ${Object.keys(names).join(", ")}`,
    details: { option: wrong, nearest },
  });
}
