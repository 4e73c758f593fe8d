// `npm run test:gpu`: everything that only a GPU can show. Runs from dist/ with plain node, so a GPU
// machine needs neither npm nor the sources' tools: `node dist/gpu/main.js [section …]`. Without a
// usable GPU it fails.

import { writeFileSync } from "node:fs";
import { listCards } from "../../src/backend/cuda/cards/cards.js";
import { DeviceContext } from "../../src/backend/cuda/cards/device-context.js";
import { openDriver } from "../../src/backend/cuda/cards/open-driver.js";
import { createCudaBackend } from "../../src/backend/cuda/index.js";
import { checkAdapterKernels, checkAdapters } from "./adapter-checks.js";
import { timeAdapters } from "./adapter-speed.js";
import { checkAhead } from "./ahead.js";
import { checkAttention } from "./attention-checks.js";
import { timeAttention } from "./attention-speed.js";
import { checkAttentionSteps } from "./attention-step-checks.js";
import { checkBatches } from "./batches.js";
import { checkCacheWriting } from "./cache-contents.js";
import { checkCaches } from "./caches.js";
import { checkChains } from "./chains.js";
import { checkGolden, checkPerplexity } from "./conformance.js";
import { checkDeterminism } from "./determinism.js";
import { checkDeviceList } from "./device-list.js";
import { checkFaults } from "./faults.js";
import { KernelBench } from "./kernel-bench.js";
import { checkKernels } from "./kernel-checks.js";
import { checkLostEngine } from "./lost-engine.js";
import { checkMemory } from "./memory.js";
import { checkMemoryPhases } from "./memory-phases.js";
import { otherImage } from "./other-images.js";
import { checkFileLoading } from "./real-files.js";
import { Report } from "./report.js";
import { checkRowChains } from "./row-chains.js";
import { checkSampledSteps, checkSampling, timeSampling } from "./sampling-checks.js";
import { checkSoak } from "./soak.js";
import { checkStrategies } from "./strategies.js";
import { checkSynthetic } from "./synthetic.js";
import { checkTwoModels } from "./two-models.js";

await main();

async function main(): Promise<void> {
  const sources = openDriver();
  const cards = listCards(sources);
  for (const { ordinal, name, free, driver, unusable } of cards)
    console.log(
      `cuda:${ordinal} ${name}, ${(free / 2 ** 20).toFixed(0)} MiB free, driver ${driver}${unusable ? `: ${unusable.message}` : ""}`,
    );
  if (cards.every(({ unusable }) => unusable)) throw cards[0]!.unusable;

  const report = new Report();
  const image = argumentOf("image");
  const other = image === undefined ? undefined : otherImage(image);
  const backend = createCudaBackend({ sources, image: other });

  async function onCard(run: (gpu: DeviceContext) => string | Promise<string>): Promise<string> {
    const gpu = DeviceContext.open(sources.driver, cards.find(({ unusable }) => !unusable)!.ordinal, "cuda:0", other);
    try {
      return await run(gpu);
    } finally {
      gpu.close();
    }
  }

  const sections: Record<string, () => Promise<void>> = {
    kernels: () =>
      report.check("kernels agree with their references", () =>
        onCard((gpu) => {
          const bench = new KernelBench(gpu);
          checkKernels(bench);
          checkCacheWriting(bench);
          if (bench.failures > 0) throw new Error(`${bench.failures} comparisons failed`);
          return "all";
        }),
      ),
    attention: () =>
      report.check("attention agrees with its reference, over every type of cache", () =>
        onCard((gpu) => {
          const bench = new KernelBench(gpu);
          checkAttention(bench);
          checkAttentionSteps(bench);
          if (bench.failures > 0) throw new Error(`${bench.failures} comparisons failed`);
          return "all";
        }),
      ),
    sampling: async () => {
      await report.check("tokens chosen on the card are those of the host", () => onCard(checkSampling));
      await checkSampledSteps(backend, report);
    },
    golden: () => checkGolden(backend, report),
    synthetic: () => checkSynthetic(backend, report),
    chains: async () => {
      await checkChains(sources, cards, report, other);
      await checkRowChains(sources, cards, report, other);
    },
    batches: () => checkBatches(backend, report),
    strategies: () => checkStrategies(backend, report),
    adapters: async () => {
      await report.check("adapter kernels agree with arithmetic on the host", () =>
        onCard((gpu) => {
          const bench = new KernelBench(gpu);
          checkAdapterKernels(bench);
          if (bench.failures > 0) throw new Error(`${bench.failures} comparisons failed`);
          return "all";
        }),
      );
      await checkAdapters(backend, report);
    },
    perplexity: () => checkPerplexity(backend, report),
    caches: () => checkCaches(backend, report),
    determinism: () => checkDeterminism(sources, cards, report),
    ahead: async () => {
      await checkAhead(backend, report);
      await checkAhead(backend, report, 3);
    },
    faults: () => checkFaults(sources, report),
    memory: () =>
      checkMemory(
        cards,
        report,
        process.argv.includes("--long") ? "long" : process.argv.includes("--largest") ? "largest" : "short",
        argumentOf("model"),
      ),
    memoryPhases: () =>
      checkMemoryPhases(sources, cards, report, {
        model: argumentOf("model"),
        sequences: argumentOf("sequences")?.split(",").map(Number),
      }),
    devices: () => checkDeviceList(cards, report),
    files: () => checkFileLoading(backend, report),
    twoModels: () => checkTwoModels(cards, report),
    lostEngine: () => checkLostEngine(cards, report),
    soak: () => checkSoak(cards, report),
    adapterSpeed: () =>
      report.check("speed of adapters", () =>
        onCard((gpu) => {
          timeAdapters(new KernelBench(gpu));
          return "see above";
        }),
      ),
    attentionSpeed: () =>
      report.check("speed of attention", () =>
        onCard((gpu) => {
          timeAttention(new KernelBench(gpu));
          return "see above";
        }),
      ),
    samplingSpeed: () => report.check("speed of sampling", () => onCard(timeSampling)),
  };

  const asked = process.argv.slice(2).filter((argument) => !argument.startsWith("--"));
  const unknown = asked.find((name) => !sections[name]);
  if (unknown) throw new Error(`there is no section ${unknown}: ${Object.keys(sections).join(", ")}`);
  for (const name of asked.length > 0 ? asked : Object.keys(sections)) await sections[name]!();

  const json = argumentOf("json");
  if (json)
    writeFileSync(
      json,
      `${JSON.stringify({ cards: cards.map(({ name, driver }) => ({ name, driver })), results: report.results }, null, 1)}\n`,
    );
  console.log(report.failed === 0 ? "everything holds" : `${report.failed} checks FAILED`);
  process.exit(report.failed === 0 ? 0 : 1);
}

/** Of `--name=value`. */
function argumentOf(name: string): string | undefined {
  const prefix = `--${name}=`;
  return process.argv.find((argument) => argument.startsWith(prefix))?.slice(prefix.length);
}
