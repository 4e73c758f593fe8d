// Grammars written in xgrammar's EBNF.
//
// The library makes an automaton of each rule and simplifies it, and where two ways through one
// rule begin with the same character it may join what must stay apart: `"ab" "a" | "c" "a" "b"
// | "ab" "b"` takes "caa". Between rules it keeps all ways open. So every alternative and every
// repetition that could be mistaken for what follows gets a rule of its own, which ends in a
// reference to `stop`: rules that refer to others are not put into the place where they are used.

import { withAsciiClasses } from "./ascii-classes.js";
import { ConstraintError } from "./errors.js";
import { type CodeRange, type Expression, type Grammar, MARKER_BEGIN, NEVER } from "./expression.js";
import { overlap } from "./expression-beginning.js";

/** Elements of a grammar, repetitions counted as often as they repeat (a repeated single character counts once). */
const MOST_ELEMENTS = 20_000;

/** @throws {ConstraintError} when the grammar is larger than what is compiled in reasonable time */
export function writeEbnf(grammar: Grammar): string {
  const { root, rules } = withAsciiClasses(grammar);
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
      return part.type === "class" ? 1 : 1 + weight(part) + Math.max(least, most ?? 0) * 2;
    }
  }
}

/** Always empty: its other way begins with a character that no token has. */
const STOP = 'stop ::= "" | "\\x02" stop';

class EbnfWriter {
  readonly #names: ReadonlyMap<string, string>;
  readonly #lines: string[] = [STOP];

  constructor(rules: Iterable<string>) {
    this.#names = new Map([...rules].map((name, index) => [name, `r${index}`]));
  }

  grammar(root: Expression, rules: Grammar["rules"]): string {
    this.#lines.push(`root ::= ${this.#write(root, true)} stop`);
    for (const [name, body] of rules) this.#lines.push(`${this.#names.get(name)!} ::= ${this.#write(body, true)} stop`);
    return this.#lines.join("\n");
  }

  /** @param last nothing follows within the rule */
  #write(expression: Expression, last: boolean): string {
    switch (expression.type) {
      case "text":
        return `"${[...expression.text].map(escapeInText).join("")}"`;
      case "marker":
        return `"${[...expression.marker].map((character) => codeEscape(character.codePointAt(0)!)).join("")}"`;
      case "class":
        return writeClass(expression.ranges, expression.negated);
      case "rule":
        return this.#names.get(expression.name)!;
      case "sequence":
        return this.#sequence(expression.parts);
      case "either":
        return this.#either(expression.parts);
      case "repeat":
        return this.#repeat(expression, last);
    }
  }

  #sequence(parts: readonly Expression[]): string {
    return parts
      .map((part, index) => {
        const next = parts[index + 1];
        const apart = part.type === "repeat" && part.part.type === "class" && next !== undefined && !overlap(part.part, next);
        return apart ? writeCounted(part) : this.#write(part, next === undefined);
      })
      .join(" ");
  }

  #either(parts: readonly Expression[]): string {
    if (areApart(parts)) return this.#define(parts.map((part) => this.#write(part, true)).join(" | "));
    return this.#define(parts.map((part) => this.#alternative(part)).join(" | "));
  }

  #alternative(part: Expression): string {
    return part.type === "rule" ? this.#write(part, true) : this.#define(`${this.#write(part, true)} stop`);
  }

  #repeat(repeat: Expression & { type: "repeat" }, last: boolean): string {
    const { part, least, most } = repeat;
    if (part.type === "class") return last ? writeCounted(repeat) : this.#define(`${writeCounted(repeat)} stop`);
    const one = this.#alternative(part);
    const needed = Array.from({ length: least }, () => one);
    if (most === null) {
      const name = this.#name();
      this.#lines.push(`${name} ::= "" | ${one} ${name}`);
      return [...needed, name].join(" ");
    }
    let more = "";
    for (let count = least; count < most; count++) more = this.#define(`"" | ${one} ${more}`);
    return more === "" && needed.length === 0 ? '""' : [...needed, more].join(" ");
  }

  #define(body: string): string {
    const name = this.#name();
    this.#lines.push(`${name} ::= ${body}`);
    return name;
  }

  #name(): string {
    return `n${this.#count++}`;
  }
  #count = 0;
}

/** Whether no two of the alternatives can begin with the same character, so that one way only is ever open. */
function areApart(parts: readonly Expression[]): boolean {
  return parts.every((part, index) => parts.slice(index + 1).every((other) => !overlap(part, other)));
}

function writeCounted({ part, least, most }: Expression & { type: "repeat" }): string {
  const { ranges, negated } = part as Expression & { type: "class" };
  const count =
    most === null
      ? least === 0
        ? "*"
        : least === 1
          ? "+"
          : `{${least},}`
      : least === 0 && most === 1
        ? "?"
        : `{${least},${most}}`;
  return writeClass(ranges, negated) + count;
}

function writeClass(ranges: readonly CodeRange[], negated: boolean): string {
  return `[${negated ? "^" : ""}${ranges.map(writeRange).join("")}]`;
}

function escapeInText(character: string): string {
  if (character === MARKER_BEGIN || character === NEVER)
    throw new ConstraintError("the constraint holds one of the control characters U+0001 and U+0002, which cannot be written");
  return /[ !#-[\]-~]/.test(character) ? character : codeEscape(character.codePointAt(0)!);
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
