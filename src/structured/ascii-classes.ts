// The compiler's character classes are right for ASCII only. A class that lists other
// characters becomes a choice of them, one by one; one that excludes ASCII characters takes
// every other character, which is right as it is; and one that excludes others is narrowed to
// ASCII, unless it excludes only the line separators, which no matcher lets through anyway.

import { choiceOf } from "./choices.js";
import { ConstraintError } from "./errors.js";
import { type CodeRange, type Expression, either, type Grammar, MARKER_BEGIN } from "./expression.js";

/** Characters beyond ASCII that a class may list. */
const MOST_LISTED = 1000;

const MARKER: CodeRange = [MARKER_BEGIN.codePointAt(0)!, MARKER_BEGIN.codePointAt(0)!];
const ASCII: CodeRange = [0, 0x7f];
const BEYOND: CodeRange = [0x80, 0x10ffff];
/** Halves of surrogate pairs are code points that no text has. */
const SURROGATES: CodeRange = [0xd800, 0xdfff];
const LINE_SEPARATORS: CodeRange = [0x2028, 0x2029];

/** @throws {ConstraintError} for a class that lists too many characters, or none that a text can have */
export function withAsciiClasses({ root, rules }: Grammar): Grammar {
  return { root: rewrite(root), rules: new Map([...rules].map(([name, body]) => [name, rewrite(body)])) };
}

function rewrite(expression: Expression): Expression {
  switch (expression.type) {
    case "sequence":
    case "either":
      return { ...expression, parts: expression.parts.map(rewrite) };
    case "repeat":
      return { ...expression, part: rewrite(expression.part) };
    case "class":
      return rewriteClass(expression.ranges, expression.negated);
    default:
      return expression;
  }
}

function rewriteClass(ranges: readonly CodeRange[], negated: boolean): Expression {
  const ascii = within(ranges, ASCII);
  const beyond = within(ranges, BEYOND).flatMap((range) => without(range, negated ? LINE_SEPARATORS : SURROGATES));
  if (!negated)
    return listed(
      ascii.flatMap((range) => without(range, MARKER)),
      beyond,
    );
  if (beyond.length === 0) return { type: "class", ranges: [...ascii, MARKER], negated: true };
  let left = without(ASCII, MARKER);
  for (const taken of ascii) left = left.flatMap((range) => without(range, taken));
  return listed(left, []);
}

function listed(ascii: readonly CodeRange[], beyond: readonly CodeRange[]): Expression {
  const count = beyond.reduce((sum, [first, last]) => sum + last - first + 1, 0);
  if (count > MOST_LISTED)
    throw new ConstraintError(
      `a class of the constraint lists ${count} characters beyond ASCII; at most ${MOST_LISTED} are possible`,
      {
        hint: "Say what it is not, such as [^0-9], or list fewer.",
      },
    );
  const characters = beyond.flatMap(([first, last]) =>
    Array.from({ length: last - first + 1 }, (_, index) => String.fromCodePoint(first + index)),
  );
  const parts: Expression[] = [];
  if (ascii.length > 0) parts.push({ type: "class", ranges: ascii, negated: false });
  if (characters.length > 0) parts.push(choiceOf(characters));
  if (parts.length === 0) throw new ConstraintError("a class of the constraint takes no character that a text can have");
  return either(...parts);
}

function within(ranges: readonly CodeRange[], [from, to]: CodeRange): CodeRange[] {
  return ranges
    .map(([first, last]): CodeRange => [Math.max(first, from), Math.min(last, to)])
    .filter(([first, last]) => first <= last);
}

/** What of a range lies outside another. */
function without([first, last]: CodeRange, [from, to]: CodeRange): CodeRange[] {
  const parts: CodeRange[] = [
    [first, Math.min(last, from - 1)],
    [Math.max(first, to + 1), last],
  ];
  return parts.filter(([begin, end]) => begin <= end);
}
