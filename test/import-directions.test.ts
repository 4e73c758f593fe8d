// Holds the house's one rule of structure (ARCHITECTURE.md, "Who may import whom"): data goes
// down through the rooms and no room knows those above it.

import { readdirSync, readFileSync, statSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";
import { describe, expect, it } from "vitest";
import { packageRoot } from "../src/paths.js";

const src = join(packageRoot, "src");

/** Room → rooms it may import besides itself and the files that lie at the top (`errors`, `paths`). */
const MAY_IMPORT: Record<string, readonly string[]> = {
  checkpoint: [],
  model: ["checkpoint"],
  memory: ["model"],
  sampling: [],
  backend: ["memory", "model", "checkpoint", "sampling"],
  adapters: ["checkpoint", "model"],
  text: [],
  structured: [],
  generate: ["backend", "memory", "model", "text", "sampling"],
  engine: ["generate", "structured", "text", "sampling", "adapters", "backend", "memory", "model", "checkpoint"],
  server: ["engine", "memory", "sampling"],
  cli: ["server", "engine", "memory", "model", "checkpoint", "sampling"],
};

/** `generate` sees backends through their contract only. */
const ONLY_FILE: Record<string, Record<string, readonly string[]>> = { generate: { backend: ["backend/backend.ts"] } };

/** Rooms whose code runs in a browser too; these files do the I/O of their room. */
const PURE = ["memory", "model", "sampling"];
const PURE_FILES = [
  "checkpoint/checkpoint.ts",
  "checkpoint/safetensors.ts",
  "backend/cpu/packing.ts",
  "backend/cuda/packing.ts",
  "plan.ts",
];

interface Import {
  readonly from: string;
  readonly to: string;
}

const files = listFiles(src).filter((file) => file.endsWith(".ts") && !file.endsWith(".test.ts"));
const imports: Import[] = files.flatMap((file) =>
  [...readFileSync(join(src, file), "utf8").matchAll(/(?:from|import)\s*\(?\s*"([^"]+)"/g)].map((match) => ({
    from: file,
    to: match[1] as string,
  })),
);
const inside = imports
  .filter(({ to }) => to.startsWith("."))
  .map(({ from, to }) => ({ from, to: relative(src, resolve(src, dirname(from), to)).replace(/\.js$/, ".ts") }));

describe("import directions", () => {
  it("sees the tree", () => expect(inside.length).toBeGreaterThan(20));

  it("go down through the rooms only", () => {
    const wrong = inside.filter(({ from, to }) => {
      const [room, target] = [roomOf(from), roomOf(to)];
      if (room === "" || target === "" || room === target) return false;
      if (!MAY_IMPORT[room]?.includes(target)) return true;
      const only = ONLY_FILE[room]?.[target];
      return only !== undefined && !only.includes(to);
    });
    expect(wrong).toEqual([]);
  });

  it("lead out of the package only where a room may do I/O", () => {
    const wrong = imports.filter(
      ({ from, to }) => to.startsWith("node:") && (PURE.includes(roomOf(from)) || PURE_FILES.includes(from)),
    );
    expect(wrong).toEqual([]);
  });

  it("form no circle between rooms", () => {
    const rank = Object.keys(MAY_IMPORT);
    for (const [room, targets] of Object.entries(MAY_IMPORT))
      for (const target of targets) expect(rank.indexOf(target), `${room} → ${target}`).toBeLessThan(rank.indexOf(room));
  });
});

function roomOf(file: string): string {
  const slash = file.indexOf("/");
  return slash < 0 ? "" : file.slice(0, slash);
}

function listFiles(folder: string, prefix = ""): string[] {
  return readdirSync(folder).flatMap((name) => {
    const path = join(folder, name);
    return statSync(path).isDirectory() ? listFiles(path, `${prefix}${name}/`) : [prefix + name];
  });
}
