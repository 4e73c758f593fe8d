import { describe, expect, test } from "vitest";
import { MiB } from "../../../src/memory/size.js";
import { barsSvg } from "./bars.js";
import { type CaseRecord, differingAnswers, violations } from "./record.js";
import { recordTable, totals } from "./table.js";

const GiB = 1024 * MiB;

function ran(split: string, cards: { planned: number; peak: number; cap: number }[], probe = [1, 2, 3]): CaseRecord {
  return {
    model: "synthetic:llama-13b",
    split,
    splitMode: null,
    ctx: 2048,
    peers: true,
    outcome: {
      kind: "ran",
      context: 2048,
      largestContext: 3328,
      cards: cards.map((card, i) => ({ id: `cuda:${i}`, layers: [10], arena: card.planned - 500 * MiB, ...card })),
      samples: 100,
      loadMs: 1500,
      firstTokenMs: 250,
      tokenMs: 5,
      probe,
    },
  };
}

const refused: CaseRecord = {
  ...ran("2,2,2,2", []),
  outcome: { kind: "refused", code: "PLAN_DOES_NOT_FIT", message: "cuda:0 needs more", hint: "2.7 GiB each would do" },
};

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
    expect(differingAnswers([held, refused, ran("5,2,2,2", [], [1, 2, 4])])).toEqual([
      "synthetic:llama-13b: 5,2,2,2 answers otherwise than 3,3,3,3",
    ]);
  });

  test("the table has a line for each, refusals with their reason", () => {
    const lines = recordTable([held, refused]).split("\n");
    expect(lines).toHaveLength(3);
    expect(lines[1]).toContain("-4.0");
    expect(lines[2]).toContain("refused: cuda:0 needs more");
    expect(totals([held])).toContain("never above");
  });

  test("the picture shows both engines and only known markup", () => {
    const svg = barsSvg([held, refused], ['a "caption" <b>']);
    expect(svg).toContain("4975");
    expect(svg).toContain("refused before a byte was read");
    expect(svg).not.toContain("<b>");
    expect(svg).not.toContain("NaN");
  });
});
