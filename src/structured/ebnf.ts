// Grammars written in xgrammar's EBNF. What a rule repeats is bounded here, because the
// compiler's time and memory grow with it.

import { ConstraintError } from "./errors.js";
import { type CodeRange, type Expression, FIRST_MARKER, type Grammar, LAST_CODE_POINT } from "./expression.js";

/** Elements of a grammar, repetitions counted as often as they repeat (a repeated single character counts once). */
const MOST_ELEMENTS = 100_000;

/** Deeper nesting goes into a rule of its own: the compiler's parser has a small stack. */
const DEEPEST = 16;

/** @throws {ConstraintError} when the grammar is larger than what is compiled in reasonable time */
export function writeEbnf({ root, rules }: Grammar): string {
  let elements = weight(root);
  for (const body of rules.values()) elements += weight(body);
  if (elements > MOST_ELEMENTS)
    throw new ConstraintError(
      `the constraint is too large: ${elements} grammar elements, at most ${MOST_ELEMENTS} are compiled`,
      {
        hint: "Lower maxItems, maxLength and the counts of nested repetitions, or leave them out.",
      },
    );
  return new EbnfWriter(rules.keys()).grammar(root, rules);
}

function weight(expression: Expression): number {
  switch (expression.type) {
    case "text":
    case "marker":
    case "class":
    case "rule":
      return 1;
    case "sequence":
    case "either":
      return expression.parts.reduce((sum, part) => sum + weight(part), 1);
    case "repeat": {
      const { part, least, most } = expression;
      return part.type === "class" ? 1 : 1 + weight(part) * Math.max(1, least, most ?? 1);
    }
  }
}

class EbnfWriter {
  readonly #names: ReadonlyMap<string, string>;
  readonly #lines: string[] = [];

  constructor(rules: Iterable<string>) {
    this.#names = new Map([...rules].map((name, index) => [name, `r${index}`]));
  }

  grammar(root: Expression, rules: Grammar["rules"]): string {
    this.#define("root", root);
    for (const [name, body] of rules) this.#define(this.#names.get(name)!, body);
    return this.#lines.join("\n");
  }

  #define(name: string, body: Expression): void {
    const line = this.#lines.push("") - 1;
    this.#lines[line] = `${name} ::= ${this.#write(body, 0)}`;
  }

  #write(expression: Expression, depth: number): string {
    switch (expression.type) {
      case "text":
        return `"${[...expression.text].map(escapeInText).join("")}"`;
      case "marker":
        return `"${codeEscape(expression.marker.codePointAt(0)!)}"`;
      case "class":
        return writeClass(expression.ranges, expression.negated);
      case "sequence":
        return expression.parts.map((part) => this.#group(part, depth)).join(" ");
      case "either":
        return expression.parts.map((part) => this.#group(part, depth)).join(" | ");
      case "repeat":
        return this.#group(expression.part, depth) + quantifier(expression.least, expression.most);
      case "rule":
        return this.#names.get(expression.name)!;
    }
  }

  #group(part: Expression, depth: number): string {
    if (part.type === "text" || part.type === "class" || part.type === "rule") return this.#write(part, depth);
    if (depth < DEEPEST) return `(${this.#write(part, depth + 1)})`;
    const name = `n${this.#lines.length}`;
    this.#define(name, part);
    return name;
  }
}

function quantifier(least: number, most: number | null): string {
  if (most === null) return least === 0 ? "*" : least === 1 ? "+" : `{${least},}`;
  return least === 0 && most === 1 ? "?" : `{${least},${most}}`;
}

function escapeInText(character: string): string {
  if (character.codePointAt(0)! >= FIRST_MARKER)
    throw new ConstraintError("the constraint holds a character of Unicode's last private plane", {
      hint: "Characters from U+100000 on stand for special tokens here.",
    });
  return /[ !#-[\]-~]/.test(character) ? character : codeEscape(character.codePointAt(0)!);
}

const MARKERS: CodeRange = [FIRST_MARKER, LAST_CODE_POINT];
/** Halves of surrogate pairs are code points that no text has. */
const SURROGATES: CodeRange = [0xd800, 0xdfff];

function writeClass(ranges: readonly CodeRange[], negated: boolean): string {
  if (negated) return `[^${[...ranges, MARKERS].map(writeRange).join("")}]`;
  const written = ranges.flatMap((range) => without(range, SURROGATES)).flatMap((range) => without(range, MARKERS));
  if (written.length === 0) throw new ConstraintError("the constraint asks for a character that no text has");
  return `[${written.map(writeRange).join("")}]`;
}

/** What of a range lies outside another. */
function without([first, last]: CodeRange, [from, to]: CodeRange): CodeRange[] {
  const parts: CodeRange[] = [
    [first, Math.min(last, from - 1)],
    [Math.max(first, to + 1), last],
  ];
  return parts.filter(([begin, end]) => begin <= end);
}

function writeRange([first, last]: CodeRange): string {
  return first === last ? inClass(first) : `${inClass(first)}-${inClass(last)}`;
}

function inClass(point: number): string {
  const character = String.fromCodePoint(point);
  return /[A-Za-z0-9]/.test(character) ? character : codeEscape(point);
}

function codeEscape(point: number): string {
  return `\\U${point.toString(16).padStart(8, "0")}`;
}
