import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, it } from "vitest";
import { FAKE_CARD, FakeCuda } from "../../test/support/fake-cuda.js";
import { listCards } from "../backend/cuda/cards/cards.js";
import type { Plan } from "../memory/plan.js";
import { openCardMeters } from "./card-meters.js";
import type { Gpus } from "./gpus.js";

const folder = mkdtempSync(join(tmpdir(), "exllama-meters-"));
afterAll(() => rmSync(folder, { recursive: true }));

/** Two cards, each having used as many joules as `energies` says of it. */
function machine(energies: (number | null)[]): { gpus: Gpus; plan: (used: readonly number[]) => Plan } {
  const sources = new FakeCuda([FAKE_CARD, FAKE_CARD]).sources(join(folder, "baselines.json"));
  const cards = listCards(sources);
  const handles = cards.map(({ uuid }) => sources.nvml.find(uuid));
  sources.nvml.energy = (handle) => energies[handles.indexOf(handle)] ?? null;
  const plan = (used: readonly number[]) =>
    ({
      packing: "cuda",
      devices: cards.map(({ uuid }, index) => ({ card: uuid, total: used.includes(index) ? 1 : 0 })),
    }) as unknown as Plan;
  return { gpus: { cards, problem: null, sources }, plan };
}

it("adds up the energy of the cards that a plan uses, and reads on the first of them", () => {
  const { gpus, plan } = machine([100, 7]);
  expect(openCardMeters(plan([0, 1]), () => gpus).joules()).toBe(107);
  const second = openCardMeters(plan([1]), () => gpus);
  expect(second.joules()).toBe(7);
  expect(second.card).toBe(gpus.cards[1]!.name);
  expect(second.readRate()).toBeGreaterThan(0);
});

it("has no energy where one of the cards does not count it", () => {
  const { gpus, plan } = machine([100, null]);
  expect(openCardMeters(plan([0, 1]), () => gpus).joules()).toBe(null);
});

it("measures nothing for a plan on the CPU, and looks for no card", () => {
  const plan = { packing: "cpu", devices: [{ card: "cpu", total: 1 }] } as unknown as Plan;
  const meters = openCardMeters(plan, () => {
    throw new Error("looked for cards");
  });
  expect([meters.card, meters.driver, meters.joules(), meters.readRate()]).toEqual([null, null, null, null]);
});
