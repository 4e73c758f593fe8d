// Regular expressions, in JavaScript's notation, as grammars. What no grammar without memory
// or look-ahead can say (back references, look-around, word boundaries) is refused by name.

import { ConstraintError } from "./errors.js";
import { type CodeRange, type Expression, either, LAST_CODE_POINT, NOTHING, repeat, sequence, text } from "./expression.js";

/** How single characters are written where the expression is used, e.g. inside a JSON string. */
export interface CharacterWriter {
  /** One character within `ranges`, or outside of them. */
  one(ranges: readonly CodeRange[], negated: boolean): Expression;
  literal(character: string): Expression;
}

/** Characters as they are. */
export const PLAIN: CharacterWriter = {
  one: (ranges, negated) => ({ type: "class", ranges, negated }),
  literal: text,
};

const DEEPEST_GROUP = 64;
const MOST_REPEATS = 10_000;

/**
 * @param whole the whole text must match; otherwise the pattern may match anywhere in it, as JSON Schema's `pattern`
 * @throws {ConstraintError} saying what is not possible and where
 */
export function regexExpression(pattern: string, options: { whole: boolean; writer?: CharacterWriter }): Expression {
  return new RegexParser(pattern, options.writer ?? PLAIN).parse(options.whole);
}

const DIGITS: CodeRange[] = [[0x30, 0x39]];
const WORD: CodeRange[] = [
  [0x30, 0x39],
  [0x41, 0x5a],
  [0x5f, 0x5f],
  [0x61, 0x7a],
];
/** JavaScript's white space. */
const SPACE: CodeRange[] = [
  [0x09, 0x0d],
  [0x20, 0x20],
  [0xa0, 0xa0],
  [0x1680, 0x1680],
  [0x2000, 0x200a],
  [0x2028, 0x2029],
  [0x202f, 0x202f],
  [0x205f, 0x205f],
  [0x3000, 0x3000],
  [0xfeff, 0xfeff],
];
const LINE_ENDS: CodeRange[] = [
  [0x0a, 0x0a],
  [0x0d, 0x0d],
  [0x2028, 0x2029],
];
const CLASSES: Readonly<Record<string, readonly CodeRange[]>> = { d: DIGITS, w: WORD, s: SPACE };
const CONTROLS: Readonly<Record<string, number>> = { n: 0x0a, r: 0x0d, t: 0x09, f: 0x0c, v: 0x0b, "0": 0 };

class RegexParser {
  readonly #pattern: string;
  readonly #characters: readonly string[];
  readonly #writer: CharacterWriter;
  #at = 0;
  #depth = 0;

  constructor(pattern: string, writer: CharacterWriter) {
    this.#pattern = pattern;
    this.#characters = [...pattern];
    this.#writer = writer;
  }

