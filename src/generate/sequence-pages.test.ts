import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type CacheGroup, PAGE_TOKENS } from "../memory/plan.js";
import { PagePool } from "./page-pool.js";
import { DROPPED } from "./page-table.js";
import { pagesFor, SequencePages } from "./sequence-pages.js";

/** As the plan sizes a group for one sequence of up to `context` tokens. */
function group(window: number | null, context: number, chunk: number): CacheGroup {
  const whole = Math.ceil(context / PAGE_TOKENS);
  const needed =
    window === null ? whole : Math.max(Math.ceil((window + chunk) / PAGE_TOKENS), Math.ceil((window - 1) / PAGE_TOKENS) + 1);
  return { window, layers: [0], pages: 2 * whole, pagesPerSequence: Math.min(whole, needed) };
}

const anyCase = fc.record({
  context: fc.integer({ min: 1, max: 4000 }),
  chunk: fc.integer({ min: 1, max: 1200 }),
  windows: fc.array(fc.option(fc.integer({ min: 1, max: 1500 }), { nil: null }), { minLength: 1, maxLength: 3 }),
  wanted: fc.array(fc.integer({ min: 1, max: 1200 }), { minLength: 1, maxLength: 30 }),
});

describe("SequencePages", () => {
  it("holds what each step sees, never more than its share, and gives all back", () => {
    fc.assert(
      fc.property(anyCase, ({ context, chunk, windows, wanted }) => {
        const groups = windows.map((window) => group(window, context, chunk));
        const pools = groups.map(({ pages }) => new PagePool(pages));
        const pages = SequencePages.empty(groups, pools);
        const most = pagesFor(groups, context);
        let start = 0;
        for (const tokens of wanted) {
          const limit = Math.min(context, start + Math.min(tokens, chunk));
          if (limit === start) break;
          const end = pages.chunkEnd(start, limit);
          expect(end).toBeGreaterThan(start);
          expect(end).toBeLessThanOrEqual(limit);
          pages.prepare(start, end, (i) => pools[i]!.take());
          for (const [i, view] of pages.views(end).entries()) {
            const { window } = groups[i]!;
            const held = [...view].filter((page) => page !== DROPPED);
            expect(view.length).toBe(Math.ceil(end / PAGE_TOKENS));
            expect(new Set(held).size).toBe(held.length);
            expect(held.length).toBeLessThanOrEqual(most[i]!);
            expect(pools[i]!.free).toBe(pools[i]!.size - held.length);
            const firstSeen = window === null ? 0 : Math.max(0, start - window + 1);
            expect([...view.subarray(Math.floor(firstSeen / PAGE_TOKENS))]).not.toContain(DROPPED);
          }
          // The largest end that is allowed: one more token would take a page too many somewhere.
          if (end < limit) {
            const tooMany = groups.some(({ window, pagesPerSequence }) => {
              const firstSeen = window === null ? 0 : Math.max(0, start - window + 1);
              return Math.floor(end / PAGE_TOKENS) - Math.floor(firstSeen / PAGE_TOKENS) + 1 > pagesPerSequence;
            });
            expect(tooMany).toBe(true);
          }
          start = end;
        }
        pages.release();
        expect(pools.map(({ free }) => free)).toEqual(pools.map(({ size }) => size));
      }),
    );
  });

  it("shares pages with a fork, and each gives back its own", () => {
    const groups = [group(null, 2048, 256), group(400, 2048, 256)];
    const pools = groups.map(({ pages }) => new PagePool(pages));
    const pages = SequencePages.empty(groups, pools);
    for (let start = 0; start < 1000; start += 250) pages.prepare(start, start + 250, (i) => pools[i]!.take());
    const fork = pages.fork(768);
    expect(fork.views(768)).toEqual(pages.views(768));
    expect(fork.reaches(768)).toBe(true);
    fork.prepare(768, 1000, (i) => pools[i]!.take());
    const [whole, windowed] = [fork.views(1000), pages.views(1000)].map((views) => views.map((view) => view[3]));
    expect(whole).not.toEqual(windowed);
    pages.release();
    expect([...fork.views(1000)[0]!]).not.toContain(DROPPED);
    fork.release();
    expect(pools.map(({ free }) => free)).toEqual(pools.map(({ size }) => size));
  });

  it("knows from where on it can go on", () => {
    const groups = [group(300, 4096, 256)];
    const pool = new PagePool(16);
    const pages = SequencePages.empty(groups, [pool]);
    for (let start = 0; start < 2048; start += 128) pages.prepare(start, start + 128, () => pool.take());
    // The last step began at 1920 and dropped what 1621 and later do not need: pages before 6.
    expect([0, 1500, 1834, 1835, 2048, 2049].map((start) => pages.reaches(start))).toEqual([
      false,
      false,
      false,
      true,
      true,
      false,
    ]);
    pages.truncate(1835);
    expect(pages.reaches(1835)).toBe(true);
    pages.truncate(100);
    expect(pages.held).toEqual([0]);
  });
});
