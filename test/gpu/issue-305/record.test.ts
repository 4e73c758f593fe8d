import { describe, expect, test } from "vitest";
import { GiB, MiB } from "../../../src/memory/size.js";
import { ran, refused } from "./made-up-records.js";
import { differingAnswers, fromPlan, violations } from "./record.js";
import { recordTable, totals } from "./table.js";

describe("what a run of issue 305 must show", () => {
  const held = ran("3,3,3,3", [{ planned: 2.5 * GiB, peak: 2.5 * GiB - 4 * MiB, cap: 3 * GiB }]);

  test("a card within its cap and near its plan is right", () => {
    expect(violations(held, 8 * MiB)).toEqual([]);
    expect(violations(refused, 8 * MiB)).toEqual([]);
  });

  test.each([
    ["above its cap", { planned: 3 * GiB, peak: 3 * GiB + 1, cap: 3 * GiB }, /above its cap/],
    ["far below the plan", { planned: 2.5 * GiB, peak: 2.4 * GiB, cap: 3 * GiB }, /planned were/],
    ["above the plan", { planned: 2.5 * GiB, peak: 2.6 * GiB, cap: 3 * GiB }, /planned were/],
  ])("a card %s is told", (_, card, said) => {
    expect(violations(ran("3,3,3,3", [card]), 8 * MiB).join()).toMatch(said);
  });

  test("splits that answer differently are told, refusals are no answer", () => {
    expect(differingAnswers([held, refused, ran("5,2,2,2", [])])).toEqual([]);
    expect(differingAnswers([held, refused, ran("5,2,2,2", [], { probe: [1, 2, 4] })])).toEqual([
      "synthetic:llama-13b: 5,2,2,2 answers otherwise than 3,3,3,3",
    ]);
    const [one, other] = [
      [8, 9],
      [9, 8],
    ].map((sampled) => ran("5,2,2,2", [], { sampled }));
    expect(differingAnswers([held, one!, one!])).toEqual([]);
    expect(differingAnswers([held, one!, other!])).toEqual([
      "synthetic:llama-13b: 5,2,2,2 answers otherwise than 5,2,2,2, sampled",
    ]);
  });

  test("most and least beside the plan are over all cards of all that ran", () => {
    const above = ran("5,2,2,2", [
      { planned: GiB, peak: GiB + 3 * MiB, cap: 2 * GiB },
      { planned: 0, peak: 0, cap: GiB },
    ]);
    expect(fromPlan([held, refused])).toEqual({ most: 0, least: -4 * MiB });
    expect(fromPlan([held, refused, above])).toEqual({ most: 3 * MiB, least: -4 * MiB });
    expect(fromPlan([refused])).toEqual({ most: 0, least: 0 });
  });

  test("the table has a line for each, refusals with their reason", () => {
    const lines = recordTable([held, refused]).split("\n");
    expect(lines).toHaveLength(3);
    expect(lines[1]).toContain("-4.0");
    expect(lines[2]).toContain("refused: a context of 2048 tokens");
    expect(totals([held])).toContain("never above");
  });
});
