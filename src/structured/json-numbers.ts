// JSON numbers as grammars, with bounds. Numbers have at most 15 digits before the point, so
// that what is written is also what a reader's 64-bit float holds, and an answer that likes
// digits comes to an end.

import { ConstraintError } from "./errors.js";
import { type Expression, either, oneOf, optional, repeat, sequence, text } from "./expression.js";

/** Bounds of a schema; `null`: none. */
export interface NumberBounds {
  readonly least: number | null;
  readonly most: number | null;
  /** The bound itself is out. */
  readonly leastOpen: boolean;
  readonly mostOpen: boolean;
}

/** Digits before the point, and behind it where there are bounds. */
const DIGITS = 15;
const DECIMALS = 6;
const LARGEST = 10n ** BigInt(DIGITS) - 1n;

const DIGIT = oneOf("0-9");
const WHOLE = either(text("0"), sequence(oneOf("1-9"), repeat(DIGIT, 0, DIGITS - 1)));

/** Any whole number of up to 15 digits. */
export const ANY_INTEGER: Expression = either(
  text("0"),
  sequence(optional(text("-")), oneOf("1-9"), repeat(DIGIT, 0, DIGITS - 1)),
);

/** Any number; its exponent has at most two digits, so that no reader makes infinity of it. */
export const ANY_NUMBER: Expression = sequence(
  optional(text("-")),
  WHOLE,
  optional(sequence(text("."), repeat(DIGIT, 1, DIGITS))),
  optional(sequence(oneOf("eE"), optional(oneOf("+-")), repeat(DIGIT, 1, 2))),
);

/** @throws {ConstraintError} when no number that can be written lies within the bounds */
export function boundedInteger(bounds: NumberBounds): Expression {
  return oneOfScales(bounds, [0]);
}

/** Whole numbers and decimal fractions within the bounds, without exponents. @throws {ConstraintError} */
export function boundedNumber(bounds: NumberBounds): Expression {
  return oneOfScales(
    bounds,
    Array.from({ length: DECIMALS + 1 }, (_, decimals) => decimals),
  );
}

function oneOfScales(bounds: NumberBounds, scales: readonly number[]): Expression {
  const parts = scales.flatMap((decimals) => {
    const [least, most] = scaled(bounds, decimals);
    return [...negatives(least, most, decimals), ...positives(least, most, decimals)];
  });
  if (parts.length === 0)
    throw new ConstraintError(`no number lies within the bounds: ${JSON.stringify(bounds)}`, {
      hint: `Numbers of up to ${DIGITS} digits, with up to ${DECIMALS} behind the point, can be written.`,
    });
  return either(...parts);
}

/** Bounds, included, in units of 10^−decimals. */
function scaled({ least, most, leastOpen, mostOpen }: NumberBounds, decimals: number): [bigint, bigint] {
  const limit = (LARGEST + 1n) * 10n ** BigInt(decimals) - 1n;
  let from = -limit;
  let to = limit;
  if (least !== null) {
    const [unit, exact] = floorUnits(least, decimals);
    from = largest(from, exact && !leastOpen ? unit : unit + 1n);
  }
  if (most !== null) {
    const [unit, exact] = floorUnits(most, decimals);
    to = smallest(to, exact && mostOpen ? unit - 1n : unit);
  }
  return [from, to];
}

/** `value` in units of 10^−decimals, rounded down; whether that is exact. Read from its decimal notation. */
function floorUnits(value: number, decimals: number): [bigint, boolean] {
  const [, sign, whole, fraction = "", exponent = "0"] = /^(-?)(\d+)(?:\.(\d+))?(?:e([+-]\d+))?$/.exec(String(value))!;
  const shift = decimals + Number(exponent) - fraction.length;
  let units = BigInt(`${sign}${whole}${fraction}`);
  if (shift >= 0) return [units * 10n ** BigInt(shift), true];
  const divisor = 10n ** BigInt(-shift);
  const exact = units % divisor === 0n;
  units = units / divisor - (units < 0n && !exact ? 1n : 0n);
  return [units, exact];
}

function positives(least: bigint, most: bigint, decimals: number): Expression[] {
  return magnitudes(largest(least, 0n), most, decimals);
}

/** Without −0. */
function negatives(least: bigint, most: bigint, decimals: number): Expression[] {
  const parts = magnitudes(largest(-most, 1n), -least, decimals);
  return parts.length === 0 ? [] : [sequence(text("-"), either(...parts))];
}

/** Numbers from `from` to `to`, at least 0, in units of 10^−decimals. */
function magnitudes(from: bigint, to: bigint, decimals: number): Expression[] {
  const parts: Expression[] = [];
  for (let length = decimals + 1; length <= decimals + DIGITS; length++) {
    const shortest = length === decimals + 1 ? 0n : 10n ** BigInt(length - 1);
    const first = largest(from, shortest);
    const last = smallest(to, 10n ** BigInt(length) - 1n);
    if (first > last) continue;
    const [low, high] = [first, last].map((value) => value.toString().padStart(length, "0"));
    parts.push(sameLength(low!, high!, decimals));
  }
  return parts;
}

/** Digit strings between `low` and `high`, all equally long, with a point before the last `decimals`. */
function sameLength(low: string, high: string, decimals: number): Expression {
  if (low === "") return text("");
  const point = decimals > 0 && decimals === low.length ? text(".") : text("");
  const rest = (from: string, to: string): Expression => sameLength(from, to, decimals);
  const [first, last] = [Number(low[0]), Number(high[0])];
  const [lowRest, highRest] = [low.slice(1), high.slice(1)];
  const zeros = "0".repeat(lowRest.length);
  const nines = "9".repeat(lowRest.length);
  if (first === last) return sequence(point, text(String(first)), rest(lowRest, highRest));
  const parts: Expression[] = [];
  const fromWhole = lowRest === zeros ? first : first + 1;
  const toWhole = highRest === nines ? last : last - 1;
  if (fromWhole > first) parts.push(sequence(point, text(String(first)), rest(lowRest, nines)));
  if (fromWhole <= toWhole) parts.push(sequence(point, digits(fromWhole, toWhole), anyDigits(lowRest.length, decimals)));
  if (toWhole < last) parts.push(sequence(point, text(String(last)), rest(zeros, highRest)));
  return either(...parts);
}

function digits(from: number, to: number): Expression {
  return from === to ? text(String(from)) : oneOf(`${from}-${to}`);
}

/** So many digits, with a point before the last `decimals`. */
function anyDigits(count: number, decimals: number): Expression {
  if (decimals === 0 || count < decimals) return repeat(DIGIT, count, count);
  return sequence(repeat(DIGIT, count - decimals, count - decimals), text("."), repeat(DIGIT, decimals, decimals));
}

function largest(a: bigint, b: bigint): bigint {
  return a > b ? a : b;
}

function smallest(a: bigint, b: bigint): bigint {
  return a < b ? a : b;
}
