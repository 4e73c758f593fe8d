// Many requests at once on the demo model, of which many are given up on the way: every answer is
// the one that its request has alone, and in the end nothing is held. In the suite
// each client comes once; EXLLAMA_STRESS_SECONDS=120 goes on for two minutes.

import { beforeAll, describe, expect, it } from "vitest";
import { type GenerateOptions, loadModel, type Model } from "../../src/index.js";
import { Random } from "../support/random.js";

const SECONDS = Number(process.env.EXLLAMA_STRESS_SECONDS ?? 0);
const CLIENTS = 40;

const BEGINNINGS = ["Once upon a time", "The little dog", "In the dark forest", "Tom and Lily went"];

interface Request {
  readonly prompt: string;
  readonly options: GenerateOptions;
}

/** Some sample, some guess ahead, some grow beams, some are guided; the others are plain greedy answers. */
const STRATEGIES: readonly GenerateOptions[] = [
  { temperature: 0 },
  { temperature: 1, topK: 30 },
  { temperature: 0 },
  { temperature: 0, speculate: { tokens: 4, ngram: 2 } },
  { temperature: 0 },
  { temperature: 1, topK: 5, beams: { count: 2, length: 3 } },
  { temperature: 0 },
  { temperature: 0, guidance: { scale: 1.5, negative: "In the dark forest" } },
];

/** Requests of unlike length, some of which begin alike for more than a page of KV. */
function makeRequests(count: number): Request[] {
  return Array.from({ length: count }, (_, seed) => {
    const random = new Random(seed);
    const beginning = BEGINNINGS[random.integer(BEGINNINGS.length)]!;
    const prompt = `${beginning} ${`${beginning}. `.repeat(random.integer(4) === 0 ? 60 : random.integer(8))}Number ${seed}`;
    const options = { maxTokens: 8 + random.integer(24), ignoreEos: true, seed, ...STRATEGIES[seed % STRATEGIES.length]! };
    return { prompt, options };
  });
}

const requests = makeRequests(24);
let expected: (readonly number[])[];
beforeAll(async () => {
  expected = await aloneAnswers(requests);
}, 60_000);

describe.each(["wait", "preempt"] as const)("40 requests at once, onPressure %s", (onPressure) => {
  it("have the answers that they have alone, whoever gives up, and leave nothing behind", {
    timeout: 60_000 + 2000 * SECONDS,
  }, async () => {
    // Fewer pages than 16 sequences can come to need.
    await using model = await loadModel(undefined, { ctx: 1024, threads: 1, maxSequences: 16, cacheTokens: 4096, onPressure });
    const until = performance.now() + 1000 * SECONDS;
    let [complete, left] = [0, 0];
    const client = async (seed: number): Promise<void> => {
      const random = new Random(1000 + seed);
      for (let round = 0; round < 1 || performance.now() < until; round++) {
        const which = random.integer(requests.length);
        const { prompt, options } = requests[which]!;
        const leaveAfter = random.integer(3) === 0 ? random.integer(options.maxTokens!) : null;
        const ids: number[] = [];
        for await (const event of model.generate(prompt, options).events()) {
          ids.push(...event.ids);
          if (leaveAfter !== null && ids.length > leaveAfter) break;
        }
        expect(ids).toEqual(expected[which]!.slice(0, ids.length));
        if (leaveAfter === null) expect(ids.length).toBe(options.maxTokens);
        if (ids.length === options.maxTokens) complete++;
        else left++;
      }
    };
    await Promise.all(Array.from({ length: CLIENTS }, (_, seed) => client(seed)));
    expect(complete).toBeGreaterThan(left);
    expect(left).toBeGreaterThan(0);
    await expectNothingHeld(model);
    const { counters } = await model.status();
    expect(counters.reusedTokens).toBeGreaterThan(0);
    if (onPressure === "wait") expect(counters.preemptions).toBe(0);
    else expect(counters.preemptions).toBeGreaterThan(0);
  });
});

async function aloneAnswers(all: readonly Request[]): Promise<(readonly number[])[]> {
  await using model = await loadModel(undefined, { ctx: 1024, threads: 1, maxSequences: 2, cacheTokens: 2048 });
  const answers: (readonly number[])[] = [];
  for (const { prompt, options } of all) answers.push((await model.generate(prompt, options).result).ids);
  return answers;
}

async function expectNothingHeld(model: Model): Promise<void> {
  const { scheduler } = await model.status();
  expect(scheduler).toMatchObject({ waiting: 0, running: 0 });
  expect(scheduler.reservedPages.every((pages) => pages === 0)).toBe(true);
  for (const [g, total] of scheduler.totalPages.entries()) expect(scheduler.freePages[g]! + scheduler.idlePages[g]!).toBe(total);
}
