// Grammars that people write, in the EBNF that llama.cpp calls GBNF: rules `name ::= …` of
// "texts", [classes], names, groups, alternatives with |, and repetitions ? * + {2,5}; # begins
// a comment. They are read here, and written anew for the library (`ebnf.ts` says why).

import { ConstraintError } from "./errors.js";
import {
  type CodeRange,
  type Expression,
  either,
  type Grammar,
  LAST_CODE_POINT,
  repeat,
  rule,
  sequence,
  text,
} from "./expression.js";

const DEEPEST_GROUP = 64;
const MOST_REPEATS = 10_000;

interface Token {
  readonly kind: "name" | "text" | "class" | "sign" | "count" | "defines";
  readonly value: string;
  readonly at: number;
}

/** In the order in which they are tried. */
const TOKENS: readonly (readonly [Token["kind"] | null, RegExp])[] = [
  [null, /(?:\s|#[^\n]*)+/y],
  ["defines", /::=/y],
  ["name", /[A-Za-z_][\w.-]*/y],
  ["text", /"(?:[^"\\\n]|\\.)*"/y],
  ["class", /\[(?:[^\]\\\n]|\\.)*\]/y],
  ["count", /\{\s*\d{1,9}\s*(?:,\s*(?:\d{1,9})?\s*)?\}/y],
  ["sign", /[()|?*+.]/y],
];

const CONTROLS: Readonly<Record<string, number>> = { n: 0x0a, r: 0x0d, t: 0x09, f: 0x0c, v: 0x0b, b: 0x08, a: 0x07, "0": 0 };

/** @throws {ConstraintError} saying what is wrong in which line */
export function readEbnf(source: string): Grammar {
  return new EbnfReader(source).grammar();
}

class EbnfReader {
  readonly #source: string;
  readonly #tokens: readonly Token[];
  #next = 0;
  #depth = 0;

  constructor(source: string) {
    this.#source = source;
    this.#tokens = this.#tokenize();
  }

