import fc from "fast-check";
import { expect, it } from "vitest";
import { partOfRow } from "./part-of-row.js";

it("cuts a row between whole units, without gaps", () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 3000 }),
      fc.constantFrom(1, 4, 32, 64, 128),
      fc.integer({ min: 1, max: 64 }),
      (size, unit, parts) => {
        let end = 0;
        for (let part = 0; part < parts; part++) {
          const { from, to } = partOfRow(size, unit, parts, part);
          expect(from).toBe(end);
          expect(to).toBeGreaterThanOrEqual(from);
          if (to < size) expect(to % Math.max(4, unit)).toBe(0);
          end = to;
        }
        expect(end).toBe(size);
      },
    ),
  );
});

it.each([
  [2048, 128, 2, 1, 1024, 2048],
  [5632, 128, 3, 0, 0, 1792],
  [100, 128, 2, 0, 0, 0],
  [100, 128, 2, 1, 0, 100],
] as const)("%i columns by %i in %i parts: part %i is %i to %i", (size, unit, parts, part, from, to) => {
  expect(partOfRow(size, unit, parts, part)).toEqual({ from, to });
});
