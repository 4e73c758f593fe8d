import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { GiB, MiB } from "../../../src/memory/size.js";
import { barsSvg } from "./bars.js";
import { EXLLAMA } from "./cases.js";
import { type Probes, ran, refused } from "./made-up-records.js";
import type { CaseRecord, RunRecord } from "./record.js";

const held = ran("3,3,3,3", [{ planned: 2588 * MiB, peak: 2586 * MiB, cap: 3 * GiB }]);

function drawn(records: readonly CaseRecord[], head: Partial<RunRecord> = {}): string {
  const devices = "cuda:0,cuda:1,cuda:2,cuda:3";
  return barsSvg({ card: "NVIDIA H200", cards: 4, driver: "580.1", node: "20", commit: "abc", devices, ...head, records });
}

/** What can be read in the picture, one string for each line of text. */
function words(svg: string): string[] {
  return [...svg.matchAll(/<text [^>]*>(.*?)<\/text>/g)].map(([, inside]) =>
    inside!
      .replace(/<[^>]*>/g, "")
      .replace(/\s+/g, " ")
      .trim(),
  );
}

/** Widths of the bars of one kind. */
function widths(svg: string, kind: string): number[] {
  return [...svg.matchAll(new RegExp(`<rect class="${kind}" [^>]*width="([\\d.]+)"`, "g"))].map(([, width]) => Number(width));
}

/** Those that are in every picture's legend. */
const LEGEND = { over: 1 };

