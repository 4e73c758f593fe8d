// The checks against stand-ins for models: each notices the fault that it is there for.

import { describe, expect, it } from "vitest";
import type { GenerationResult, LoadOptions, Model } from "../../index.js";
import { validate } from "./run.js";

interface Fault {
  /** Added to every log-probability of a text, by how the model was loaded and how often it was asked. */
  readonly score?: (options: LoadOptions, asked: number) => number;
  /** An answer's ids, by how many run at once. */
  readonly ids?: (running: number) => readonly number[];
}

const text = Array.from({ length: 80 }, (_, i) => (i * 7) % 50);

/** A model that finds every id as likely as its number says. */
function standIn(options: LoadOptions, { score = () => 0, ids = () => [3, 1, 4] }: Fault, log: string[]): Model {
  let asked = 0;
  let running = 0;
  const generate = (prompt: readonly number[], { maxTokens }: { maxTokens: number }) => {
    running++;
    const result = (async (): Promise<GenerationResult> => {
      await new Promise((resolve) => setTimeout(resolve, 1));
      const answer = maxTokens > 30 ? text.slice(0, maxTokens) : ids(running);
      running--;
      const tokens = answer.map((id) => ({ id, text: "", bytes: [], logprob: -1 - id / 10, top: [] }));
      return { text: "", ids: answer, tokens, promptTokens: prompt.length } as unknown as GenerationResult;
    })();
    return { result };
  };
  return {
    info: { backend: "cpu", vocabSize: 50 },
    generate,
    logprobs: async (of: readonly number[]) => {
      asked++;
      return Float32Array.from(of.slice(1), (id) => -1 - id / 10 + score(options, asked));
    },
    dispose: async () => void log.push("disposed"),
  } as unknown as Model;
}

async function run(fault: Fault, { ids = text as readonly number[] | null, exact = true, tokens = 60 } = {}) {
  const log: string[] = [];
  const loads: LoadOptions[] = [];
  const validation = await validate({
    open: async (options) => {
      if (loads.length > log.length) throw new Error("two models are loaded at once");
      loads.push(options);
      return standIn(options, fault, log);
    },
    ids,
    tokens,
    allowedToExact: () => (exact ? 0.005 : null),
    adapters: [],
    signal: new AbortController().signal,
    onCheck: () => {},
  });
  expect(log).toHaveLength(loads.length);
  return { ...validation, loads, failed: validation.verdicts.filter(({ ok }) => !ok).map(({ check }) => check) };
}

describe("validate", () => {
  it("finds nothing wrong with a model that always says the same", async () => {
    const { failed, tokens, verdicts, loads } = await run({});
    expect(failed).toEqual([]);
    expect(tokens).toBe(60);
    expect(verdicts).toHaveLength(6);
    expect(loads.map(({ prefillChunk, maxSequences, cpuExact }) => [prefillChunk, maxSequences, cpuExact])).toEqual([
      [undefined, 1, undefined],
      [undefined, 8, undefined],
      [1, 1, undefined],
      [24, 1, undefined],
      [undefined, 1, true],
    ]);
  });

  it.each<[string, Fault, string[]]>([
    ["a second answer that differs", { score: (_, asked) => (asked === 2 ? 1e-6 : 0) }, ["again"]],
    [
      "single tokens that differ",
      { score: ({ prefillChunk }) => (prefillChunk === 1 ? -1e-6 : 0) },
      ["token by token, against a prompt"],
    ],
    ["chunks that differ", { score: ({ prefillChunk }) => (prefillChunk === 24 ? 1e-3 : 0) }, ["in chunks of 24"]],
    ["another load that differs", { score: ({ maxSequences }) => (maxSequences === 8 ? 1e-5 : 0) }, ["loaded anew"]],
    [
      "a batch that garbles answers",
      { ids: (running) => (running > 1 ? [3, 1, 5] : [3, 1, 4]) },
      ["a batch of 8, against alone"],
    ],
    ["a fast path that is wrong", { score: ({ cpuExact }) => (cpuExact ? 0 : -0.02) }, ["against the exact path"]],
  ])("notices %s", async (_, fault, failed) => {
    expect((await run(fault)).failed).toEqual(failed);
  });

  it("has the model write a text where there is none, and leaves the exact path out if told to", async () => {
    const { tokens, verdicts } = await run({}, { ids: null, exact: false });
    expect(tokens).toBe(60);
    expect(verdicts).toHaveLength(5);
  });
});
