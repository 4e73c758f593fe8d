// Token probabilities take many times the room of the text. Before a session becomes too large
// for its file, the oldest of them are let go; texts never are.

import type { SessionContent } from "./document.js";

/** Well below what the server takes, in characters of JSON. */
const MOST = 8 * 2 ** 20;

/** The same content where it is small enough. */
export function lighter(content: SessionContent, most: number = MOST): SessionContent {
  const sizes = content.blocks.map(({ probabilities }) => (probabilities ? JSON.stringify(probabilities).length : 0));
  let total = sizes.reduce((sum, size) => sum + size, 0);
  if (total <= most) return content;
  const blocks = content.blocks.map((block, index) => {
    if (total <= most / 2 || !block.probabilities) return block;
    total -= sizes[index]!;
    const { probabilities: _gone, ...rest } = block;
    return rest;
  });
  return { ...content, blocks };
}
