import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { PageCopy } from "../backend/backend.js";
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
          pages.dropUnseen(start);
          const needed = pages.needed(start, end);
          const before = pools.map(({ free }) => free);
          expect(pages.prepare(start, end)).toEqual([]);
          expect(pools.map(({ free }, i) => before[i]! - free)).toEqual(needed);
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

  it("shares pages with a fork; who writes into a shared page takes a copy, the last one needs none", () => {
    const groups = [group(null, 2048, 256), group(400, 2048, 256)];
    const pools = groups.map(({ pages }) => new PagePool(pages));
    const pages = SequencePages.empty(groups, pools);
    for (let start = 0; start < 1000; start += 250) advance(pages, start, start + 250);
    const taken = () => pools.map(({ free, size }) => size - free);
    const before = taken();
    const [second, third] = [pages.fork(), pages.fork()];
    expect(second.views(1000)).toEqual(pages.views(1000));
    expect(taken()).toEqual(before);
    const shared = pages.views(1000).map((view) => view[3]!);
    const copies = advance(second, 1000, 1030);
    expect(copies.map(({ group, from }) => [group, from])).toEqual([0, 1].map((g) => [g, shared[g]]));
    expect(copies.map(({ to }) => to)).toEqual([0, 1].map((g) => second.views(1030)[g]![3]!));
    expect(advance(third, 1000, 1001).length).toBe(2);
    expect(advance(pages, 1000, 1001)).toEqual([]); // nobody else is left
    expect(pages.views(1001).map((view) => view[3]!)).toEqual(shared);
    for (const each of [pages, second, third]) each.release();
    expect(taken()).toEqual([0, 0]);
  });

  it("copies nothing where a shared page is written from its beginning on", () => {
    const groups = [group(null, 2048, 256)];
    const pools = [new PagePool(8)];
    const pages = SequencePages.empty(groups, pools);
    advance(pages, 0, 300);
    pages.truncate(256);
    const fork = pages.fork();
    expect([advance(fork, 256, 270), advance(pages, 256, 270)]).toEqual([[], []]);
    expect(pools[0]!.free).toBe(5);
  });

  it("keeps no page of positions that were taken back", () => {
    const pool = new PagePool(16);
    const pages = SequencePages.empty([group(300, 4096, 256)], [pool]);
    for (let start = 0; start < 2048; start += 128) advance(pages, start, start + 128);
    pages.truncate(1835);
    expect(pages.held).toEqual([2]);
    pages.truncate(100);
    expect(pages.held).toEqual([0]);
  });
});

function advance(pages: SequencePages, start: number, end: number): PageCopy[] {
  pages.dropUnseen(start);
  return pages.prepare(start, end);
}
