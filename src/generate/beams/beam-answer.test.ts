import { describe, expect, it } from "vitest";
import { expectedIds, promptOf } from "../../../test/support/fake-answers.js";
import { expectAllFree, setUp } from "../../../test/support/fake-generation.js";
import type { FakeRuntime } from "../../../test/support/fake-runtime.js";
import { logSoftmaxAt } from "../../sampling/logprobs.js";
import { GREEDY, type SamplingParameters } from "../../sampling/parameters.js";
import { likeliest } from "../../sampling/sample.js";
import { GenerationOptionError, TooManySequencesError } from "../errors.js";
import type { GenerationOptions } from "../request.js";
import { BeamSearch, type BeamShape } from "./beam-search.js";

const prompt = promptOf(300);

/** What must be said, computed from whole texts. */
function beamIds(
  runtime: FakeRuntime,
  { count: beams, length }: BeamShape,
  count: number,
  { parameters = GREEDY, endIds = [] as number[] }: { parameters?: SamplingParameters; endIds?: number[] } = {},
): number[] {
  const search = new BeamSearch({ count: beams, length }, count, new Set(endIds));
  const said: number[] = [];
  while (search.beams.length > 0) {
    const branches = search.beams.map(({ tail, ended }) => {
      const ids = [...prompt, ...said, ...tail.map(({ id }) => id)];
      if (ended) return [];
      const history = Int32Array.from(ids);
      const request = { parameters, history, promptLength: prompt.length, seed: 0, position: ids.length, mask: null };
      return likeliest(runtime.expectedLogits(ids, prompt.length), request, beams);
    });
    said.push(...search.grow(branches).map(({ id }) => id));
  }
  return endIds.includes(said.at(-1)!) ? said.slice(0, -1) : said;
}

function setUpBeams(model = {}) {
  return setUp({ context: 700, cacheTokens: 4096, maxSequences: 6, prefillChunk: 64, ...model });
}