describe("the picture of issue 305", () => {
  test("every reported split that was tried is there, others are not", () => {
    const all = drawn(EXLLAMA.map(({ split, ctx }) => ({ ...refused, split, ctx })));
    for (const { split, ctx, used } of EXLLAMA) {
      expect(words(all)).toContain(`${split} ctx ${ctx}`);
      for (const mib of used ?? []) expect(words(all)).toContain(String(mib));
    }
    expect(words(drawn([held]))).toContain("3,3,3,3 ctx 2048");
    expect(words(drawn([held]))).not.toContain("2,2,2,2 ctx 2048");
    expect(words(drawn([{ ...held, model: "synthetic:llama-70b" }]))).not.toContain("3,3,3,3 ctx 2048");
  });

  test("what ExLlama took above a cap is a bar of its own, with its size", () => {
    const svg = drawn([held]);
    // Caps of 3072, of which a GPU that took 4975 used 1903 more.
    const [first, second, ...legend] = widths(svg, "over").reverse();
    expect(legend).toHaveLength(LEGEND.over);
    expect(first).toBe(second);
    const [within] = widths(svg, "theirs").slice(-4);
    expect(first! / within!).toBeCloseTo(1903 / 3072, 2);
    expect(words(svg).filter((one) => one === "+1903")).toHaveLength(2);
    expect(words(svg)).toContain("2 broken, 1 idle");
    expect(words(svg)).toContain("ExLlama: 2 caps broken");
  });

  test("what a card showed stands beside what was planned, and what else would fit", () => {
    const svg = drawn([held]);
    expect(words(svg)).toEqual(expect.arrayContaining(["2586", "/ 2588", "caps held, up to 3328 tokens fit"]));
    expect(words(svg)).toContain("exllama-ts: no cap broken");
  });

  test("a cap that we break is shown as ExLlama's are", () => {
    const svg = drawn([ran("3,3,3,3", [{ planned: 3 * GiB, peak: 3.5 * GiB, cap: 3 * GiB }])]);
    expect(widths(svg, "over")).toHaveLength(LEGEND.over + 3);
    expect(words(svg)).toEqual(expect.arrayContaining(["exllama-ts: 1 cap broken", "1 cap broken"]));
    expect(svg).not.toContain("caps held");
    expect(words(svg).join(" ")).toContain("up to 512 MiB above the plan");
  });

  test("a refusal says how much is missing where, and what would fit", () => {
    const said = words(drawn([refused])).join(" ");
    expect(said).toContain("refused before a weight is read");
    expect(said).toContain("cuda:0 is 738.4 MiB short of 2.72 GiB");
    expect(said).toContain("would fit: --gpu-split 2591MiB,2591MiB,2787MiB,2711MiB");
  });

  test("a refusal in other words is shown whole", () => {
    const outcome = {
      kind: "refused",
      code: "",
      message: "no device is left, for a reason that is new",
      hint: undefined,
    } as const;
    expect(words(drawn([{ ...refused, outcome }])).join(" ")).toContain("no device is left, for a reason that is new");
  });

  test("where the reported context is refused, what the split holds is shown as such", () => {
    const cards = [{ planned: 5067 * MiB, peak: 5062 * MiB, cap: 5 * GiB }];
    const reported = { ...refused, split: "5,2,2,2", ctx: 4096 };
    const both = words(drawn([reported, ran("5,2,2,2", cards, { probe: [1], ctx: "auto" })]));
    expect(both).toEqual(
      expect.arrayContaining(["refused before a weight is read", "--ctx auto, 2304 tokens: caps held", "5062"]),
    );
    expect(words(drawn([reported])).join()).not.toContain("--ctx auto");
    expect(words(drawn([reported, { ...reported, ctx: "auto" }])).join()).not.toContain("--ctx auto");
  });

  test("GPUs that are left out are told from those that are idle", () => {
    const used = { planned: 3378 * MiB, peak: 3374 * MiB, cap: 20 * GiB };
    const svg = drawn([ran("20,1,20,20", [used, { planned: 0, peak: 0, cap: GiB }, used, used])]);
    expect(words(svg).filter((one) => one === "left out")).toHaveLength(1);
    expect(words(svg).filter((one) => one === "idle")).toHaveLength(3);
    expect(words(svg)).toContain("held, 3 idle");
  });

  test("an IndexError is drawn as one", () => {
    const svg = drawn([{ ...refused, split: "1" }]);
    expect(words(svg)).toEqual(expect.arrayContaining(["died", "IndexError: list index out of range"]));
    expect(widths(svg, "error")).toHaveLength(1);
  });

  test("who cannot see it is told the same", () => {
    const label = /role="img" aria-label="([^"]*)"/.exec(drawn([held, refused, { ...refused, split: "1" }]))?.[1];
    expect(label).toContain(
      "3,3,3,3 at 2048: ExLlama 4975, 4975, 1871, 529 MiB, 2 caps broken; exllama-ts at 2048 tokens 2586 MiB",
    );
    expect(label).toContain("2,2,2,2 at 2048: ExLlama 3769");
    expect(label).toContain("exllama-ts refused, cuda:0 is 738.4 MiB short of 2.72 GiB");
    expect(label).toContain("1 at 2048: ExLlama IndexError");
  });

  test("where entries share a card it says so", () => {
    expect(words(drawn([held])).join(" ")).not.toContain("devices");
    expect(words(drawn([held], { devices: "cuda:0,cuda:0" })).join(" ")).toContain("devices cuda:0,cuda:0");
  });

  test("answers are called the same where they are, and could have been others", () => {
    const said = (first: Probes, second: Probes) =>
      words(drawn([ran("3,3,3,3", [], first), refused, ran("5,2,2,2", [], second)])).join(" ");
    const [telling, other, repeating] = [
      [1, 2, 3],
      [1, 2, 4],
      [7, 7, 7],
    ];
    expect(said({ probe: telling }, { probe: telling })).toContain("the same answers from every split");
    expect(said({ probe: telling }, { probe: other })).toContain("answers differ");
    expect(said({ probe: repeating }, { probe: repeating })).not.toContain("answers");
    const sampled = { probe: repeating, sampled: telling };
    expect(said(sampled, sampled)).toContain("the same answers from every split");
    expect(said(sampled, { probe: repeating, sampled: other })).toContain("answers differ");
    // One of them cannot tell: nothing is claimed.
    expect(said(sampled, { probe: repeating })).not.toContain("answers");
  });

  test("text from a record stays text", () => {
    const hostile = `<b onload="x">&'`;
    const outcome = { kind: "refused", code: "", message: hostile, hint: hostile } as const;
    const svg = drawn([{ ...refused, outcome }], { card: hostile, driver: hostile, commit: hostile });
    expect(svg).not.toMatch(/<b|onload="|&'/);
    expect(svg.match(/&#60;b/g)!.length).toBeGreaterThanOrEqual(5);
  });

  test("no figure is missing, also when nothing ran", () => {
    for (const records of [[held], [refused], [{ ...refused, split: "1" }]])
      expect(drawn(records)).not.toMatch(/NaN|Infinity|undefined|null/);
  });

  test("the picture in docs is the one of the record", () => {
    const record = JSON.parse(readFileSync("bench/results/issue-305-4gpu.json", "utf8")) as RunRecord;
    expect(readFileSync("docs/issue-305.svg", "utf8")).toBe(barsSvg(record));
  });
});
