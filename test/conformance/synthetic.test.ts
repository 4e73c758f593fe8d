// Every kind of checkpoint, as a small random model, on every backend, against the reference
// forward pass.

import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { openCheckpoint } from "../../src/checkpoint/local.js";
import { readModel } from "../../src/model/read.js";
import { referenceLogits } from "../reference/forward.js";
import { named } from "../support/named.js";
import { makeSynthetic } from "../support/synthetic-checkpoint.js";
import { syntheticConfig } from "../support/synthetic-config.js";
import { backends } from "./backends.js";
import { Driver } from "./driver.js";
import { judgeExact, judgeQuantized } from "./judge.js";
import { misreadingsOf } from "./misreadings.js";
import { olderSpellings, syntheticCases } from "./synthetic-cases.js";

// Three chunks, none of them a multiple of anything.
const TOKENS = 44;
const CHUNK = 17;

describe("the logits of the reference", () => {
  const newer = syntheticCases.filter((one) => !olderSpellings.includes(one));
  it.each(named(newer))("%s", async (_, { model }) => {
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

// The tensors are the same, and what is read of the config is the same to the last field: so are the logits.
describe("a config as transformers 4 wrote it", () => {
  async function specOf(folder: string) {
    const checkpoint = await openCheckpoint(folder);
    await checkpoint.close();
    return readModel(checkpoint);
  }

  it.each(named(olderSpellings))("%s: says what the newer one says", async (_, { model }) => {
    using checkpoint = makeSynthetic(model);
    const older = await specOf(checkpoint.folder);
    const newer = syntheticConfig({ ...model, keys: "transformers-5" });
    expect(checkpoint.config).not.toEqual(newer);
    writeFileSync(join(checkpoint.folder, "config.json"), JSON.stringify(newer));
    expect(await specOf(checkpoint.folder)).toEqual(older);
  });
});
