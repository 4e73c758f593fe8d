// Every kind of driver call made to fail once, on the real driver: each time a typed error, nothing
// left on the card, and the same process loads and runs again.

import { type CardSources, listCards } from "../../src/backend/cuda/cards/cards.js";
import { CudaDriver } from "../../src/backend/cuda/driver/driver.js";
import { NOT_READY } from "../../src/backend/cuda/driver/errors.js";
import { CUDA_FUNCTIONS, type CudaFunctions } from "../../src/backend/cuda/driver/functions.js";
import { createCudaBackend } from "../../src/backend/cuda/index.js";
import { ExllamaError } from "../../src/errors.js";
import { Driver } from "../conformance/driver.js";
import { fixture } from "../support/fixtures.js";
import type { Report } from "./report.js";

const MODEL = "tiny/llama-gqa-tied";
const GIVES_BACK = /Free|Unload|Destroy|Release|SetCurrent|Synchronize/;

/** A driver one of whose calls fails without being made. */
class FailingDriver {
  calls = 0;
  failAt = -1;
  failed: string | null = null;
  readonly driver: CudaDriver;

  constructor(real: CudaFunctions, status: number) {
    const wrapped = Object.fromEntries(
      Object.keys(CUDA_FUNCTIONS).map((name) => [
        name,
        (...values: never[]) => {
          if (name === "cuEventQuery") {
            // How often an event is asked before it is done differs from run to run: only the last time counts.
            const answer = real.cuEventQuery(...(values as unknown as Parameters<CudaFunctions["cuEventQuery"]>));
            if (answer === NOT_READY) return answer;
          }
          if (!GIVES_BACK.test(name) && this.calls++ === this.failAt) {
            this.failed = name;
            return status;
          }
          return (real[name as keyof CudaFunctions] as (...values: never[]) => number)(...values);
        },
      ]),
    );
    this.driver = new CudaDriver(wrapped as unknown as CudaFunctions);
  }
}

export async function checkFaults(sources: CardSources, report: Report): Promise<void> {
  await report.check("driver failures", async () => {
    const counting = new FailingDriver(sources.driver.functions, 0);
    await run({ ...sources, driver: counting.driver });
    const free = () => listCards(sources)[0]!.free;
    const before = free();
    const seen = new Set<string>();
    const total = counting.calls;
    let tried = 0;
    for (let i = 0; i < total; i += i < 80 ? 3 : Math.ceil(total / 60)) {
      const failing = new FailingDriver(sources.driver.functions, i % 2 === 0 ? 2 : 999);
      failing.failAt = i;
      const error = await run({ ...sources, driver: failing.driver }).then(
        () => null,
        (thrown: unknown) => thrown,
      );
      if (!(error instanceof ExllamaError)) throw new Error(`call ${i} (${failing.failed}) ended in ${error}`);
      if (free() < before) throw new Error(`call ${i} (${failing.failed}) left ${before - free()} bytes on the card`);
      seen.add(failing.failed!);
      tried++;
    }
    await run(sources);
    return `${tried} of ${total} calls, ${seen.size} functions: ${[...seen].join(", ")}`;
  });
}

async function run(sources: CardSources): Promise<void> {
  const backend = createCudaBackend({ sources });
  const driver = await Driver.load(backend, fixture(MODEL), {
    cacheType: "f16",
    context: 256,
    prefillChunk: 64,
    maxSequences: 2,
  });
  try {
    await driver.greedy(
      Array.from({ length: 70 }, (_, i) => i + 1),
      3,
    );
  } finally {
    await driver.runtime.dispose();
  }
}
