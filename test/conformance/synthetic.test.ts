// Every kind of checkpoint, as a small random model, against the reference forward pass.

import { describe, expect, it } from "vitest";
import { largestDifference, meanDifference } from "../reference/compare.js";
import { referenceLogits } from "../reference/forward.js";
import { makeSynthetic } from "../support/synthetic-checkpoint.js";
import { backends } from "./backends.js";
import { Driver } from "./driver.js";
import { judgeExact, judgeQuantized } from "./judge.js";
import { misreadingsOf } from "./misreadings.js";
import { syntheticCases } from "./synthetic-cases.js";

// Three chunks, none of them a multiple of anything.
const TOKENS = 44;
const CHUNK = 17;

describe.each(backends)("$name", (backend) => {
  it.each(syntheticCases)("$name", async ({ model }) => {
    using checkpoint = makeSynthetic(model);
    const { folder, truth } = checkpoint;
    const ids = Array.from({ length: TOKENS }, (_, i) => (i * 31 + 7) % model.vocab);
    await using driver = await Driver.load(backend.create(), folder, {
      cacheType: backend.cacheType,
      context: 64,
      prefillChunk: CHUNK,
    });
    const got = await driver.logits(ids);
    if (process.env.CONFORMANCE_FIGURES) {
      const wanted = referenceLogits(truth, ids);
      console.log(`${meanDifference(got, wanted).toExponential(2)} ${largestDifference(got, wanted).toExponential(2)}`);
    }
    const verdict = backend.exact
      ? judgeExact(got, referenceLogits(truth, ids))
      : judgeQuantized(got, truth, ids, misreadingsOf(model, truth));
    expect(verdict).toBeNull();
  });
});
