// Two tabs have changed one session. What each has changed since they last agreed is kept:
// blocks by id, other fields whole. Where both changed the same thing, this tab's stands,
// except that no block is deleted that the other has changed.

import type { SessionBlock, SessionContent } from "../../../src/server/sessions/document.js";

/** @param base what both began with */
export function merge(base: SessionContent, mine: SessionContent, theirs: SessionContent): SessionContent {
  const pick = <K extends keyof SessionContent>(field: K): SessionContent[K] =>
    same(base[field], mine[field]) ? theirs[field] : mine[field];
  const blocks = mergeBlocks(base.blocks, mine.blocks, theirs.blocks);
  const ids = new Set(blocks.map(({ id }) => id));
  const there = (id: string | null) => (id !== null && ids.has(id) ? id : null);
  return {
    title: pick("title"),
    mode: pick("mode"),
    prompt: pick("prompt"),
    participants: pick("participants"),
    settings: pick("settings"),
    text: pick("text"),
    blocks,
    leaf: there(pick("leaf")) ?? blocks.at(-1)?.id ?? null,
    firstKept: there(pick("firstKept")),
  };
}

function mergeBlocks(
  base: readonly SessionBlock[],
  mine: readonly SessionBlock[],
  theirs: readonly SessionBlock[],
): SessionBlock[] {
  const before = index(base);
  const ours = index(mine);
  const other = index(theirs);
  const merged = new Map<string, SessionBlock>();
  for (const id of new Set([...other.keys(), ...ours.keys()])) {
    const [old, left, right] = [before.get(id), ours.get(id), other.get(id)];
    if (left && right) merged.set(id, old && same(old, left) ? right : left);
    else if (left && (!old || !same(old, left))) merged.set(id, left);
    else if (right && (!old || !same(old, right))) merged.set(id, right);
  }
  return inOrder(merged, (id) => before.get(id) ?? ours.get(id) ?? other.get(id));
}

/** Parents before children; a block whose parent was deleted hangs from the nearest one that is left. */
function inOrder(blocks: ReadonlyMap<string, SessionBlock>, known: (id: string) => SessionBlock | undefined): SessionBlock[] {
  const done = new Map<string, SessionBlock>();
  const place = (block: SessionBlock): void => {
    if (done.has(block.id)) return;
    let parent = block.parent;
    for (let steps = 0; parent !== null && !blocks.has(parent); steps++) {
      if (steps > blocks.size + 20_000)
        parent = null; // a circle through deleted blocks
      else parent = known(parent)?.parent ?? null;
    }
    if (parent !== null) place(blocks.get(parent)!);
    done.set(block.id, parent === block.parent ? block : { ...block, parent });
  };
  for (const block of blocks.values()) place(block);
  return [...done.values()];
}

function index(blocks: readonly SessionBlock[]): Map<string, SessionBlock> {
  return new Map(blocks.map((block) => [block.id, block]));
}

function same(a: unknown, b: unknown): boolean {
  return a === b || JSON.stringify(a) === JSON.stringify(b);
}
