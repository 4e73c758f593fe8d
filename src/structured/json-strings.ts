// JSON strings as grammars. Where their length is bounded they hold no escapes: counting
// characters that are written in several ways costs the matcher far more than it gives.

import { type CodeRange, type Expression, either, oneOf, repeat, rule, sequence, text } from "./expression.js";
import { type CharacterWriter, complement } from "./regex.js";

/** Characters that stand in a JSON string only escaped. */
const ESCAPED: readonly CodeRange[] = [
  [0x00, 0x1f],
  [0x22, 0x22],
  [0x5c, 0x5c],
];
const SHORT_ESCAPES = ['"', "\\", "\b", "\f", "\n", "\r", "\t"];

/** One character that needs no escape. */
const PLAIN_CHARACTER: Expression = { type: "class", ranges: ESCAPED, negated: true };
const HEX = oneOf("0-9a-fA-F");

/** What follows a backslash; halves of characters (surrogates) only as pairs. */
const ESCAPE: Expression = either(
  oneOf('"\\/bfnrt'),
  sequence(text("u"), either(sequence(oneOf("0-9a-cA-CefEF"), HEX, HEX, HEX), sequence(oneOf("dD"), oneOf("0-7"), HEX, HEX))),
  sequence(text("u"), oneOf("dD"), oneOf("89abAB"), HEX, HEX, text("\\u"), oneOf("dD"), oneOf("c-fC-F"), HEX, HEX),
);

/** Name of the rule that {@link STRING_RULES} defines: any JSON string. */
export const ANY_STRING = "string";

export const STRING_RULES: ReadonlyMap<string, Expression> = new Map([
  [
    ANY_STRING,
    sequence(
      text('"'),
      repeat(PLAIN_CHARACTER, 0, null),
      repeat(sequence(text("\\"), rule("escape"), repeat(PLAIN_CHARACTER, 0, null)), 0, null),
      text('"'),
    ),
  ],
  ["escape", ESCAPE],
]);

/** A JSON string of so many characters. */
export function stringOfLength(least: number, most: number | null): Expression {
  return quoted(repeat(PLAIN_CHARACTER, least, most));
}

export function quoted(contents: Expression): Expression {
  return sequence(text('"'), contents, text('"'));
}

/** Writes what a regular expression matches as the inside of a JSON string. */
export const JSON_CHARACTERS: CharacterWriter = {
  literal: (character) => text(JSON.stringify(character).slice(1, -1)),
  one: (ranges, negated) => {
    if (negated) return { type: "class", ranges: [...ranges, ...ESCAPED], negated: true };
    const plain = without(ranges, ESCAPED);
    const escapes = SHORT_ESCAPES.filter((character) => contains(ranges, character.codePointAt(0)!));
    const parts = escapes.map((character) => text(JSON.stringify(character).slice(1, -1)));
    return either(...(plain.length > 0 || parts.length === 0 ? [classOf(plain)] : []), ...parts);
  },
};

/** A JSON string that is none of `names`; it holds no escapes. */
export function stringExcept(names: Iterable<string>): Expression {
  return sequence(
    text('"'),
    except(
      [...new Set(names)].map((name) => [...name]),
      0,
    ),
  );
}

function except(names: readonly (readonly string[])[], depth: number): Expression {
  const next = new Set(names.flatMap((name) => (name.length > depth ? [name[depth]!] : [])));
  const points = [...next].map((character): CodeRange => [character.codePointAt(0)!, character.codePointAt(0)!]);
  const other: Expression = { type: "class", ranges: [...points, ...ESCAPED], negated: true };
  const parts: Expression[] = [sequence(other, repeat(PLAIN_CHARACTER, 0, null), text('"'))];
  if (!names.some((name) => name.length === depth)) parts.push(text('"'));
  for (const character of next) {
    if (contains(ESCAPED, character.codePointAt(0)!)) continue;
    const through = names.filter((name) => name[depth] === character);
    parts.push(sequence(text(character), except(through, depth + 1)));
  }
  return either(...parts);
}

function classOf(ranges: readonly CodeRange[]): Expression {
  return { type: "class", ranges, negated: false };
}

function contains(ranges: readonly CodeRange[], point: number): boolean {
  return ranges.some(([first, last]) => first <= point && point <= last);
}

function without(ranges: readonly CodeRange[], taken: readonly CodeRange[]): CodeRange[] {
  const free = complement(taken);
  return ranges.flatMap(([first, last]) =>
    free.map(([from, to]): CodeRange => [Math.max(first, from), Math.min(last, to)]).filter(([from, to]) => from <= to),
  );
}
