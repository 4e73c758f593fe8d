// Perplexity of some windows of each validation set, against what the exact backend had for the
// same windows when its totals over all forty were held to transformers' (full.ts does that).

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { packageRoot } from "../../src/paths.js";
import { fixture } from "../support/fixtures.js";
import { named } from "../support/named.js";
import { backends } from "./backends.js";
import { PERPLEXITY } from "./bounds.js";
import { Driver } from "./driver.js";
import type { ValidationSet } from "./golden-models.js";
import { type RecordedWindows, windowNll } from "./perplexity.js";

const MODEL = "demo-gptq-4bit-g128";
const WINDOWS = [0, 8, 16, 24, 32];
const recorded = JSON.parse(readFileSync(join(packageRoot, "test/conformance/window-nll.json"), "utf8")) as RecordedWindows;

describe.each(named(backends))("%s", (_, backend) => {
  it.each<ValidationSet>(["stories", "docs"])("predicts %s as well as the reference", async (set) => {
    const options = { cacheType: backend.cacheType, context: 1024, prefillChunk: 256 };
    await using driver = await Driver.load(backend.create(), fixture(MODEL), options);
    let difference = 0;
    for (const window of WINDOWS) difference += (await windowNll(driver, set, window)) - recorded[MODEL]![set][window]!;
    const perplexity = Math.exp(difference / WINDOWS.length) - 1;
    expect(Math.abs(perplexity)).toBeLessThan(backend.exact ? PERPLEXITY.exact : PERPLEXITY.quantized);
  });
});
