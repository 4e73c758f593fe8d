// Long use: mixed requests, some cancelled, until very many tokens have been fed. What the card and
// the engine's process take after the first part is what they take at the end.

import { readdirSync, readFileSync } from "node:fs";
import type { Card } from "../../src/backend/cuda/cards/cards.js";
import { demoModel, type LoadOptions, loadModel, type Model } from "../../src/index.js";
import { MiB } from "../../src/memory/size.js";
import { CardSampler } from "./card-sampler.js";
import type { Report } from "./report.js";

const TOKENS = 50_000;
/** Caches fill and code is compiled before figures are compared. */
const SETTLED_AFTER = 0.2;
const MOST_GROWTH = 50 * MiB;
const AT_ONCE = 4;

export async function checkSoak(cards: readonly Card[], report: Report): Promise<void> {
  await report.check(`${TOKENS} tokens of mixed requests`, async () => {
    using sampler = new CardSampler(cards.map(({ uuid }) => uuid));
    const settled: { used: number[]; resident: number } = { used: [], resident: 0 };
    const counts = await soak(
      { devices: "cuda:0" },
      TOKENS,
      async (share) => {
        if (share < SETTLED_AFTER || settled.resident > 0) return;
        settled.used = (await sampler.reset()).now;
        settled.resident = engineResident();
      },
      async () => {
        const { peak } = await sampler.read();
        if (peak.some((used, i) => used !== settled.used[i]))
          throw new Error(`the cards show ${peak} bytes, ${settled.used} before`);
        const growth = engineResident() - settled.resident;
        if (growth > MOST_GROWTH) throw new Error(`the engine grew by ${growth} bytes`);
      },
    );
    return `${counts.requests} requests, ${counts.cancelled} cancelled, the card flat, the engine within ${MOST_GROWTH / MiB} MiB`;
  });
}

/**
 * Runs requests until so many tokens were read or generated.
 *
 * @param onPart told now and then which part is done
 * @param atEnd before the model is given back
 */
export async function soak(
  options: LoadOptions,
  tokens: number,
  onPart: (share: number) => Promise<void>,
  atEnd: () => Promise<void>,
): Promise<{ requests: number; cancelled: number }> {
  const model = await loadModel(demoModel, { ctx: 512, cacheTokens: 2048, maxSequences: AT_ONCE, prefillChunk: 128, ...options });
  const state = { done: 0, requests: 0, cancelled: 0, seed: 1 };
  try {
    const worker = async () => {
      while (state.done < tokens) {
        await request(model, state);
        await onPart(state.done / tokens);
      }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, worker));
    await atEnd();
    return state;
  } finally {
    await model.dispose();
  }
}

async function request(model: Model, state: { done: number; requests: number; cancelled: number; seed: number }): Promise<void> {
  const random = (below: number) => {
    state.seed = (Math.imul(state.seed, 1664525) + 1013904223) >>> 0;
    return Math.floor((state.seed / 2 ** 32) * below);
  };
  const prompt = Array.from({ length: 5 + random(200) }, () => 3 + random(model.info.vocabSize - 3));
  const maxTokens = 20 + random(150);
  const cancelAfter = random(5) === 0 ? 1 + random(15) : Number.POSITIVE_INFINITY;
  const answer = model.generate(prompt, { maxTokens, temperature: random(2) * 0.8, seed: state.requests, ignoreEos: true });
  answer.result.catch(() => {});
  state.requests++;
  state.done += prompt.length;
  let pieces = 0;
  for await (const _ of answer) {
    if (++pieces < cancelAfter) continue;
    state.cancelled++;
    break;
  }
  state.done += pieces;
}

/** Resident bytes of this process's engines. */
function engineResident(): number {
  const children = readdirSync("/proc/self/task").flatMap((task) =>
    readFileSync(`/proc/self/task/${task}/children`, "utf8").trim().split(" "),
  );
  return children.filter(Boolean).reduce((sum, pid) => {
    if (!readFileSync(`/proc/${pid}/cmdline`, "utf8").includes("child.js")) return sum;
    return sum + Number(/^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1] ?? 0) * 1024;
  }, 0);
}
