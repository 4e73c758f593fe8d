// Unigram language model segmentation (Kudo 2018): of all ways to cut a text into pieces, the
// one with the largest sum of scores, found by dynamic programming from left to right. Pieces
// lie in a trie over UTF-16 code units.

import { PairTable } from "./pair-table.js";

/** What a character outside the vocabulary costs below the worst piece; SentencePiece's constant. */
const UNKNOWN_PENALTY = 10;

export interface UnigramPiece {
  readonly text: string;
  readonly id: number;
  readonly score: number;
}

export class UnigramModel {
  readonly #children = new PairTable(1024);
  /** Index into #pieces of the piece that ends at a trie node, or −1. */
  readonly #ends: number[] = [-1];
  readonly #pieces: readonly UnigramPiece[];
  readonly #unknownScore: number;

  /** @param pieces only those that ordinary text may become: no control symbols, no byte pieces */
  constructor(pieces: readonly UnigramPiece[]) {
    this.#pieces = pieces;
    let lowest = Number.POSITIVE_INFINITY;
    for (const [index, piece] of pieces.entries()) {
      if (piece.text === "") continue;
      lowest = Math.min(lowest, piece.score);
      let node = 0;
      for (let i = 0; i < piece.text.length; i++) node = this.#child(node, piece.text.charCodeAt(i));
      if (this.#ends[node] === -1) this.#ends[node] = index;
    }
    this.#unknownScore = (Number.isFinite(lowest) ? lowest : 0) - UNKNOWN_PENALTY;
  }

  /**
   * Cuts a text.
   *
   * @returns the pieces in order: `id`, and where it begins and ends in `text`; −1 for a character that no piece covers
   */
  segment(text: string): { id: number; start: number; end: number }[] {
    const length = text.length;
    const best = new Float64Array(length + 1).fill(Number.NEGATIVE_INFINITY);
    const from = new Int32Array(length + 1);
    const by = new Int32Array(length + 1).fill(-1);
    best[0] = 0;
    for (let start = 0; start < length; start++) {
      const base = best[start]!;
      if (base === Number.NEGATIVE_INFINITY) continue;
      const oneCharacter = start + characterUnits(text, start);
      let covered = false;
      let node = 0;
      for (let end = start; end < length; ) {
        const slot = this.#children.find(node, text.charCodeAt(end));
        if (slot < 0) break;
        node = this.#children.value(slot);
        end++;
        const index = this.#ends[node]!;
        if (index < 0) continue;
        if (end === oneCharacter) covered = true;
        const score = base + this.#pieces[index]!.score;
        if (score > best[end]!) {
          best[end] = score;
          from[end] = start;
          by[end] = index;
        }
      }
      const score = base + this.#unknownScore;
      if (!covered && score > best[oneCharacter]!) {
        best[oneCharacter] = score;
        from[oneCharacter] = start;
        by[oneCharacter] = -1;
      }
    }
    const path: { id: number; start: number; end: number }[] = [];
    for (let end = length; end > 0; end = from[end]!) {
      const index = by[end]!;
      path.push({ id: index < 0 ? -1 : this.#pieces[index]!.id, start: from[end]!, end });
    }
    return path.reverse();
  }

  #child(node: number, unit: number): number {
    const slot = this.#children.find(node, unit);
    if (slot >= 0) return this.#children.value(slot);
    const child = this.#ends.length;
    this.#ends.push(-1);
    this.#children.add(node, unit, child);
    return child;
  }
}

function characterUnits(text: string, at: number): number {
  const unit = text.charCodeAt(at);
  return unit >= 0xd800 && unit <= 0xdbff && at + 1 < text.length ? 2 : 1;
}
