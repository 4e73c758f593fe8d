import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { packageRoot } from "../../../paths.js";
import { ROPE_TABLE } from "../attention/attention-layouts.js";
import { COPY_ROWS } from "../steps/pointwise-layouts.js";
import { type ParameterLayout, writeParameters } from "./parameter-layout.js";

const rooms = join(packageRoot, "src", "backend", "cuda");
const files = readdirSync(rooms, { recursive: true, encoding: "utf8" }).filter((file) => file.endsWith("-layouts.ts"));
const modules: Record<string, ParameterLayout>[] = await Promise.all(files.map((file) => import(join(rooms, file))));
const layouts = modules.flatMap((module) => Object.values(module));

const folder = join(packageRoot, "kernels");
const sources = readdirSync(folder)
  .filter((file) => /\.cuh?$/.test(file))
  .map((file) => readFileSync(join(folder, file), "utf8"))
  .join("\n");

/** C++ names are snake_case. */
const snake = (name: string) => name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);

describe("kernel parameters", () => {
  it("are in files of this name", () => expect(layouts.length).toBeGreaterThan(40));

  it.each(layouts.map((layout) => [layout.struct, layout] as const))(
    "%s is what the kernel declares",
    (struct, { fields, bytes }) => {
      const body = new RegExp(`struct ${struct} \\{([^]*?)\\};\\s*static_assert\\(sizeof\\(${struct}\\) == (\\d+)\\)`).exec(
        sources,
      );
      expect(body, `${struct} in kernels/`).not.toBeNull();
      expect(Number(body?.[2])).toBe(bytes);
      const declared = (body?.[1] ?? "")
        .replace(/\/\/.*$/gm, "")
        .split(";")
        .flatMap((line) => line.replace(/^\s*(const\s+)?[\w]+\s*/, "").split(","))
        .map((name) => name.replace(/[*\s]/g, ""))
        .filter(Boolean);
      expect(declared).toEqual(Object.keys(fields).map(snake));
    },
  );

  it("writes little-endian, in order", () => {
    const bytes = writeParameters(ROPE_TABLE, {
      halfTurns: 1n,
      frequencyRow: 2n,
      positions: 3n,
      table: 4n,
      halfDim: -5,
      factor: 1,
    });
    expect([...new BigUint64Array(bytes.buffer, 0, 4)]).toEqual([1n, 2n, 3n, 4n]);
    expect([...new Int32Array(bytes.buffer, 32, 2)]).toEqual([-5, 0x3f80_0000]);
  });

  it("keeps 64-bit values whole", () => {
    const bytes = writeParameters(COPY_ROWS, { from: 0xffff_ffff_ffffn, to: 0n, cells: 1n << 40n });
    expect([...new BigUint64Array(bytes.buffer)]).toEqual([0xffff_ffff_ffffn, 0n, 1n << 40n]);
  });
});
