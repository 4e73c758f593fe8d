// The whole perplexity reference: every trained checkpoint on this machine, both validation
// sets, all forty windows, every backend. With full-random.ts some ten minutes on two cores:
//
//   npm run conformance:full
//
// With RECORD_WINDOWS=1 the exact CPU backend's figures are written to window-nll.json, which
// the shorter tests compare single windows against.

import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { packageRoot } from "../../src/paths.js";
import { fixture } from "../support/fixtures.js";
import { named } from "../support/named.js";
import { backends } from "./backends.js";
import { PERPLEXITY } from "./bounds.js";
import { Driver } from "./driver.js";
import { trainedModels, type ValidationSet } from "./golden-models.js";
import { allWindows, perplexityDifference, type RecordedWindows } from "./perplexity.js";

const SETS: readonly ValidationSet[] = ["stories", "docs"];
const recordPath = join(packageRoot, "test/conformance/window-nll.json");

function record(name: string, set: ValidationSet, windows: readonly number[]): void {
  const all = JSON.parse(readFileSync(recordPath, "utf8")) as RecordedWindows;
  const rounded = windows.map((nll) => Number(nll.toPrecision(9)));
  writeFileSync(recordPath, `${JSON.stringify({ ...all, [name]: { ...all[name], [set]: rounded } }, null, 1)}\n`);
}

describe.each(named(backends))("%s", (_, backend) => {
  const cases = trainedModels().flatMap((name) => SETS.map((set) => [name, set] as const));
  it.each(cases)("%s, %s", async (name, set) => {
    const options = { cacheType: backend.cacheType, context: 1024, prefillChunk: 256 };
    await using driver = await Driver.load(backend.create(), fixture(name), options);
    const windows = await allWindows(driver, name, set);
    const difference = perplexityDifference(windows, name, set);
    console.log(`${backend.name}: ${name}, ${set}: perplexity ${(difference * 100).toFixed(4)} % from the reference`);
    expect(Math.abs(difference)).toBeLessThan(backend.exact ? PERPLEXITY.exact : PERPLEXITY.quantized);
    if (backend.exact && process.env.RECORD_WINDOWS) record(name, set, windows);
  });
});