  parse(whole: boolean): Expression {
    const anything = repeat(this.#writer.one([], true), 0, null);
    const parts: Expression[] = [];
    do {
      const begins = this.#take("^");
      const { parts: terms, end } = this.#terms();
      const before = whole || begins ? NOTHING : anything;
      const after = whole || end ? NOTHING : anything;
      parts.push(sequence(before, ...terms, after));
    } while (this.#take("|"));
    if (this.#at < this.#characters.length) throw this.#error("a ) closes nothing");
    return either(...parts);
  }

  #group(): Expression {
    if (++this.#depth > DEEPEST_GROUP) throw this.#error(`groups are nested deeper than ${DEEPEST_GROUP}`);
    const parts: Expression[] = [];
    do {
      const { parts: terms, end } = this.#terms();
      if (end) throw this.#error("$ stands inside a group: it is possible only at the end of the pattern");
      parts.push(sequence(...terms));
    } while (this.#take("|"));
    if (!this.#take(")")) throw this.#error("a ( is not closed");
    this.#depth--;
    return either(...parts);
  }

  /** Up to `|`, `)` or the end; `end`: a `$` stood there. */
  #terms(): { parts: Expression[]; end: boolean } {
    const parts: Expression[] = [];
    for (;;) {
      const next = this.#peek();
      if (next === undefined || next === "|" || next === ")") return { parts, end: false };
      if (this.#take("$")) {
        const after = this.#peek();
        if (after !== undefined && after !== "|" && after !== ")")
          throw this.#error("$ is possible only at the end of the pattern");
        return { parts, end: true };
      }
      parts.push(this.#quantified(this.#atom()));
    }
  }

  #atom(): Expression {
    const character = this.#next();
    switch (character) {
      case "(":
        return this.#openGroup();
      case "[":
        return this.#characterClass();
      case ".":
        return this.#writer.one(LINE_ENDS, true);
      case "\\":
        return this.#escape();
      case "^":
        throw this.#error("^ is possible only at the beginning of the pattern");
      case "*":
      case "+":
      case "?":
        throw this.#error(`${character} repeats nothing`);
      default:
        return this.#writer.literal(character);
    }
  }

  #openGroup(): Expression {
    if (!this.#take("?")) return this.#group();
    if (this.#take(":")) return this.#group();
    const name = /^<[A-Za-z_$][\w$]*>/.exec(this.#characters.slice(this.#at, this.#at + 100).join(""));
    if (!name) throw this.#error("look-ahead, look-behind and flags are not possible in a constraint");
    this.#at += name[0].length;
    return this.#group();
  }

  #quantified(atom: Expression): Expression {
    const counts = this.#counts();
    if (!counts) return atom;
    this.#take("?"); // lazy: the same texts
    if (this.#counts()) throw this.#error("a repetition is repeated: put it into a group");
    return repeat(atom, counts.least, counts.most);
  }

  #counts(): { least: number; most: number | null } | null {
    if (this.#take("*")) return { least: 0, most: null };
    if (this.#take("+")) return { least: 1, most: null };
    if (this.#take("?")) return { least: 0, most: 1 };
    if (this.#peek() !== "{") return null;
    const written = /^\{(\d{1,9})(,(\d{1,9})?)?\}/.exec(this.#characters.slice(this.#at, this.#at + 24).join(""));
    if (!written) throw this.#error("{ is neither a count such as {2,5} nor escaped as \\{");
    const least = Number(written[1]);
    const most = written[2] === undefined ? least : written[3] === undefined ? null : Number(written[3]);
    if (most !== null && most < least) throw this.#error(`${written[0]} counts backwards`);
    if (Math.max(least, most ?? 0) > MOST_REPEATS)
      throw this.#error(`${written[0]}: at most ${MOST_REPEATS} repetitions are possible`);
    this.#at += written[0].length;
    return { least, most };
  }

  #escape(): Expression {
    const known = this.#knownClass();
    if (known) return this.#writer.one(known.ranges, known.negated);
    return this.#writer.literal(String.fromCodePoint(this.#escapedPoint()));
  }

  /** `\d`, `\W` and the like, the backslash read already. */
  #knownClass(): { ranges: readonly CodeRange[]; negated: boolean } | null {
    const letter = this.#peek();
    const ranges = letter === undefined ? undefined : CLASSES[letter.toLowerCase()];
    if (!ranges) return null;
    this.#at++;
    return { ranges, negated: letter !== letter!.toLowerCase() };
  }

  #escapedPoint(): number {
    const letter = this.#peek() === undefined ? undefined : this.#next();
    if (letter === undefined) throw this.#error("the pattern ends in a backslash");
    if (letter === "x") return this.#hex(/^[0-9a-f]{2}/i);
    if (letter === "u") return this.#take("{") ? this.#hex(/^[0-9a-f]{1,6}(?=\})/i, 1) : this.#hex(/^[0-9a-f]{4}/i);
    const control = CONTROLS[letter];
    if (control !== undefined && !(letter === "0" && /\d/.test(this.#peek() ?? ""))) return control;
    if (/[A-Za-z0-9]/.test(letter)) throw this.#error(`\\${letter} is not possible in a constraint`);
    return letter.codePointAt(0)!;
  }

  /** @param extra characters to skip behind it */
  #hex(form: RegExp, extra = 0): number {
    const digits = form.exec(this.#characters.slice(this.#at, this.#at + 8).join(""))?.[0];
    const point = digits === undefined ? Number.NaN : Number.parseInt(digits, 16);
    if (!(point <= LAST_CODE_POINT) || (point >= 0xd800 && point <= 0xdfff)) throw this.#error("this escape names no character");
    this.#at += digits!.length + extra;
    return point;
  }

  #characterClass(): Expression {
    const negated = this.#take("^");
    const ranges: CodeRange[] = [];
    while (!this.#take("]")) {
      if (this.#peek() === undefined) throw this.#error("a [ is not closed");
      const first = this.#classMember();
      if (typeof first !== "number") {
        for (const range of first) ranges.push(range);
        continue;
      }
      const ranged =
        this.#peek() === "-" && this.#characters[this.#at + 1] !== "]" && this.#characters[this.#at + 1] !== undefined;
      if (!ranged) {
        ranges.push([first, first]);
        continue;
      }
      this.#at++;
      const last = this.#classMember();
      if (typeof last !== "number" || last < first) throw this.#error("a range of characters runs backwards or has no end");
      ranges.push([first, last]);
    }
    if (ranges.length === 0 && !negated) throw this.#error("[] matches nothing");
    return this.#writer.one(ranges, negated);
  }

  #classMember(): number | readonly CodeRange[] {
    if (!this.#take("\\")) return this.#next().codePointAt(0)!;
    const known = this.#knownClass();
    if (known) return known.negated ? complement(known.ranges) : known.ranges;
    if (this.#take("b")) return 0x08;
    if (this.#take("-")) return 0x2d;
    return this.#escapedPoint();
  }

  #peek(): string | undefined {
    return this.#characters[this.#at];
  }

  #next(): string {
    return this.#characters[this.#at++]!;
  }

  #take(character: string): boolean {
    if (this.#characters[this.#at] !== character) return false;
    this.#at++;
    return true;
  }

  #error(what: string): ConstraintError {
    const shown = this.#pattern.length > 80 ? `${this.#pattern.slice(0, 80)}…` : this.#pattern;
    return new ConstraintError(
      `the regular expression ${JSON.stringify(shown)} cannot be a constraint: ${what} (character ${this.#at})`,
      {
        details: { pattern: shown, at: this.#at },
      },
    );
  }
}

/** All code points that the ranges leave out. */
export function complement(ranges: readonly CodeRange[]): CodeRange[] {
  const left: CodeRange[] = [];
  let next = 0;
  for (const [first, last] of [...ranges].sort((a, b) => a[0] - b[0])) {
    if (first > next) left.push([next, first - 1]);
    next = Math.max(next, last + 1);
  }
  if (next <= LAST_CODE_POINT) left.push([next, LAST_CODE_POINT]);
  return left;
}
