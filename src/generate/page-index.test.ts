import { describe, expect, it } from "vitest";
import { promptOf } from "../../test/support/fake-answers.js";
import type { CacheGroup } from "../memory/plan.js";
import { PageIndex } from "./page-index.js";
import type { PageNode } from "./page-node.js";
import { PagePool } from "./page-pool.js";
import { DROPPED } from "./page-table.js";

const whole: CacheGroup = { window: null, layers: [0], pages: 8, pagesPerSequence: 8 };
const windowed: CacheGroup = { window: 300, layers: [1], pages: 8, pagesPerSequence: 3 };

function setUp(groups: readonly CacheGroup[] = [whole]) {
  const pools = groups.map(({ pages }) => new PagePool(pages));
  const index = new PageIndex(groups, pools);
  /** Puts a sequence in as one that has ended: nobody but the index holds its pages. */
  const put = (ids: Int32Array, condition = ""): PageNode[] => {
    const nodes: PageNode[] = [];
    for (let at = 0; at < ids.length; at += 256) {
      const pages = pools.map((pool) => pool.take());
      const part = ids.subarray(at, at + 256);
      if (part.length < 256) index.addTail(condition, nodes.at(-1) ?? null, part, pages);
      else nodes.push(index.add(condition, nodes.at(-1) ?? null, part, pages)!);
      for (const [g, page] of pages.entries()) pools[g]!.release(page);
    }
    return nodes;
  };
  const found = (ids: Int32Array, condition = "") => {
    const { path, part } = index.match(condition, ids, ids.length);
    return path.length * 256 + (part?.length ?? 0);
  };
  return { pools, index, put, found };
}

const textOf = (length: number, seed = 1) => Int32Array.from(promptOf(length, seed));
const join = (...parts: readonly Int32Array[]) => Int32Array.from(parts.flatMap((part) => [...part]));

describe("PageIndex", () => {
  it.each([0, 1, 100, 255, 256, 257, 512, 600])("finds the first %i ids of a sequence, and no more than it may", (length) => {
    const { index, put, found } = setUp();
    const text = textOf(600);
    put(text);
    expect(found(join(text.subarray(0, length), Int32Array.of(99, 98)))).toBe(length);
    const { path, part } = index.match("", text, length);
    expect(path.length * 256 + (part?.length ?? 0)).toBe(length);
  });

  it("keeps what depends on something else apart, and forgets a condition that has no pages", () => {
    const { index, put, found } = setUp();
    put(textOf(300), "adapter");
    expect([found(textOf(300)), found(textOf(300), "adapter")]).toEqual([0, 300]);
    index.clear();
    put(textOf(300), "adapter");
    expect(found(textOf(300), "adapter")).toBe(300);
  });

  it("shares the pages of a common beginning, and finds each sequence's own end", () => {
    const { pools, put, found } = setUp();
    const system = textOf(256);
    for (const seed of [2, 3]) put(join(system, textOf(100, seed)));
    expect(pools[0]!.idle).toBe(3); // not 4
    for (const seed of [2, 3]) expect(found(join(system, textOf(100, seed)))).toBe(356);
  });

  it("believes ids, not hashes", () => {
    const { index, pools, put, found } = setUp();
    const text = textOf(256);
    // FNV-1a over words: whatever the first word is, some second one leads to the same hash.
    const [basis, prime] = [0x811c9dc5, 0x01000193];
    const hashAfter = (word: number) => Math.imul(basis ^ word, prime);
    const other = text.slice();
    other[0] = text[0]! + 1;
    other[1] = hashAfter(text[0]!) ^ text[1]! ^ hashAfter(other[0]);
    put(text);
    expect(found(other)).toBe(0);
    const page = pools[0]!.take();
    expect(index.add("", null, other, [page])).toBe(null);
    expect(found(text)).toBe(256);
  });

  it("keeps the longer of two ends where one begins as the other", () => {
    const { pools, put, found } = setUp();
    for (const length of [50, 80, 30]) put(textOf(length));
    expect(pools[0]!.idle).toBe(1);
    expect(found(textOf(200))).toBe(80);
  });

  it("gives back what was used longest ago, ends before beginnings, and nothing that others hold", () => {
    const { pools, index, put, found } = setUp();
    const [old, recent] = [textOf(600), textOf(600, 2)];
    const nodes = put(old);
    const [first] = put(recent);
    pools[0]!.share(first!.pages[0]!);
    index.touch(nodes[1]!);
    const lengths = [];
    while (index.evict(0)) lengths.push([found(old), found(recent)]);
    expect(lengths).toEqual([
      [512, 600],
      [512, 512],
      [512, 256],
      [256, 256],
      [0, 256],
    ]);
    expect(pools[0]!.free).toBe(7);
  });

  it("needs the pages that a window reaches back to, and only those", () => {
    const { pools, index, put, found } = setUp([whole, windowed]);
    const text = textOf(1000);
    const nodes = put(text);
    const lose = (node: PageNode) => {
      const others = nodes.filter((other) => other !== node).map(({ pages }) => pages[1]!);
      const held = others.filter((page) => page !== DROPPED);
      for (const page of held) pools[1]!.share(page);
      while (node.pages[1] !== DROPPED) expect(index.evict(1)).toBe(true);
      for (const page of held) pools[1]!.release(page);
    };
    // Positions from 768 on see 469 and later: page 1.
    lose(nodes[0]!); // the last page, which is no full one, goes first
    expect(found(text)).toBe(768);
    lose(nodes[1]!);
    expect(found(text)).toBe(0);
    expect(pools[0]!.idle).toBe(4); // the other layers' pages are still there
    put(text.subarray(0, 512)); // computed once more: the lost pages come back
    expect(found(text)).toBe(768);
    expect(pools[0]!.idle).toBe(4);
  });

  it("of windows alone forgets nodes that have lost their pages and lead nowhere", () => {
    const { index, pools, put, found } = setUp([windowed]);
    const nodes = put(textOf(700));
    while (index.evict(0));
    expect(pools[0]!.free).toBe(8);
    expect(nodes.every(({ forgotten, pages }) => forgotten && pages[0] === DROPPED)).toBe(true);
    expect(found(textOf(700))).toBe(0);
  });
});
