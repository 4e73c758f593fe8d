import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { FAKE_CARD, type FakeCard, FakeCuda } from "../../../../test/support/fake-cuda.js";
import { UsageError } from "../../../errors.js";
import { TABLE_BASELINE } from "../../../memory/devices.js";
import { MiB } from "../../../memory/size.js";
import { CudaUnavailableError } from "../driver/errors.js";
import { Calibrations } from "./calibration.js";
import { listCards, planDevice } from "./cards.js";
import { selectCards } from "./select-cards.js";

let folder: string;
let file: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "exllama-cards-"));
  file = join(folder, "deep", "baselines.json");
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const cardsOf = (...cards: FakeCard[]) => listCards(new FakeCuda(cards).sources(file));

function thrownBy(run: () => unknown): unknown {
  try {
    return run();
  } catch (error) {
    return error;
  }
}

describe("cards", () => {
  it("are listed without taking anything", () => {
    const cuda = new FakeCuda([FAKE_CARD, FAKE_CARD]);
    const cards = listCards(cuda.sources(file));
    expect(cards).toHaveLength(2);
    expect(cards[0]).toMatchObject({
      ordinal: 0,
      name: "Fake card",
      capability: "9.0",
      peers: [1],
      driver: "580.00",
      unusable: null,
    });
    expect(cards[0]!.uuid).toBe("GPU-01010101-0101-0101-0101-010101010101");
    expect(cuda.leaks).toEqual([]);
  });

  it("are planned with a table's baseline until one was measured", () => {
    expect(planDevice(cardsOf(FAKE_CARD)[0]!)).toMatchObject({ id: "cuda:0", baseline: TABLE_BASELINE, baselineSource: "table" });
    new Calibrations(file).record({ name: "Fake card", driver: "580.00" }, 600 * MiB);
    expect(planDevice(cardsOf(FAKE_CARD)[0]!)).toMatchObject({ baseline: 604 * MiB, baselineSource: "calibrated" });
  });

  it.each<[string, FakeCard, number | null]>([
    ["CUDA_DEVICE_TOO_OLD", { ...FAKE_CARD, capability: [7, 0] }, null],
    ["CUDA_DEVICES_BUSY", { ...FAKE_CARD, total: 400 * MiB }, null],
    ["CUDA_NO_DEVICE", FAKE_CARD, 100],
    ["CUDA_DRIVER_TOO_OLD", FAKE_CARD, 803],
  ])("say why they cannot be used: %s", (code, card, initStatus) => {
    const cuda = new FakeCuda([card]);
    if (initStatus !== null) cuda.failAt = { call: 0, status: initStatus };
    const error = thrownBy(() => selectCards(listCards(cuda.sources(file)), undefined));
    expect(error).toBeInstanceOf(CudaUnavailableError);
    expect(error).toMatchObject({ code, message: expect.stringMatching(initStatus === null ? /cuda:0/ : /driver/) });
  });

  it("that are none are not there", () => {
    expect(() => cardsOf()).toThrow(expect.objectContaining({ code: "CUDA_NO_DEVICE" }));
  });
});

describe("selecting cards", () => {
  const cards = () => cardsOf(FAKE_CARD, { ...FAKE_CARD, capability: [6, 1] }, FAKE_CARD);
  const ordinals = (list?: string) => selectCards(cards(), list).map(({ ordinal }) => ordinal);

  it.each([
    [undefined, [0, 2]],
    ["cuda", [0, 2]],
    ["cuda:2", [2]],
    ["cuda:0, cuda:0,cuda:2", [0, 0, 2]],
    ["GPU-03030303", [2]],
    ["GPU-01010101-0101-0101-0101-010101010101,cuda:2", [0, 2]],
  ])("%s means %j", (list, expected) => expect(ordinals(list)).toEqual(expected));

  it.each(["cuda:7", "GPU-ffff", "cuda:0,cpu", ""])("%j names no card", (list) => {
    expect(() => ordinals(list)).toThrow(UsageError);
  });

  it("refuses a named card that cannot be used", () => {
    expect(() => ordinals("cuda:1")).toThrow(expect.objectContaining({ code: "CUDA_DEVICE_TOO_OLD" }));
  });
});

describe("calibrations", () => {
  const card = { name: "A card", driver: "1" };

  it("keep the most that was measured, with some room", () => {
    const known = new Calibrations(file);
    expect(known.find(card)).toBeNull();
    known.record(card, 500 * MiB - 5);
    known.record(card, 400 * MiB);
    expect(known.find(card)).toBe(504 * MiB);
    expect(known.find({ ...card, driver: "2" })).toBeNull();
  });

  it.each(["", "[]", "null", '{"A card"', "7"])("do not believe a file that says %j", (text) => {
    const known = new Calibrations(file);
    known.record(card, 500 * MiB);
    writeFileSync(file, text);
    expect(known.find(card)).toBeNull();
    known.record(card, 300 * MiB);
    expect(known.find(card)).toBe(304 * MiB);
    expect(Object.values(JSON.parse(readFileSync(file, "utf8")) as object)).toContain(304 * MiB);
  });

  it("do not take what another process took meanwhile for the driver's", () => {
    const known = new Calibrations(file);
    known.record(card, 500 * MiB);
    known.record(card, 9000 * MiB);
    expect(known.find(card)).toBe(504 * MiB);
  });

  it("do without a folder that can be written", () => {
    writeFileSync(join(folder, "deep"), "a file, not a folder");
    const known = new Calibrations(file);
    known.record(card, 500 * MiB);
    expect(known.find(card)).toBeNull();
  });
});