  grammar(): Grammar {
    const rules = new Map<string, Expression>();
    while (this.#next < this.#tokens.length) {
      const name = this.#take("name");
      if (!name || !this.#take("defines")) throw this.#error('a rule begins with its name and "::="', name?.at);
      if (rules.has(name.value)) throw this.#error(`the rule ${name.value} is defined twice`, name.at);
      rules.set(name.value, this.#alternatives());
    }
    if (!rules.has("root")) throw this.#error('there is no rule "root"', 0);
    const missing = this.#tokens.find(({ kind, value }) => kind === "name" && !rules.has(value));
    if (missing) throw this.#error(`the rule "${missing.value}" is not defined`, missing.at);
    return { root: rule("root"), rules };
  }

  #alternatives(): Expression {
    const parts = [this.#terms()];
    while (this.#sign("|")) parts.push(this.#terms());
    return either(...parts);
  }

  #terms(): Expression {
    const parts: Expression[] = [];
    for (let atom = this.#atom(); atom !== null; atom = this.#atom()) parts.push(this.#repeated(atom));
    return sequence(...parts);
  }

  /** `null` where no more terms stand. */
  #atom(): Expression | null {
    const token = this.#tokens[this.#next];
    if (!token || (token.kind === "name" && this.#tokens[this.#next + 1]?.kind === "defines")) return null;
    if (token.kind === "sign" && (token.value === "|" || token.value === ")")) return null;
    this.#next++;
    if (token.kind === "name") return rule(token.value);
    if (token.kind === "text") return text(String.fromCodePoint(...this.#points(token, token.value.slice(1, -1))));
    if (token.kind === "class") return this.#class(token);
    if (token.value === ".") return { type: "class", ranges: [], negated: true };
    if (token.value === "(") return this.#group(token);
    throw this.#error(`${token.value} stands behind nothing`, token.at);
  }

  #group(open: Token): Expression {
    if (++this.#depth > DEEPEST_GROUP) throw this.#error(`groups are nested deeper than ${DEEPEST_GROUP}`, open.at);
    const group = this.#alternatives();
    if (!this.#sign(")")) throw this.#error("a ( is not closed", open.at);
    this.#depth--;
    return group;
  }

  #repeated(atom: Expression): Expression {
    if (this.#sign("?")) return this.#repeated(repeat(atom, 0, 1));
    if (this.#sign("*")) return this.#repeated(repeat(atom, 0, null));
    if (this.#sign("+")) return this.#repeated(repeat(atom, 1, null));
    const count = this.#take("count");
    if (!count) return atom;
    const [least, most] = count.value
      .slice(1, -1)
      .split(",")
      .map((part) => part.trim());
    const from = Number(least);
    const to = most === undefined ? from : most === "" ? null : Number(most);
    if (to !== null && to < from) throw this.#error(`${count.value} counts backwards`, count.at);
    if (Math.max(from, to ?? 0) > MOST_REPEATS)
      throw this.#error(`${count.value}: at most ${MOST_REPEATS} repetitions are possible`, count.at);
    return this.#repeated(repeat(atom, from, to));
  }

  #class(token: Token): Expression {
    const inside = token.value.slice(1, -1);
    const negated = inside.startsWith("^");
    const points = this.#points(token, negated ? inside.slice(1) : inside, "-");
    const ranges: CodeRange[] = [];
    for (let i = 0; i < points.length; i++) {
      const ranged = points[i + 1] === HYPHEN && i + 2 < points.length;
      const first = points[i] === HYPHEN ? 0x2d : points[i]!;
      const last = ranged ? (points[i + 2] === HYPHEN ? 0x2d : points[i + 2]!) : first;
      if (last < first) throw this.#error("a range of characters runs backwards", token.at);
      ranges.push([first, last]);
      if (ranged) i += 2;
    }
    if (ranges.length === 0 && !negated) throw this.#error("[] matches nothing", token.at);
    return { type: "class", ranges, negated };
  }

  /** Code points of an escaped text; a hyphen that is not escaped is {@link HYPHEN} where that means something. */
  #points(token: Token, inside: string, special?: "-"): number[] {
    const points: number[] = [];
    const pieces = /\\x([0-9a-f]{2})|\\u([0-9a-f]{4})|\\U([0-9a-f]{8})|\\(.)|(.)/gisu;
    for (const [, x, u, long, escaped, plain] of inside.matchAll(pieces)) {
      const hex = x ?? u ?? long;
      if (hex !== undefined) points.push(Number.parseInt(hex, 16));
      else if (plain !== undefined) points.push(plain === special ? HYPHEN : plain.codePointAt(0)!);
      else if (/[A-Za-z0-9]/.test(escaped!) && CONTROLS[escaped!] === undefined)
        throw this.#error(`\\${escaped} is not an escape`, token.at);
      else points.push(CONTROLS[escaped!] ?? escaped!.codePointAt(0)!);
    }
    if (points.some((point) => point > LAST_CODE_POINT || (point >= 0xd800 && point <= 0xdfff)))
      throw this.#error("an escape names no character", token.at);
    return points;
  }

  #take(kind: Token["kind"]): Token | null {
    const token = this.#tokens[this.#next];
    if (token?.kind !== kind) return null;
    this.#next++;
    return token;
  }

  #sign(value: string): boolean {
    const token = this.#tokens[this.#next];
    if (token?.kind !== "sign" || token.value !== value) return false;
    this.#next++;
    return true;
  }

  #tokenize(): Token[] {
    const tokens: Token[] = [];
    for (let at = 0; at < this.#source.length; ) {
      const found = TOKENS.map(([kind, form]) => {
        form.lastIndex = at;
        return { kind, value: form.exec(this.#source)?.[0] };
      }).find(({ value }) => value !== undefined);
      if (!found) throw this.#error(`${JSON.stringify(this.#source.slice(at, at + 12))} cannot be read`, at);
      if (found.kind) tokens.push({ kind: found.kind, value: found.value!, at });
      at += found.value!.length;
    }
    return tokens;
  }

  #error(what: string, at = this.#tokens[this.#next]?.at ?? this.#source.length): ConstraintError {
    const line = this.#source.slice(0, at).split("\n").length;
    return new ConstraintError(`the grammar cannot be used: ${what} (line ${line})`, { details: { line, at } });
  }
}

/** Stands for a hyphen between the two ends of a range. */
const HYPHEN = -1;
