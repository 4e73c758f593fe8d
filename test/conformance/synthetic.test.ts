// Every kind of checkpoint, as a small random model, on every backend, against the reference
// forward pass.

import { describe, expect, it } from "vitest";
import { referenceLogits } from "../reference/forward.js";
import { named } from "../support/named.js";
import { makeSynthetic } from "../support/synthetic-checkpoint.js";
import { backends } from "./backends.js";
import { Driver } from "./driver.js";
import { judgeExact, judgeQuantized } from "./judge.js";
import { misreadingsOf } from "./misreadings.js";
import { syntheticCases } from "./synthetic-cases.js";

// Three chunks, none of them a multiple of anything.
const TOKENS = 44;
const CHUNK = 17;

describe("the logits of the reference", () => {
  it.each(named(syntheticCases))("%s", async (_, { model }) => {
    using checkpoint = makeSynthetic(model);
    const ids = Array.from({ length: TOKENS }, (_, i) => (i * 31 + 7) % model.vocab);
    const wanted = referenceLogits(checkpoint.truth, ids);
    for (const backend of backends) {
      const options = { cacheType: backend.cacheType, context: 64, prefillChunk: CHUNK };
      await using driver = await Driver.load(backend.create(), checkpoint.folder, options);
      const got = await driver.logits(ids);
      const verdict = backend.exact
        ? judgeExact(got, wanted)
        : judgeQuantized(got, wanted, ids, misreadingsOf(model, checkpoint));
      expect(verdict, backend.name).toBeNull();
    }
  });
});
