// Random models on every backend: part of `npm run conformance:full`. A failing seed is a case
// for synthetic-cases.ts. SEED=1000 COUNT=500 tries others.

import { expect, it } from "vitest";
import { referenceLogits } from "../reference/forward.js";
import { makeSynthetic } from "../support/synthetic-checkpoint.js";
import { backends } from "./backends.js";
import { Driver } from "./driver.js";
import { judgeExact, judgeQuantized } from "./judge.js";
import { misreadingsOf } from "./misreadings.js";
import { randomModel } from "./random-model.js";

const FIRST = Number(process.env.SEED ?? 1);
const COUNT = Number(process.env.COUNT ?? 100);

it.each(Array.from({ length: COUNT }, (_, i) => FIRST + i))("random model of seed %i", async (seed) => {
  const model = randomModel(seed);
  using checkpoint = makeSynthetic(model);
  const ids = Array.from({ length: 30 }, (_, i) => (i * 31 + 7) % model.vocab);
  const wanted = referenceLogits(checkpoint.truth, ids);
  for (const backend of backends) {
    const options = { cacheType: backend.cacheType, context: 64, prefillChunk: 13 };
    await using driver = await Driver.load(backend.create(), checkpoint.folder, options);
    const got = await driver.logits(ids);
    const verdict = backend.exact ? judgeExact(got, wanted) : judgeQuantized(got, wanted, ids, misreadingsOf(model, checkpoint));
    expect(verdict, `${backend.name}: ${JSON.stringify(model)}`).toBeNull();
  }
});
