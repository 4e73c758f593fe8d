import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type PageId, PagePool } from "./page-pool.js";

describe("PagePool", () => {
  it("hands out every page once, counts its holders, and never more than there are", () => {
    const anyMove = fc.record({ move: fc.constantFrom("take", "share", "release"), which: fc.nat() });
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 12 }), fc.array(anyMove, { maxLength: 80 }), (size, moves) => {
        const pool = new PagePool(size);
        const holders: PageId[] = []; // one entry for each holder
        for (const { move, which } of moves) {
          const chosen = holders[which % holders.length];
          if (move === "take" && pool.free > 0) {
            const page = pool.take();
            expect(holders).not.toContain(page);
            expect(page).toBeGreaterThanOrEqual(0);
            expect(page).toBeLessThan(size);
            holders.push(page);
          } else if (move === "take") expect(() => pool.take()).toThrow(RangeError);
          else if (chosen !== undefined && move === "share") {
            pool.share(chosen);
            holders.push(chosen);
          } else if (chosen !== undefined) {
            pool.release(chosen);
            holders.splice(which % holders.length, 1);
          }
          expect(pool.free + new Set(holders).size).toBe(size);
        }
        for (const page of holders) pool.release(page);
        expect(pool.free).toBe(size);
      }),
    );
  });

  it("knows pages that the index alone holds, frees what it lets go, and never frees what it keeps", () => {
    const pool = new PagePool(4);
    const [kept, shared] = [pool.take(), pool.take()];
    pool.keep(kept);
    expect([pool.isIdle(kept), pool.isKeptByOne(kept), pool.idle]).toEqual([false, true, 0]);
    pool.release(kept);
    expect([pool.isIdle(kept), pool.idle, pool.free]).toEqual([true, 1, 2]);
    pool.share(kept);
    expect(pool.idle).toBe(0);
    pool.release(kept);
    pool.keep(shared);
    pool.unkeep(shared);
    expect([pool.free, pool.isShared(shared)]).toEqual([2, false]);
    pool.unkeep(kept);
    expect([pool.free, pool.idle]).toEqual([3, 0]);
    expect(() => pool.unkeep(kept)).toThrow(/not kept/);
    pool.keep(shared);
    expect(() => pool.keep(shared)).toThrow(/kept twice/);
    pool.release(shared);
    expect(() => pool.release(shared)).toThrow(/the index alone/);
  });

  it("refuses to release or share what nobody holds", () => {
    const pool = new PagePool(2);
    const page = pool.take();
    pool.release(page);
    expect(() => pool.release(page)).toThrow(/not held/);
    expect(() => pool.share(page)).toThrow(/not held/);
    expect(() => pool.release(7)).toThrow(/not held/);
  });
});
