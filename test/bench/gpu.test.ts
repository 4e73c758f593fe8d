// The script that measures cards: its command line, its record and its picture.

import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { afterAll, describe, expect, it } from "vitest";
import { packageRoot } from "../../src/paths.js";

interface Job {
  readonly model: string;
  readonly kind: string;
  readonly args: readonly string[];
}

interface Row {
  readonly [field: string]: unknown;
}

interface Recorded {
  readonly card: string;
  readonly rows: readonly Row[];
}

interface Jobs {
  readonly JOBS: readonly Job[];
  readArguments(args: readonly string[]): { jobs: Job[]; repeat: number; devices: string; trial: boolean; plot: string | null };
}

interface Records {
  fileNameOf(card: string): string;
  rowsOf(job: Pick<Job, "model" | "kind">, report: object, run: object): Row[];
  withRows(record: Recorded, rows: readonly Row[]): Recorded;
  readRecord(path: string, card: string): Recorded;
  writeWhole(path: string, text: string): void;
}

interface Plot {
  plotSvg(record: Recorded): string;
}

const script = async <T>(name: string): Promise<T> => import(pathToFileURL(join(packageRoot, "bench/gpu", name)).href);
const { JOBS, readArguments } = await script<Jobs>("jobs.js");
const { fileNameOf, rowsOf, withRows, readRecord, writeWhole } = await script<Records>("record.js");
const { plotSvg } = await script<Plot>("plot.js");

const folder = mkdtempSync(join(tmpdir(), "exllama-bench-gpu-"));
afterAll(() => rmSync(folder, { recursive: true }));

describe("the command line of bench:gpu", () => {
  it("is the whole set of rows, five runs each, on the first card", () => {
    expect(readArguments([])).toMatchObject({ jobs: JOBS, repeat: 5, devices: "cuda:0", trial: false, plot: null });
    const said = (model: string, kind: string) => JOBS.filter((job) => job.model === model && job.kind === kind).length;
    for (const model of ["7b", "13b", "llama3-8b", "70b"]) expect([said(model, "decode"), said(model, "prompt")]).toEqual([4, 1]);
    expect(said("7b", "batch")).toBe(3);
  });

  it.each([
    [
      ["--only", "13b,70b", "--rows", "prompt"],
      ["13b prompt", "70b prompt"],
    ],
    [
      ["--only", "7b", "--rows", "batch"],
      ["7b batch", "7b batch", "7b batch"],
    ],
    [
      ["--try", "--rows", "decode"],
      ["demo decode", "demo decode"],
    ],
  ])("%j chooses", (args, chosen) => {
    expect(readArguments(args).jobs.map(({ model, kind }) => `${model} ${kind}`)).toEqual(chosen);
  });

  it.each([
    [["--only", "7c"], /--only 7c: expected some of 7b,13b,llama3-8b,70b/],
    [["--rows", "decode,all"], /--rows all/],
    [["--only", "70b", "--rows", "batch"], /no such rows/],
    [["--repeat", "0"], /--repeat 0: expected a whole number/],
    [["--deep"], /--deep/],
  ])("%j is refused", (args, message) => {
    expect(() => readArguments(args)).toThrow(message);
  });
});

describe("the record of a card", () => {
  const report = (median: number) => ({
    ...{ cache: "f16", context: 2048, readRate: 3e12, devices: [], driver: "580" },
    rows: [{ name: "tg 128 @ 0", depth: 0, tokensPerSecond: { median } }],
  });
  const job = { model: "7b", kind: "decode" };

  it("keeps rows with what they were measured on, and replaces the same row only", () => {
    const first = rowsOf(job, report(600), { commit: "a" });
    expect(first).toMatchObject([{ model: "7b", section: "decode", cache: "f16", readRate: 3e12, driver: "580", commit: "a" }]);
    const other = rowsOf(job, { ...report(500), cache: "q8" }, { commit: "a" });
    const record = withRows(withRows({ card: "X", rows: [] }, first), other);
    const again = withRows(record, rowsOf(job, report(650), { commit: "b" }));
    expect(again.rows.map(({ cache, commit }) => `${cache} ${commit}`)).toEqual(["f16 b", "q8 a"]);
    expect(record.rows).toHaveLength(2);
  });

  it("is a file of the card's name, written whole", () => {
    const path = join(folder, `${fileNameOf("NVIDIA H100 80GB HBM3")}.json`);
    expect(readRecord(path, "X")).toEqual({ card: "X", rows: [] });
    writeWhole(path, JSON.stringify({ card: "Y", rows: [] }));
    expect(readdirSync(folder)).toEqual(["nvidia-h100-80gb-hbm3.json"]);
    expect(readRecord(path, "X")).toEqual({ card: "Y", rows: [] });
  });
});

describe("the picture of a record", () => {
  const row = (section: string, median: number, more: object = {}) => ({
    ...{ model: "llama3-8b", section, cache: "f16", driver: "580.1", commit: "abc" },
    tokensPerSecond: { median, deviation: median / 100 },
    ...more,
  });
  const rows = [
    row("decode", 500, { depth: 0, shareOfReading: 0.764 }),
    row("decode", 250, { depth: 8192, cache: "q8", shareOfReading: null }),
    row("batch", 7500, { batch: 32, held: 256.4 }),
    row("prompt", 45000, { tokens: 1920 }),
  ];
  const svg = plotSvg({ card: 'H100 <"1">', rows });

  it("names every row, its median and its share", () => {
    for (const text of [
      ...["Llama 3 8B, empty", "Llama 3 8B, at 8,192, q8 cache", "Llama 3 8B, 32 × 256 tokens", "Llama 3 8B, 1,920 tokens"],
      ...[">500<", " · 76 % of reading", ">250<", ">7,500<", ">45,000<", "driver 580.1; commit abc"],
    ])
      expect(svg).toContain(text);
  });

  it("has bars as long as they are fast, each kind of row on its own scale", () => {
    const bars = [...svg.matchAll(/class="bar".* width="([\d.]+)"/g)].map(([, width]) => Number(width));
    expect(bars).toHaveLength(4);
    expect(bars[1]! / bars[0]!).toBeCloseTo(0.5, 2);
    expect(bars[2]).toBeCloseTo(bars[3]!, 1);
    for (const width of bars) expect(width).toBeLessThanOrEqual(360);
  });

  it("is for light and dark ground, and says names as text", () => {
    expect(svg).toContain("prefers-color-scheme: dark");
    expect(svg).toContain("H100 &#60;&#34;1&#34;&#62;");
    expect(svg).not.toContain("undefined");
    expect(svg).not.toContain("NaN");
  });

  it("leaves out kinds that were not measured", () => {
    expect(plotSvg({ card: "X", rows: rows.slice(0, 1) })).not.toMatch(/Prompts|at once/);
  });
});
