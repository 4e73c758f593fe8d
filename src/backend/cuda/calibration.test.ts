import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { MiB } from "../../memory/size.js";
import { Calibrations } from "./calibration.js";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "exllama-calibration-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const card = { name: "a card", driver: "580.1" };

describe("calibrations", () => {
  it("keep the most that was measured of a kind of card, with an allowance", () => {
    const known = new Calibrations(join(folder, "deep", "baselines.json"));
    expect(known.find(card)).toBe(null);
    for (const measured of [520.5, 526.1, 510]) known.record(card, measured * MiB);
    expect(known.find(card)).toBe(531 * MiB);
    expect(known.find({ ...card, driver: "590.2" })).toBe(null);
    expect(new Calibrations(join(folder, "deep", "baselines.json")).find(card)).toBe(531 * MiB);
  });

  it("do not take what another process took meanwhile for the driver's", () => {
    const known = new Calibrations(join(folder, "baselines.json"));
    known.record(card, 526 * MiB);
    known.record(card, 9000 * MiB);
    expect(known.find(card)).toBe(530 * MiB);
  });
});
