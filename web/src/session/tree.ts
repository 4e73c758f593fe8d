// Branches. Blocks are a tree in an array, parents before children; the branch that is shown
// ends at `leaf`. Every function gives a new content and leaves the old one as it is, so that
// undoing is keeping the old one.

import type { SessionBlock, SessionContent } from "../../../src/server/sessions/document.js";

type Tree = Pick<SessionContent, "blocks" | "leaf">;

/** From the first block to the leaf. */
export function branchOf({ blocks, leaf }: Tree): SessionBlock[] {
  const byId = new Map(blocks.map((block) => [block.id, block]));
  const branch: SessionBlock[] = [];
  for (let block = leaf === null ? undefined : byId.get(leaf); block; block = byId.get(block.parent ?? "")) branch.push(block);
  return branch.reverse();
}

/** The blocks that could stand where this one does, oldest first; itself among them. */
export function siblingsOf({ blocks }: Tree, { parent }: Pick<SessionBlock, "parent">): SessionBlock[] {
  return blocks.filter((block) => block.parent === parent);
}

/** Adds a block and shows the branch that ends with it. */
export function append<T extends Tree>(content: T, block: SessionBlock): T {
  return { ...content, blocks: [...content.blocks, block], leaf: block.id };
}

export function change<T extends Tree>(content: T, id: string, changes: Partial<SessionBlock>): T {
  return { ...content, blocks: content.blocks.map((block) => (block.id === id ? { ...block, ...changes } : block)) };
}

/** Shows the newest branch through a block. */
export function show<T extends Tree>(content: T, id: string): T {
  return { ...content, leaf: endOf(content.blocks, id) };
}

/** Takes one block out; what followed it follows what stood before it. */
export function removeOne<T extends Tree & Pick<SessionContent, "firstKept">>(content: T, id: string): T {
  const gone = content.blocks.find((block) => block.id === id);
  if (!gone) return content;
  const blocks = content.blocks
    .filter((block) => block !== gone)
    .map((block) => (block.parent === id ? { ...block, parent: gone.parent } : block));
  return settled({ ...content, blocks }, gone);
}

/** Takes a block out with everything that follows it, on every branch. */
export function removeFrom<T extends Tree & Pick<SessionContent, "firstKept">>(content: T, id: string): T {
  const gone = new Set([id]);
  for (const block of content.blocks) if (block.parent !== null && gone.has(block.parent)) gone.add(block.id);
  const first = content.blocks.find((block) => block.id === id);
  if (!first) return content;
  return settled({ ...content, blocks: content.blocks.filter((block) => !gone.has(block.id)) }, first);
}

/** A leaf that is gone is replaced by the nearest end that is left. */
function settled<T extends Tree & Pick<SessionContent, "firstKept">>(content: T, gone: SessionBlock): T {
  const ids = new Set(content.blocks.map(({ id }) => id));
  const kept = content.firstKept !== null && ids.has(content.firstKept) ? content.firstKept : null;
  if (content.leaf !== null && ids.has(content.leaf)) return { ...content, firstKept: kept };
  const beside = content.blocks.filter(({ parent }) => parent === gone.parent).at(-1);
  const leaf = beside ? endOf(content.blocks, beside.id) : gone.parent;
  return { ...content, firstKept: kept, leaf };
}

/** The end of the newest branch through a block. */
function endOf(blocks: readonly SessionBlock[], id: string): string {
  let end = id;
  for (;;) {
    const child = blocks.filter(({ parent }) => parent === end).at(-1);
    if (!child) return end;
    end = child.id;
  }
}
