// Copying KV pages, for sequences that part within a page: a fork shares the whole pages of what
// both have, and copies the page that both go on writing. Pages are ranges of bytes whatever the
// cache's element type is: every region of a layer's cache begins with its page 0, and all its
// pages are equally long.

import type { CacheGroup, Plan, StageLayout } from "../memory/plan.js";
import type { PageCopy } from "./backend.js";
import { InvalidBatchError } from "./errors.js";

/** The pages of one region, in its arena. */
interface PagedRegion {
  readonly arena: number;
  /** Bytes from the arena's beginning to page 0. */
  readonly offset: number;
  readonly pageBytes: number;
}

/** Bytes to be copied within an arena; offsets from its beginning. */
export interface PageRange {
  readonly arena: number;
  readonly from: number;
  readonly to: number;
  readonly bytes: number;
}

/** Where the pages of a stage lie. */
export class PageRanges {
  /** Per cache group. */
  readonly #regions: readonly (readonly PagedRegion[])[];

  constructor(stage: StageLayout, groups: readonly CacheGroup[]) {
    this.#regions = groups.map(({ layers, pages }) =>
      layers.flatMap((layer) =>
        stage.regions
          .filter(({ area, name }) => area === "kvCache" && name.startsWith(`layers.${layer}.kv.`))
          .map(({ arena, offset, bytes }) => ({ arena, offset, pageBytes: bytes / pages })),
      ),
    );
  }

  /** The ranges of one copy: keys and values of every layer of its group that this stage holds. */
  of({ group, from, to }: PageCopy): PageRange[] {
    return this.#regions[group]!.map(({ arena, offset, pageBytes }) => ({
      arena,
      from: offset + from * pageBytes,
      to: offset + to * pageBytes,
      bytes: pageBytes,
    }));
  }
}

/** @throws {InvalidBatchError} for a group or a page that is not in the plan, or a page copied onto itself */
export function checkCopies(copies: readonly PageCopy[], { cacheGroups }: Plan): void {
  for (const { group, from, to } of copies) {
    const pages = cacheGroups[group]?.pages;
    if (pages === undefined) throw new InvalidBatchError(`there is no cache group ${group}, the plan has ${cacheGroups.length}`);
    for (const page of [from, to])
      if (!(Number.isInteger(page) && page >= 0 && page < pages))
        throw new InvalidBatchError(`page ${page} of group ${group} cannot be copied: there are ${pages} pages`);
    if (from === to) throw new InvalidBatchError(`page ${from} of group ${group} would be copied onto itself`);
  }
}
