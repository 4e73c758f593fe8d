// KV that is there already, found by what it was computed from: a tree whose nodes are pages of
// 256 ids, each below the page that it goes on from, so that a path from the root names all ids
// up to there. Children are found by a hash of their ids, and then their ids are compared:
// nothing is believed because of a hash. The last page of a finished sequence may be a part of
// one. Running requests put their pages here as soon as these are complete, and requests that
// begin alike go on from them, while the first still runs or after it has ended. Pages that
// only the index holds give way when others need them, least recently used first, a path's end
// before its beginning.
//
// Trees are kept apart by a condition: everything else that KV depends on (adapters).

import { type CacheGroup, PAGE_TOKENS } from "../memory/plan.js";
import { commonPrefix, hashIds, PageNode } from "./page-node.js";
import type { PageId, PagePool } from "./page-pool.js";
import { DROPPED } from "./page-table.js";

/** What there is of a prompt: full pages from the beginning on, and perhaps a part of one more. */
export interface PrefixMatch {
  readonly path: readonly PageNode[];
  /** The page after the path and how many of its ids are the prompt's. */
  readonly part: { readonly node: PageNode; readonly length: number } | null;
}

export class PageIndex {
  readonly #groups: readonly CacheGroup[];
  readonly #pools: readonly PagePool[];
  readonly #roots = new Map<string, PageNode>();
  /** Least recently used first; a node comes before those above it. */
  readonly #nodes = new Set<PageNode>();

  constructor(groups: readonly CacheGroup[], pools: readonly PagePool[]) {
    this.#groups = groups;
    this.#pools = pools;
  }

