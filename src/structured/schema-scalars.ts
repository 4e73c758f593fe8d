// Strings and numbers of a JSON Schema as grammars.

import { type Expression, rule } from "./expression.js";
import { FORMATS } from "./json-formats.js";
import { ANY_INTEGER, ANY_NUMBER, boundedInteger, boundedNumber } from "./json-numbers.js";
import { ANY_STRING, JSON_CHARACTERS, quoted, stringOfLength } from "./json-strings.js";
import { regexExpression } from "./regex.js";
import { readCount, readNumber, type Schema, schemaError, shortJson } from "./schema-keywords.js";

/** Writes what is long and may be wanted often once, under a name. */
type Shared = (name: string, make: () => Expression) => Expression;

/** A JSON string: of a pattern or a format, of bounded length, or any. */
export function stringExpression(schema: Schema, path: string, shared: Shared): Expression {
  const least = readCount(schema, "minLength", path);
  const most = readCount(schema, "maxLength", path);
  const bounded = (least !== null && least > 0) || most !== null;
  const { pattern, format } = schema;
  if (pattern !== undefined || format !== undefined) {
    if (bounded)
      throw schemaError(`minLength and maxLength stand beside ${pattern === undefined ? "format" : "pattern"}`, path, {
        hint: "Say the length in the pattern: ^[a-z]{3,8}$.",
      });
    return shared(`string ${JSON.stringify([pattern, format])}`, () => quoted(patternOf(pattern, format, path)));
  }
  if (!bounded) return rule(ANY_STRING);
  if (most !== null && most < (least ?? 0)) throw schemaError("maxLength is less than minLength", path);
  return stringOfLength(least ?? 0, most);
}

/** A JSON number within its bounds. */
export function numberExpression(type: "number" | "integer", schema: Schema, path: string, shared: Shared): Expression {
  const step = readNumber(schema, "multipleOf", path);
  if (step !== null && step !== 1)
    throw schemaError(`multipleOf ${step} is not supported`, `${path}/multipleOf`, {
      hint: "Leave it out, or list the numbers in an enum.",
    });
  const minimum = readNumber(schema, "minimum", path);
  const above = readNumber(schema, "exclusiveMinimum", path);
  const maximum = readNumber(schema, "maximum", path);
  const below = readNumber(schema, "exclusiveMaximum", path);
  const whole = type === "integer" || step === 1;
  if (minimum === null && above === null && maximum === null && below === null) return whole ? ANY_INTEGER : ANY_NUMBER;
  const leastOpen = above !== null && (minimum === null || above >= minimum);
  const mostOpen = below !== null && (maximum === null || below <= maximum);
  const bounds = { least: leastOpen ? above : minimum, leastOpen, most: mostOpen ? below : maximum, mostOpen };
  return shared(`number ${whole} ${JSON.stringify(bounds)}`, () => (whole ? boundedInteger(bounds) : boundedNumber(bounds)));
}

/** A format beside a pattern is the pattern's name. */
function patternOf(pattern: unknown, format: unknown, path: string): Expression {
  if (pattern === undefined) {
    const known = typeof format === "string" ? FORMATS.get(format) : undefined;
    if (known === undefined)
      throw schemaError(`format ${shortJson(format)} is not supported`, `${path}/format`, {
        hint: `The formats are ${[...FORMATS.keys()].join(", ")}; others can be said by a pattern.`,
        keyword: "format",
      });
    return regexExpression(known, { whole: true, writer: JSON_CHARACTERS });
  }
  if (typeof pattern !== "string") throw schemaError(`pattern is ${shortJson(pattern)}, not a text`, `${path}/pattern`);
  if (/\p{Surrogate}/u.test(pattern)) throw schemaError("pattern holds half of a character", `${path}/pattern`);
  return regexExpression(pattern, { whole: false, writer: JSON_CHARACTERS });
}
