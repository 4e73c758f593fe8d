// Grammars as data: what schemas, regular expressions and choices become before they are
// written as EBNF. Everything is over Unicode code points.

export type Expression =
  | { readonly type: "text"; readonly text: string }
  /** A special token, see {@link markerOf}. */
  | { readonly type: "marker"; readonly marker: string }
  /** One character within the ranges, or outside all of them. */
  | { readonly type: "class"; readonly ranges: readonly CodeRange[]; readonly negated: boolean }
  | { readonly type: "sequence"; readonly parts: readonly Expression[] }
  | { readonly type: "either"; readonly parts: readonly Expression[] }
  /** `most` null: without end. */
  | { readonly type: "repeat"; readonly part: Expression; readonly least: number; readonly most: number | null }
  | { readonly type: "rule"; readonly name: string };

/** First and last code point. */
export type CodeRange = readonly [first: number, last: number];

export interface Grammar {
  readonly root: Expression;
  readonly rules: ReadonlyMap<string, Expression>;
}

export const LAST_CODE_POINT = 0x10ffff;

/**
 * Special tokens stand in grammars, and in the matcher's vocabulary, as this control character
 * and two more characters. No text and no class of a grammar takes it in, and no other token has it.
 */
export const MARKER_BEGIN = "\u0001";

/** Stands in grammars where nothing can ever stand: no token has it. */
export const NEVER = "\u0002";

/** Most special tokens that can be told apart. */
export const MOST_MARKERS = 4096;

/** @param index of a special token, in the order of ids */
export function markerOf(index: number): string {
  return MARKER_BEGIN + String.fromCharCode(0x30 + (index >> 6), 0x30 + (index & 63));
}

export const NOTHING: Expression = { type: "text", text: "" };

export function text(value: string): Expression {
  return { type: "text", text: value };
}

export function rule(name: string): Expression {
  return { type: "rule", name };
}

/** One character of `characters`, where `a-z` stands for a range. */
export function oneOf(characters: string): Expression {
  return { type: "class", ranges: rangesOf(characters), negated: false };
}

export function sequence(...parts: readonly Expression[]): Expression {
  const flat = parts.flatMap((part) => (part.type === "sequence" ? part.parts : [part]));
  const joined: Expression[] = [];
  for (const part of flat) {
    const last = joined.at(-1);
    if (part.type === "text" && part.text === "") continue;
    if (part.type === "text" && last?.type === "text") joined[joined.length - 1] = text(last.text + part.text);
    else joined.push(part);
  }
  return joined.length === 1 ? joined[0]! : joined.length === 0 ? NOTHING : { type: "sequence", parts: joined };
}

export function either(...parts: readonly Expression[]): Expression {
  return parts.length === 1 ? parts[0]! : { type: "either", parts };
}

export function repeat(part: Expression, least: number, most: number | null): Expression {
  if (most === 0) return NOTHING;
  return least === 1 && most === 1 ? part : { type: "repeat", part, least, most };
}

export function optional(part: Expression): Expression {
  return repeat(part, 0, 1);
}

/** A hyphen stands for itself only as the first or last character. */
function rangesOf(characters: string): CodeRange[] {
  const points = [...characters].map((character) => character.codePointAt(0)!);
  const ranges: CodeRange[] = [];
  for (let i = 0; i < points.length; i++) {
    if (points[i + 1] === 0x2d && i + 2 < points.length) {
      ranges.push([points[i]!, points[i + 2]!]);
      i += 2;
    } else ranges.push([points[i]!, points[i]!]);
  }
  return ranges;
}
