import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type BatchWork, bestCut, type CutTokens, cutsOf, cutTime, MOST_CLUSTER } from "./batch-cut.js";

/** Clusters of 1, 2, … 8 blocks that run at once on an H200, where a multiprocessor has two of the blocks, and where it has one. */
const TWO = [264, 132, 79, 62, 47, 39, 32, 30];
const ONE = [132, 66, 39, 30, 22, 17, 15, 15];
const HIDDEN = { "1.1b": 2048, "7b": 4096, "8b": 4096, "13b": 5120, "70b": 8192 };
const KEYS = { "1.1b": 256, "7b": 4096, "8b": 1024, "13b": 5120, "70b": 1024 };
const INTERMEDIATE = { "1.1b": 5632, "7b": 11008, "8b": 14336, "13b": 13824, "70b": 28672 };

/** On an H200, 4 bits in groups of 128, µs (test/gpu/batch-cuts.ts): model, linear, tokens; r: runs, c: clusters of so many blocks. */
const MEASURED = `
7b o 64: r256 28.5 r264 29.3 r96 22.8 r128 21.4 r160 22.1 r192 24.5 r224 24.7 c3 17.4 c4 13.2 c5 13.0 c6 11.8 c7 12.5 c8 14.8
7b o 128: r128 27.6 r132 30.8 r64 26.6 r96 25.1 c2 18.2 c3 15.9 c4 22.1
7b down 64: r256 36.3 r264 37.8 r96 44.3 r128 37.9 r160 35.8 r192 35.2 r224 34.0 c3 39.1 c4 30.2 c5 25.4 c6 23.0 c7 21.8 c8 30.1
7b down 128: r128 39.8 r132 43.0 r64 52.6 r96 43.7 c2 44.1 c3 32.4 c4 47.8
13b o 64: r240 27.2 r264 28.4 r80 30.8 r120 25.3 r160 25.5 r200 24.6 c2 18.7 c3 20.3 c4 15.7 c5 14.3 c6 21.3
13b o 128: r120 29.7 r132 30.8 r40 39.9 r80 30.7 c1 41.8 c2 23.1 c3 33.4
13b down 64: r240 42.1 r264 44.7 r80 71.2 r120 52.0 r160 47.8 r200 42.1 c2 64.9 c3 47.3 c4 37.8 c5 31.1 c6 41.6
13b down 128: r132 53.7 r40 104.4 r80 63.7 r120 52.0 c1 105.2 c2 54.8 c3 75.0
7b o 32: r256 12.7 r264 12.7 r96 14.2 r128 11.9 r160 11.0 r192 11.7 r224 11.3 c3 13.6 c4 9.6 c5 9.7 c6 9.0 c7 9.6 c8 11.9
7b o 40: r256 21.7 r264 22.2 r96 20.2 r128 17.3 r160 17.8 r192 19.4 r224 19.2 c3 16.8 c4 12.8 c5 12.5 c6 11.0 c7 11.6 c8 13.8
7b down 32: r256 20.1 r264 20.8 r96 31.9 r128 24.6 r160 22.5 r192 19.9 r224 19.1 c3 31.3 c4 23.7 c5 20.0 c6 18.4 c7 18.0 c8 25.2
7b down 40: r256 29.3 r264 30.7 r96 41.8 r128 34.4 r160 31.7 r192 29.6 r224 28.1 c3 38.3 c4 29.7 c5 24.6 c6 22.1 c7 20.9 c8 29.2
7b qkv 128: r132 33.8 r96 33.6 c1 35.9
7b gate-up 64: r264 37.5 r172 44.6 c1 45.0
7b gate-up 128: r132 58.3
8b qkv 64: r264 23.8 r96 26.0 r144 21.9 r192 20.8 r240 20.5 c2 21.7 c3 18.2 c4 13.5 c5 20.0
8b qkv 128: r132 25.4 r48 32.5 r96 24.2 c1 34.7 c2 19.6
8b down 64: r256 40.8 r264 41.1 r96 54.6 r128 45.3 r160 41.9 r192 40.7 r224 39.5 c3 48.8 c4 37.5 c5 32.3 c6 28.1 c7 25.8 c8 34.1
8b down 128: r128 47.2 r132 50.1 r64 64.9 r96 51.4 c2 55.6 c3 40.0 c4 59.1
70b qkv 64: r264 39.2 r80 79.0 r160 47.4 r240 36.4 c1 78.2 c2 43.3 c3 48.9
70b qkv 128: r132 51.4 r80 63.9 c1 65.6
70b o 64: r256 36.7 r264 38.0 r128 45.5 r192 38.0 c2 40.2 c3 30.8 c4 37.5
70b o 128: r128 44.5 r132 49.2 r64 62.6 c1 64.3 c2 35.5
70b down 64: r256 86.8 r264 87.8 r128 143.3 r192 107.2 c2 138.0 c3 96.1 c4 120.1
70b down 128: r132 128.8 r64 215.7 r128 122.6 c1 225.4 c2 113.4
1.1b qkv 64: r160 21.3 r80 14.8 r100 15.7 r120 17.9 r140 18.7 c4 5.9 c5 8.3 c6 8.7 c7 8.7 c8 6.8
1.1b qkv 128: r120 23.3 r132 24.9 r40 16.9 r60 17.4 r80 17.6 r100 21.2 c2 11.2 c3 9.7 c4 8.0 c5 8.8 c6 15.5
1.1b o 64: r128 23.4 r80 17.5 r96 19.5 r112 20.4 c5 7.8 c6 8.1 c7 8.1 c8 6.7
1.1b o 128: r128 34.9 r48 20.3 r64 21.0 r80 26.0 r96 28.2 r112 30.6 c3 9.0 c4 7.7 c5 8.3 c6 8.5 c7 15.6 c8 12.4
1.1b gate-up 64: r264 17.7 r88 17.2 r176 18.0 c1 16.8 c2 13.8 c3 20.7
1.1b gate-up 128: r132 22.7 r88 21.7 c1 21.8
1.1b down 64: r256 40.3 r264 39.9 r80 22.6 r96 24.7 r112 23.3 r128 26.4 c5 14.5 c6 13.2 c7 12.6 c8 11.4
1.1b down 128: r128 37.0 r132 37.0 r48 28.5 r64 23.3 r80 30.3 r96 31.7 r112 33.8 c3 17.9 c4 14.8 c5 13.7 c6 12.3 c7 22.7 c8 18.9
`;

