// Many sequences in one step, prompts and single tokens mixed, captured and not: each row's logits as
// if its sequence ran alone.

import type { Backend, Output } from "../../src/backend/backend.js";
import { Driver, greedyAt } from "../conformance/driver.js";
import { meanDifference } from "../reference/compare.js";
import { fixture } from "../support/fixtures.js";
import type { Report } from "./report.js";

const MODELS = ["demo-gptq-4bit-g128", "demo-gptq-4bit-g128-act", "hf/qwen2-window"];
/** Buckets of every kernel: up to 8, up to 32, and beyond. */
const SEQUENCES = [3, 8, 20, 40];
const STEPS = 12;
/** Of the logits' deviation: other kernels for other numbers of rows round differently. */
const MEAN_BOUND = 0.01;

export async function checkBatches(backend: Backend, report: Report): Promise<void> {
  for (const name of MODELS)
    for (const count of SEQUENCES)
      await report.check(`${count} sequences of ${name}`, async () => {
        const options = { cacheType: "f16" as const, context: 256, prefillChunk: 64, maxSequences: count };
        await using driver = await Driver.load(backend, fixture(name), options);
        const prompts = Array.from({ length: count }, (_, i) => promptOf(i));
        const sequences = prompts.map(() => driver.newSequence());
        const texts = prompts.map((ids) => [...ids]);
        const rows: Float32Array[][] = prompts.map(() => []);
        const take = (places: readonly number[], outputs: readonly Output[][]) =>
          outputs.forEach(([output], i) => {
            texts[places[i]!]!.push(output!.id!);
            rows[places[i]!]!.push(output!.logits!);
          });
        const wanted = (index: number, position: number, sampled: boolean) => [
          { index, logits: true, sample: sampled ? greedyAt(position) : null },
        ];
        // Prompts arrive one after the other while those before them decode.
        for (let arrived = 0; arrived < count + STEPS; arrived++) {
          const places = Array.from({ length: Math.min(arrived + 1, count) }, (_, i) => i);
          const feeds = places.map((place) => {
            const sequence = sequences[place]!;
            const ids = texts[place]!.slice(sequence.length);
            return { sequence, ids, outputs: wanted(ids.length - 1, texts[place]!.length, true) };
          });
          if (feeds.reduce((sum, { ids }) => sum + ids.length, 0) > 64) throw new Error("the test's own batch is too large");
          take(places, await driver.step(feeds));
        }
        let worst = 0;
        for (const place of [0, Math.floor(count / 2), count - 1]) {
          for (const sequence of sequences) driver.end(sequence);
          const read = texts[place]!.slice(0, -1);
          const alone = await driver.logits(read, { last: rows[place]!.length });
          worst = Math.max(worst, meanDifference(rows[place]!, alone));
        }
        if (!(worst < MEAN_BOUND)) throw new Error(`logits differ by ${worst} of their deviation, allowed ${MEAN_BOUND}`);
        return `within ${(worst * 100).toFixed(3)} %`;
      });
}

/** Between 1 and 20 ids. */
function promptOf(index: number): number[] {
  return Array.from({ length: 1 + ((index * 7) % 20) }, (_, i) => 3 + ((index * 131 + i * 17) % 250));
}
