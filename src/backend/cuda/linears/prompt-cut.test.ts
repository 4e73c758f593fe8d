// Who does what where linear_prompt.cu cuts k, computed on the host as its blocks do: parts of k, shares of the results, and where in the
// owner's ring each block's sums lie.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { packageRoot } from "../../../paths.js";
import { PROMPT_CUTS, PROMPT_TOKENS, promptLaunchOf } from "./prompt-launch.js";

const OUTPUTS = 128;
const source = readFileSync(join(packageRoot, "kernels", "linear_prompt_tiles.cuh"), "utf8");

/** PromptTile */
function tileOf(tokens: number) {
  const stageBytes = tokens * 64 * 2;
  const stages = Math.min(8, Math.floor(196608 / stageBytes));
  const { piece } = promptLaunchOf(
    { multiprocessors: 132, major: 9, minor: 0 },
    { rows: 1, inputs: 128, outputs: [8], group: 128, silu: false },
    { tokens, cut: 1 },
  );
  return { piece, handed: piece / 2, handedBytes: (piece / 2) * OUTPUTS * 4, ringBytes: stages * stageBytes };
}

/** PromptPart, in steps of 128 k */
function partOf(pairs: number, cut: number, rank: number) {
  return { first: Math.floor((rank * pairs) / cut), end: Math.floor(((rank + 1) * pairs) / cut) };
}

/** PromptShare, in pieces */
function shareOf(tokens: number, f16: boolean, live: number, cut: number, rank: number) {
  const { piece, handed } = tileOf(tokens);
  const pieces = Math.ceil(Math.min(live, tokens) / (f16 ? piece : handed));
  const first = (of: number) => Math.floor((of * pieces + cut - 1) / cut);
  return { first: first(rank), end: first(rank + 1), pieces };
}

const cuts = fc.constantFrom(...PROMPT_CUTS.filter((cut) => cut > 1));

describe("a cut of k", () => {
  it("is of at most as many parts as the kernel has room for", () => {
    expect(source).toContain(`kMostCut = ${Math.max(...PROMPT_CUTS)};`);
  });

  it("gives every step to one part, and every part some", () => {
    fc.assert(
      fc.property(fc.integer({ min: 4, max: 400 }), cuts, (pairs, cut) => {
        const parts = Array.from({ length: cut }, (_, rank) => partOf(pairs, cut, rank));
        expect(parts.flatMap(({ first, end }) => Array.from({ length: end - first }, (_, i) => first + i))).toEqual(
          Array.from({ length: pairs }, (_, i) => i),
        );
        for (const { first, end } of parts) expect(end).toBeGreaterThan(first);
      }),
    );
  });

  it("gives every piece with a token in it to one block, which finds there what each block has handed it, and nothing else", () => {
    const shapes = fc.record({
      tokens: fc.constantFrom(...PROMPT_TOKENS),
      cut: cuts,
      f16: fc.boolean(),
      live: fc.integer({ min: 1, max: 300 }),
    });
    fc.assert(
      fc.property(shapes, ({ tokens, cut, f16, live }) => {
        const { handed, handedBytes, ringBytes } = tileOf(tokens);
        const perPiece = f16 ? 2 : 1;
        const ranks = Array.from({ length: cut }, (_, rank) => rank);
        const shares = ranks.map((rank) => shareOf(tokens, f16, live, cut, rank));
        // hand_parts
        const rings = ranks.map(() => new Map<number, string>());
        for (const from of ranks)
          for (const to of ranks) {
            const first = shares[to]!.first * perPiece;
            const count = (shares[to]!.end - shares[to]!.first) * perPiece;
            for (let each = 0; each < tokens / handed; each++) {
              if (each < first || each >= first + count) continue;
              const at = from * count * handedBytes + (each - first) * handedBytes;
              expect(rings[to]!.has(at)).toBe(false);
              expect(at + handedBytes).toBeLessThanOrEqual(ringBytes);
              rings[to]!.set(at, `${each} of ${from}`);
            }
          }
        // store_parts
        const finished: number[] = [];
        for (const rank of ranks) {
          const { first, end } = shares[rank]!;
          const partBytes = (end - first) * perPiece * handedBytes;
          for (let piece = first, at = 0; piece < end; piece++)
            for (let i = 0; i < perPiece; i++, at += handedBytes) {
              for (const from of ranks)
                expect(rings[rank]!.get(at + from * partBytes)).toBe(`${piece * perPiece + i} of ${from}`);
            }
          for (let piece = first; piece < end; piece++) finished.push(piece);
        }
        expect(finished).toEqual(Array.from({ length: shares[0]!.pieces }, (_, i) => i));
      }),
    );
  });
});
