// What a program passes in is checked before it crosses to the engine: an option that is not
// one is refused rather than ignored, and ids and messages become plain values. What the
// values may be is for those to say who use them (planning, sampling, the scheduler).

import { UsageError } from "../errors.js";
import { type Constraint, checkConstraint } from "../structured/constraint.js";
import { checkToolChoice, checkTools, type Tool } from "../text/messages.js";
import type { ChatOptions, GenerateOptions, LoadOptions, PlanOptions } from "./model.js";
import { known, type OptionKinds } from "./option-kinds.js";
import type { AnswerOptions, ChatAnswerOptions, EngineOptions } from "./protocol.js";

const PLAN_OPTIONS: OptionKinds<PlanOptions> = {
  backend: "a text",
  devices: "a text",
  gpuSplit: "a text or an array of numbers",
  splitMode: "a text",
  ctx: "a number or a text",
  cache: "a text",
  cacheTokens: "a number",
  maxSequences: "a number",
  prefillChunk: "a number",
  cpuMemory: "a number or a text",
  cpuExact: "true or false",
  draft: "a text",
  ropeScale: "a number",
  ropeAlpha: "a number",
  ropeTheta: "a number",
  adapters: "an object of texts",
};

const LOAD_OPTIONS: OptionKinds<LoadOptions> = {
  ...PLAN_OPTIONS,
  speculate: true,
  threads: "a number",
  hugePages: "true or false",
  peers: "true or false",
  onPressure: "a text",
  maxWaiting: "a number",
  engine: "a text",
  signal: "an AbortSignal",
  onProgress: "a function",
};

const ANSWER_OPTIONS: OptionKinds<GenerateOptions> = {
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
  guidance: true,
  beams: true,
  speculate: true,
  promptLogprobs: true,
  constraint: true,
  parseSpecial: "true or false",
  addBos: "true or false",
  signal: "an AbortSignal",
};

const CHAT_OPTIONS: OptionKinds<ChatOptions> = {
  ...ANSWER_OPTIONS,
  tools: true,
  toolChoice: true,
  parallelToolCalls: "true or false",
};

const MOST_TOOL_CHARACTERS = 2 ** 20;

/** Splits LoadOptions into what crosses to the engine and what stays here. */
export function checkLoadOptions(options: LoadOptions): {
  readonly engineOptions: EngineOptions;
  readonly engine: "process" | "thread";
  readonly signal: AbortSignal | undefined;
  readonly onProgress: LoadOptions["onProgress"];
} {
  const { signal, onProgress, engine = "process", ...engineOptions } = known("loadModel", options, LOAD_OPTIONS);
  if (engine !== "process" && engine !== "thread")
    throw new UsageError(`engine: ${JSON.stringify(engine)} is not known`, { expected: `"process" or "thread"` });
  return { engineOptions, engine, signal, onProgress };
}

/** Splits the options of plan() in the same way. */
export function checkPlanOptions(options: PlanOptions & { signal?: AbortSignal }): {
  readonly planOptions: PlanOptions;
  readonly signal: AbortSignal | undefined;
} {
  const { signal, ...planOptions } = known("plan", options, { ...PLAN_OPTIONS, signal: "an AbortSignal" });
  return { planOptions, signal };
}

/** Of what loading takes, what planning takes too. */
export function planningPart(options: LoadOptions): PlanOptions {
  return Object.fromEntries(Object.entries(options).filter(([name]) => Object.hasOwn(PLAN_OPTIONS, name)));
}

export function checkAnswerOptions(options: GenerateOptions): {
  readonly answerOptions: AnswerOptions;
  readonly signal: AbortSignal | undefined;
} {
  const { signal, constraint, ...rest } = known("generate", options, ANSWER_OPTIONS);
  const answerOptions: AnswerOptions = rest;
  if (constraint === undefined) return { answerOptions, signal };
  return { answerOptions: { ...answerOptions, constraint: plainConstraint(constraint) }, signal };
}

/** Splits ChatOptions as {@link checkAnswerOptions} does. @throws {ChatMessageError} for tools or a choice that are none */
export function checkChatOptions(options: ChatOptions): {
  readonly answerOptions: ChatAnswerOptions;
  readonly signal: AbortSignal | undefined;
} {
  const { tools, toolChoice, parallelToolCalls, ...rest } = known("chat", options, CHAT_OPTIONS);
  const { answerOptions, signal } = checkAnswerOptions(rest);
  const checked = plainTools(tools);
  const choice = checkToolChoice(toolChoice, checked);
  if (choice !== "none" && answerOptions.constraint !== undefined)
    throw new UsageError("a constraint does not go with tools that may be called", {
      hint: 'set toolChoice to "none", or leave one of them out',
    });
  return {
    answerOptions: { ...answerOptions, tools: checked, toolChoice: choice, parallelToolCalls: parallelToolCalls ?? true },
    signal,
  };
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

/** Tools as they cross: schemas as the plain JSON that they are written as. @throws {ChatMessageError} */
export function plainTools(tools: readonly Tool[] | undefined): readonly Tool[] {
  if (tools === undefined) return [];
  const checked = checkTools(tools);
  if (JSON.stringify(checked).length > MOST_TOOL_CHARACTERS)
    throw new UsageError(`the tools have more than ${MOST_TOOL_CHARACTERS} characters`);
  return JSON.parse(JSON.stringify(checked)) as Tool[];
}