interface Row {
  readonly name: string;
  readonly work: BatchWork;
  readonly times: Readonly<Record<string, number>>;
}

const ROWS: Row[] = MEASURED.trim()
  .split("\n")
  .map((line) => {
    const [name, cells] = line.split(": ") as [string, string];
    const [model, role, rows] = name.split(" ") as [keyof typeof HIDDEN, string, string];
    const pairs = cells.matchAll(/(\w+) ([\d.]+)/g);
    const [hidden, keys, intermediate] = [HIDDEN[model], KEYS[model], INTERMEDIATE[model]];
    const units = role === "qkv" ? (hidden + 2 * keys) / 128 : role === "gate-up" ? intermediate / 64 : hidden / 128;
    const slices = (role === "down" ? intermediate : hidden) / 256;
    const times = Object.fromEntries([...pairs].map(([, cut, us]) => [cut, Number(us)]));
    return { name, work: workOf(tokensOf(Number(rows)), units, slices), times };
  });

function tokensOf(rows: number): CutTokens {
  return rows <= 32 ? 32 : rows <= 64 ? 64 : 128;
}

function workOf(tokens: CutTokens, units: number, slices: number, clustered = true): BatchWork {
  const blocks = tokens === 128 ? 132 : 264;
  return { tokens, units, slices, multiprocessors: 132, blocks, clustersAtOnce: clustered ? (blocks > 132 ? TWO : ONE) : null };
}

const nameOf = (cut: ReturnType<typeof bestCut>) => ("cluster" in cut ? `c${cut.cluster}` : `r${cut.runs}`);

describe("bestCut", () => {
  it.each(ROWS)("takes at most 3 % more than the best that was measured for $name", ({ work, times }) => {
    const best = Math.min(...Object.values(times));
    expect(times[nameOf(bestCut(work))]).toBeLessThanOrEqual(best * 1.03);
  });

  it("takes runs where there is no kernel of clusters", () => {
    for (const { work } of ROWS) expect(bestCut({ ...work, clustersAtOnce: null })).toHaveProperty("runs");
  });

  it("takes no cluster that the card has no room for", () => {
    const none = Array(MOST_CLUSTER).fill(0);
    for (const { work } of ROWS) expect(bestCut({ ...work, clustersAtOnce: none })).toHaveProperty("runs");
  });

  it("chooses from what the kernels can do, and what it chooses takes least", () => {
    const works = fc.record({
      tokens: fc.constantFrom(32 as const, 64 as const, 128 as const),
      units: fc.integer({ min: 1, max: 900 }),
      slices: fc.integer({ min: 1, max: 200 }),
      clustered: fc.boolean(),
    });
    fc.assert(
      fc.property(works, ({ tokens, units, slices, clustered }) => {
        const work = workOf(tokens, units, slices, clustered);
        const cut = bestCut(work);
        if ("cluster" in cut) {
          expect(cut.cluster).toBeLessThanOrEqual(Math.min(MOST_CLUSTER, slices));
          expect(cut.cluster * units).toBeLessThanOrEqual(work.blocks);
        } else expect(cut.runs).toBeLessThanOrEqual(Math.min(work.blocks, units * slices));
        const times = cutsOf(work).map((each) => cutTime(work, each));
        expect(times.every((time) => Number.isFinite(time) && time >= cutTime(work, cut))).toBe(true);
      }),
    );
  });
});