describe("an answer by beam search", () => {
  it.each<[BeamShape, object]>([
    [{ count: 1, length: 1 }, {}],
    [{ count: 2, length: 3 }, {}],
    [{ count: 5, length: 6 }, {}],
    [{ count: 3, length: 40 }, {}],
    [{ count: 3, length: 4 }, { windows: [null, 100] }],
    [
      { count: 3, length: 4 },
      { windows: [64], prefillChunk: 7 },
    ],
  ])("says what beams over whole texts say: %j %j", async (beams, model) => {
    const { runtime, scheduler, ask } = setUpBeams(model);
    const { ids, finishReason } = await ask({ ids: prompt, options: { maxTokens: 30, beams } });
    expect(ids).toEqual(beamIds(runtime, beams, 30));
    expect(finishReason).toBe("length");
    expectAllFree(scheduler);
  });

  it("is greedy decoding with one beam", async () => {
    const { runtime, ask } = setUpBeams();
    const { ids } = await ask({ ids: prompt, options: { maxTokens: 12, beams: { count: 1, length: 8 } } });
    expect(ids).toEqual(expectedIds(runtime, prompt, 12));
  });

  it("branches into what sampling leaves, and says the same whatever the seed", async () => {
    const { runtime, ask } = setUpBeams();
    const beams = { count: 4, length: 5 };
    const changes = { temperature: 0.8, topK: 3, topP: 0.9, repetitionPenalty: 1.3 };
    const wanted = beamIds(runtime, beams, 20, { parameters: { ...GREEDY, ...changes } });
    for (const seed of [1, 2])
      expect((await ask({ ids: prompt, options: { ...changes, seed, maxTokens: 20, beams } })).ids).toEqual(wanted);
  });

  it("ends where an end id is best, and at stop strings", async () => {
    const { runtime, scheduler, ask } = setUpBeams();
    const beams = { count: 3, length: 4 };
    const whole = beamIds(runtime, beams, 20);
    for (const endId of [whole[0]!, whole[3]!, whole[9]!]) {
      const { ids, finishReason } = await ask({ ids: prompt, options: { maxTokens: 20, beams, stopIds: [endId] } });
      expect(ids).toEqual(beamIds(runtime, beams, 20, { endIds: [endId] }));
      expect(finishReason).toBe(ids.length < 20 ? "stop" : "length");
    }
    const { text } = await ask({ ids: prompt, options: { maxTokens: 20, beams } });
    const stopped = await ask({ ids: prompt, options: { maxTokens: 20, beams, stop: text.slice(6, 9) } });
    expect(stopped).toMatchObject({ text: text.slice(0, text.indexOf(text.slice(6, 9))), finishReason: "stop" });
    expectAllFree(scheduler);
  });

  it("tells plain log-probabilities of what it says", async () => {
    const { runtime, ask } = setUpBeams();
    const { ids, tokens } = await ask({ ids: prompt, options: { maxTokens: 10, logprobs: 2, beams: { count: 3, length: 4 } } });
    for (const [i, token] of tokens!.entries()) {
      const logits = runtime.expectedLogits([...prompt, ...ids.slice(0, i)], prompt.length);
      expect(token).toMatchObject({ id: ids[i], logprob: expect.closeTo(logSoftmaxAt(logits, ids[i]!), 10) });
      expect(token.top).toHaveLength(2);
    }
  });

  it.each(["wait", "preempt"] as const)("shares its steps with others (%s)", async (onPressure) => {
    const { runtime, scheduler, ask } = setUp(
      { context: 700, cacheTokens: onPressure === "wait" ? 8192 : 2304, maxSequences: 6, prefillChunk: 48 },
      { onPressure },
    );
    const beams = { count: 3, length: 4 };
    const all = Promise.all([
      ask({ ids: prompt, options: { maxTokens: 20, beams } }),
      ...[3, 4, 5].map((seed) => ask({ ids: promptOf(200, seed), options: { maxTokens: 70 } })),
      ask({ ids: prompt, options: { maxTokens: 20, beams } }),
    ]);
    const answers = await all;
    for (const i of [0, 4]) expect(answers[i]!.ids).toEqual(beamIds(runtime, beams, 20));
    for (const i of [1, 2, 3]) expect(answers[i]!.ids).toEqual(expectedIds(runtime, promptOf(200, i + 2), 70));
    expectAllFree(scheduler);
  });

  it("sets aside no more than the pages in which beams can differ", async () => {
    // 3 pages for 700 positions, and one more beam with at most 2 of its own: 5 of 5.
    const { runtime, scheduler, ask } = setUp({ context: 700, cacheTokens: 1280, maxSequences: 2, prefillChunk: 300 });
    const beams = { count: 2, length: 4 };
    const { ids } = await ask({ ids: prompt, options: { beams } });
    expect(ids).toEqual(beamIds(runtime, beams, 400));
    expectAllFree(scheduler);
  });

  it("without maxTokens takes what the cache has for all beams", async () => {
    const { ask } = setUp({ context: 768, cacheTokens: 1024, maxSequences: 4, prefillChunk: 300 });
    // Of 4 pages one is shared: three beams have one each, so 512 positions, of which the last is not fed.
    expect((await ask({ ids: prompt, options: { beams: { count: 3, length: 256 } } })).ids).toHaveLength(212);
  });

  it.each([
    { count: 0, length: 1 },
    { count: 2, length: 0 },
    { count: 2.5, length: 2 },
    { count: 1000, length: 2 },
    { count: 2 },
    { count: 2, length: 2, width: 3 },
    3,
  ])("refuses %j", async (beams) => {
    const { ask } = setUpBeams();
    await expect(async () => ask({ ids: prompt, options: { beams: beams as never } })).rejects.toThrow(GenerationOptionError);
  });

  it.each<[string, GenerationOptions, RegExp]>([
    ["guesses", { speculate: { tokens: 2, ngram: 2 } }, /beams and speculate/],
    ["log-probabilities of the prompt", { promptLogprobs: 0 }, /beams and promptLogprobs/],
  ])("does not go with %s", async (_, others, message) => {
    const { ask } = setUpBeams();
    await expect(async () => ask({ ids: prompt, options: { beams: { count: 2, length: 2 }, ...others } })).rejects.toThrow(
      message,
    );
  });

  it("needs a place for each beam", async () => {
    const { ask } = setUpBeams({ maxSequences: 2 });
    await expect(async () => ask({ ids: prompt, options: { beams: { count: 3, length: 2 } } })).rejects.toThrow(
      TooManySequencesError,
    );
  });
});