  /** Sequences that could be gone on with: ends of paths whose pages nobody else holds. */
  get idleEnds(): number {
    let ends = 0;
    for (const node of this.#nodes) if (node.next.size === 0 && node.tails.size === 0 && this.#isIdle(node)) ends++;
    return ends;
  }

  /** The page with these 256 ids after `parent`, or after nothing. */
  find(condition: string, parent: PageNode | null, ids: Int32Array): PageNode | null {
    const node = (parent ?? this.#roots.get(condition))?.next.get(hashIds(ids));
    return node && commonPrefix(node.ids, ids) === PAGE_TOKENS ? node : null;
  }

  /**
   * The longest beginning of `ids` that can be gone on from.
   *
   * @param limit most ids that may be used
   */
  match(condition: string, ids: Int32Array, limit: number): PrefixMatch {
    const path: PageNode[] = [];
    let last: PageNode | null = null;
    for (let end = PAGE_TOKENS; end <= limit; end += PAGE_TOKENS) {
      const node = this.find(condition, last, ids.subarray(end - PAGE_TOKENS, end));
      if (!node) break;
      path.push(node);
      last = node;
    }
    const begin = path.length * PAGE_TOKENS;
    const part = this.#longestPart(last ?? this.#roots.get(condition), ids.subarray(begin, Math.max(begin, limit)));
    if (part && this.#reaches([...path, part.node], begin + part.length)) return { path, part };
    while (path.length > 0 && !this.#reaches(path, path.length * PAGE_TOKENS)) path.pop();
    return { path, part: null };
  }

  /** Marks the node and all above it as used just now. */
  touch(node: PageNode): void {
    for (let at = node; at.parent !== null; at = at.parent) {
      this.#nodes.delete(at);
      this.#nodes.add(at);
    }
  }

  /**
   * Puts a complete page in, or finds the one that is there with the same ids.
   *
   * @param parent `null`: the page is the first
   * @param pages of each group, held by the caller; the index becomes one more holder
   * @returns `null` where other ids with the same hash are in the way
   */
  add(condition: string, parent: PageNode | null, ids: Int32Array, pages: readonly PageId[]): PageNode | null {
    const above = parent ?? this.#root(condition);
    const hash = hashIds(ids);
    const there = above.next.get(hash);
    if (there && commonPrefix(there.ids, ids) < PAGE_TOKENS) return null;
    if (there) {
      this.#complete(there, pages);
      return there;
    }
    const node = this.#insert(above, ids, pages);
    above.next.set(hash, node);
    return node;
  }

  /** Puts the last page of a sequence in, 1 to 255 ids, unless another already says as much. */
  addTail(condition: string, parent: PageNode | null, ids: Int32Array, pages: readonly PageId[]): void {
    const there = parent ?? this.#root(condition);
    for (const other of [...there.tails, ...there.next.values()]) {
      const common = commonPrefix(other.ids, ids);
      if (common === ids.length && this.#isWhole(other)) {
        this.touch(other);
        return;
      }
      if (common === other.ids.length && this.#isIdle(other)) this.forget(other);
    }
    const above = parent ?? this.#root(condition); // forgetting may have emptied the tree
    above.tails.add(this.#insert(above, ids, pages));
  }

  /** Takes a node out with all below it; who holds its pages besides keeps them. */
  forget(node: PageNode): void {
    for (const below of [...node.next.values(), ...node.tails]) this.forget(below);
    for (const [g, page] of node.pages.entries()) {
      if (page !== DROPPED) this.#pools[g]!.unkeep(page);
      node.pages[g] = DROPPED;
    }
    this.#remove(node);
  }

  /** Gives one idle page of a group back; false when there is none. */
  evict(group: number): boolean {
    const pool = this.#pools[group]!;
    for (const node of this.#nodes) {
      const page = node.pages[group]!;
      if (page === DROPPED || !pool.isIdle(page)) continue;
      if (this.#groups[group]!.window === null) this.forget(node);
      else {
        pool.unkeep(page);
        node.pages[group] = DROPPED;
        this.#prune(node);
      }
      return true;
    }
    return false;
  }

  /** Forgets everything. */
  clear(): void {
    for (const root of [...this.#roots.values()]) {
      for (const node of [...root.next.values(), ...root.tails]) this.forget(node);
    }
  }

  #root(condition: string): PageNode {
    let root = this.#roots.get(condition);
    if (!root) {
      root = new PageNode(null, new Int32Array(), [], condition);
      this.#roots.set(condition, root);
    }
    return root;
  }

  #insert(parent: PageNode, ids: Int32Array, pages: readonly PageId[]): PageNode {
    for (const [g, page] of pages.entries()) if (page !== DROPPED) this.#pools[g]!.keep(page);
    const node = new PageNode(parent, ids.slice(), [...pages]);
    this.#nodes.add(node);
    this.touch(parent);
    return node;
  }

  /** Pages that a node has lost come back from a sequence that has computed them again. */
  #complete(node: PageNode, pages: readonly PageId[]): void {
    for (const [g, page] of pages.entries()) {
      if (node.pages[g] !== DROPPED || page === DROPPED || this.#pools[g]!.isKept(page)) continue;
      this.#pools[g]!.keep(page);
      node.pages[g] = page;
    }
  }

  /** Nodes that have no page and lead nowhere are gone. */
  #prune(node: PageNode): void {
    for (let at = node; at.parent !== null; ) {
      if (at.next.size > 0 || at.tails.size > 0 || at.pages.some((page) => page !== DROPPED)) return;
      const { parent } = at;
      this.#remove(at);
      at = parent;
    }
  }

  #remove(node: PageNode): void {
    this.#nodes.delete(node);
    node.forgotten = true;
    const hash = hashIds(node.ids);
    const parent = node.parent!;
    if (parent.next.get(hash) === node) parent.next.delete(hash);
    parent.tails.delete(node);
    // Conditions come and go with what requests ask for; their trees do not stay behind.
    if (parent.condition !== null && parent.next.size === 0 && parent.tails.size === 0) this.#roots.delete(parent.condition);
  }

  #longestPart(parent: PageNode | undefined, ids: Int32Array): PrefixMatch["part"] {
    let best: PrefixMatch["part"] = null;
    if (!parent) return best;
    for (const nodes of [parent.tails, parent.next.values()]) {
      for (const node of nodes) {
        const length = commonPrefix(node.ids, ids);
        if (length > (best?.length ?? 0) && this.#isWhole(node)) best = { node, length };
      }
    }
    return best;
  }

  /** Whether all that positions from `start` on can see is there: the pages of `path`, the last of which holds `start − 1`. */
  #reaches(path: readonly PageNode[], start: number): boolean {
    return this.#groups.every(({ window }, g) => {
      const first = window === null ? 0 : Math.floor(Math.max(0, start - window + 1) / PAGE_TOKENS);
      for (let i = first; i < path.length; i++) if (path[i]!.pages[g] === DROPPED) return false;
      return true;
    });
  }

  #isWhole(node: PageNode): boolean {
    return node.pages.every((page) => page !== DROPPED);
  }

  #isIdle(node: PageNode): boolean {
    return node.pages.every((page, g) => page === DROPPED || this.#pools[g]!.isIdle(page));
  }
}
