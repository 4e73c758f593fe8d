// Every kind of checkpoint as a small random model, on a GPU, against the reference forward pass.

import type { Backend } from "../../src/backend/backend.js";
import { Driver } from "../conformance/driver.js";
import { syntheticCases } from "../conformance/synthetic-cases.js";
import { meanDifference } from "../reference/compare.js";
import { referenceLogits } from "../reference/forward.js";
import { makeSynthetic } from "../support/synthetic-checkpoint.js";
import type { Report } from "./report.js";

/** Root mean square in units of the logits' deviation, see conformance.ts; 2- and 3-bit models are noisier. */
const MEAN_BOUND = 0.02;
const TOKENS = 44;
/** Token by token, in few tokens (weights as stored), and in many (weights expanded). */
const CHUNKS = [1, 17, 44];

export async function checkSynthetic(backend: Backend, report: Report): Promise<void> {
  for (const { name, model } of syntheticCases)
    await report.check(`synthetic ${name}`, async () => {
      using checkpoint = makeSynthetic(model);
      const ids = Array.from({ length: TOKENS }, (_, i) => (i * 31 + 7) % model.vocab);
      const wanted = referenceLogits(checkpoint.truth, ids);
      const said: string[] = [];
      for (const prefillChunk of CHUNKS) {
        await using driver = await Driver.load(backend, checkpoint.folder, { cacheType: "f16", context: 64, prefillChunk });
        const difference = meanDifference(await driver.logits(ids), wanted);
        if (!(difference < MEAN_BOUND))
          throw new Error(`in chunks of ${prefillChunk} off by ${difference}, allowed ${MEAN_BOUND}`);
        said.push(`${(difference * 100).toFixed(2)} %`);
      }
      return said.join(", ");
    });
}
