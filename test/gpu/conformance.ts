// The fixtures on a GPU: logits and greedy tokens of transformers, perplexity of the reference.

import type { Backend } from "../../src/backend/backend.js";
import { createCpuBackend } from "../../src/backend/cpu/index.js";
import { Driver } from "../conformance/driver.js";
import { type GoldenPrompt, smallGolden, smallModels, trainedGolden, trainedModels } from "../conformance/golden-models.js";
import { windowNll } from "../conformance/perplexity.js";
import recorded from "../conformance/window-nll.json" with { type: "json" };
import { meanDifference } from "../reference/compare.js";
import { fixture } from "../support/fixtures.js";
import type { Report } from "./report.js";

/** Root mean square of the logits' error in units of their deviation: f16 between kernels costs 0.1 to 0.5 %. */
const MEAN_BOUND = 0.02;
/** A greedy token may differ where the reference itself has two candidates this close, logits. */
const TIE = 0.05;
/** Relative difference of perplexity. */
const PERPLEXITY_BOUND = 1e-3;
/** Windows that are read in chunks of so many tokens; one by one by the kernels of decode steps. */
const WINDOWS = [
  { chunk: 512, most: 20, how: "" },
  { chunk: 1, most: 5, how: ", token by token" },
] as const;

/** Logits after every golden position, greedy continuations. */
export async function checkGolden(backend: Backend, report: Report): Promise<void> {
  for (const name of [...smallModels(), ...trainedModels()]) {
    const prompts = name.includes("/") ? smallGolden(name) : trainedGolden(name);
    await report.check(`golden ${name}`, async () => {
      await using driver = await Driver.load(backend, fixture(name), {
        cacheType: "f16",
        context: contextFor(name),
        prefillChunk: 64,
      });
      const differences: number[] = [];
      let tokens = 0;
      for (const prompt of prompts) {
        differences.push(meanDifference(await logitsOf(driver, prompt), prompt.logits));
        if (prompt.greedy) tokens += await checkGreedy(driver, name, prompt);
      }
      const worst = Math.max(...differences);
      if (!(worst < MEAN_BOUND)) throw new Error(`the logits are off by ${worst} of their deviation, allowed ${MEAN_BOUND}`);
      return `logits within ${(worst * 100).toFixed(2)} %, ${tokens} greedy tokens`;
    });
  }
}

/** Room for the longest golden prompt, within what the small models are made for. */
function contextFor(name: string): number {
  return name.includes("/") ? 224 : 704;
}

async function logitsOf(driver: Driver, { ids, positions }: GoldenPrompt): Promise<Float32Array[]> {
  const first = Math.min(...positions);
  const rows = await driver.logits(ids, { last: ids.length - first });
  return positions.map((position) => rows[position - first]!);
}

/** @returns how many tokens were equal */
async function checkGreedy(driver: Driver, name: string, { ids, greedy }: GoldenPrompt): Promise<number> {
  const prompt = ids.slice(0, greedy!.after);
  const got = await driver.greedy(prompt, greedy!.ids.length);
  const wrong = got.findIndex((id, i) => id !== greedy!.ids[i]);
  if (wrong < 0) return got.length;
  const margin = await marginOf(name, [...prompt, ...greedy!.ids.slice(0, wrong)]);
  if (margin > TIE)
    throw new Error(`token ${wrong} is ${got[wrong]}, not ${greedy!.ids[wrong]}, where the reference is ${margin} logits sure`);
  return wrong;
}

/** How far the likeliest next token is ahead of the second, by the exact CPU backend. */
async function marginOf(name: string, ids: readonly number[]): Promise<number> {
  const exact = createCpuBackend({ exact: true });
  await using driver = await Driver.load(exact, fixture(name), { cacheType: "f32", context: contextFor(name), prefillChunk: 64 });
  const [logits] = await driver.logits(ids, { last: 1 });
  const [first, second] = Float32Array.from(logits!).sort().slice(-2).reverse();
  return first! - second!;
}

/** Every window whose value on the exact backend is recorded. */
export async function checkPerplexity(backend: Backend, report: Report): Promise<void> {
  for (const name of trainedModels()) {
    const sets = (recorded as Record<string, Record<"stories" | "docs", number[]>>)[name];
    if (!sets) continue;
    for (const set of ["stories", "docs"] as const)
      for (const { chunk, most, how } of WINDOWS)
        await report.check(`perplexity ${name} ${set}${how}`, async () => {
          const options = { cacheType: "f16", context: 1024, prefillChunk: chunk } as const;
          await using driver = await Driver.load(backend, fixture(name), options);
          const windows = Math.min(most, sets[set].length);
          let difference = 0;
          for (let window = 0; window < windows; window++)
            difference += ((await windowNll(driver, set, window)) - sets[set][window]!) / windows;
          const relative = Math.abs(Math.exp(difference) - 1);
          if (!(relative < PERPLEXITY_BOUND)) throw new Error(`perplexity differs by ${relative}, allowed ${PERPLEXITY_BOUND}`);
          return `within ${(relative * 100).toFixed(3)} % over ${windows} windows`;
        });
  }
}
