// JSON Schema's keywords, by what they speak of, and reading their values: a schema comes from
// outside, and what it says of itself is checked like anything else.

import { ConstraintError } from "./errors.js";

export type Schema = Readonly<Record<string, unknown>>;
export type ValueType = "object" | "array" | "string" | "number" | "integer" | "boolean" | "null";

export const VALUE_TYPES: readonly ValueType[] = ["object", "array", "string", "number", "integer", "boolean", "null"];

/** Keywords that speak of one type of value only. */
export const KEYWORDS_OF: Readonly<Partial<Record<ValueType, readonly string[]>>> = {
  object: ["properties", "required", "additionalProperties", "propertyNames", "minProperties", "maxProperties"],
  array: ["items", "prefixItems", "additionalItems", "minItems", "maxItems"],
  string: ["minLength", "maxLength", "pattern"],
  number: ["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"],
};

const COMBINING: readonly string[] = ["$ref", "anyOf", "oneOf", "allOf"];

/** Keywords that constrain nothing. */
const ANNOTATIONS: ReadonlySet<string> = new Set([
  ...["title", "description", "default", "example", "examples", "deprecated", "readOnly", "writeOnly", "contentEncoding"],
  ...["contentMediaType", "$schema", "$id", "$comment", "$defs", "definitions", "discriminator", "externalDocs", "xml"],
]);

/** Keywords that are supported only where they say nothing. */
const VACUOUS: ReadonlyMap<string, unknown> = new Map([
  ["uniqueItems", false],
  ["unevaluatedProperties", true],
  ["unevaluatedItems", true],
]);

const CONSTRAINING: readonly string[] = ["type", "enum", "const", "format", ...COMBINING, ...Object.values(KEYWORDS_OF).flat()];
const KNOWN: ReadonlySet<string> = new Set(CONSTRAINING);

function isAnnotation(keyword: string): boolean {
  return ANNOTATIONS.has(keyword) || keyword.startsWith("x-");
}

/** The schema without annotations and what is undefined. @throws {ConstraintError} naming a keyword that is not constrained here */
export function constrainingPart(schema: Schema, path: string): Schema {
  const kept: Record<string, unknown> = {};
  for (const [keyword, value] of Object.entries(schema)) {
    if (isAnnotation(keyword) || value === undefined || VACUOUS.get(keyword) === value) continue;
    if (!KNOWN.has(keyword))
      throw schemaError(`"${keyword}" is not supported`, `${path}/${escapePointer(keyword)}`, {
        hint:
          keyword === "nullable"
            ? 'Write "type": ["string", "null"] instead.'
            : `Leave it out, or say it in a description. Supported are ${CONSTRAINING.join(", ")}.`,
        keyword,
      });
    kept[keyword] = value;
  }
  return kept;
}

export function schemaError(what: string, path: string, options: { hint?: string; keyword?: string } = {}): ConstraintError {
  const { hint, keyword } = options;
  return new ConstraintError(`the JSON schema cannot be a constraint: ${what} (at ${path === "" ? "its root" : path})`, {
    ...(hint === undefined ? {} : { hint }),
    details: { path, ...(keyword === undefined ? {} : { keyword }) },
  });
}

export function escapePointer(key: string): string {
  return key.replace(/~/g, "~0").replace(/\//g, "~1");
}

/** A schema that is one: an object, `true` or `false`. */
export function asSchema(value: unknown, path: string): Schema | boolean {
  if (typeof value === "boolean") return value;
  if (typeof value === "object" && value !== null && !Array.isArray(value)) return value as Schema;
  throw schemaError(`${shortJson(value)} is not a schema`, path);
}

export function readCount(schema: Schema, keyword: string, path: string): number | null {
  const value = schema[keyword];
  if (value === undefined) return null;
  if (!Number.isSafeInteger(value) || (value as number) < 0)
    throw schemaError(`${keyword} is ${shortJson(value)}, not a count`, `${path}/${keyword}`);
  return value as number;
}

export function readNumber(schema: Schema, keyword: string, path: string): number | null {
  const value = schema[keyword];
  if (value === undefined) return null;
  if (typeof value !== "number" || !Number.isFinite(value))
    throw schemaError(`${keyword} is ${shortJson(value)}, not a number`, `${path}/${keyword}`);
  return value;
}

export function readList(schema: Schema, keyword: string, path: string): readonly unknown[] {
  const value = schema[keyword];
  if (!Array.isArray(value) || value.length === 0)
    throw schemaError(`${keyword} is not a list with something in it`, `${path}/${keyword}`);
  return value;
}

export function readTypes(schema: Schema, path: string): readonly ValueType[] | null {
  const { type } = schema;
  if (type === undefined) return null;
  const types: readonly unknown[] = Array.isArray(type) ? type : [type];
  const wrong = types.find((name) => !(VALUE_TYPES as readonly unknown[]).includes(name));
  if (types.length === 0 || wrong !== undefined)
    throw schemaError(`type ${shortJson(wrong ?? type)} is not one`, `${path}/type`, {
      hint: `The types are ${VALUE_TYPES.join(", ")}.`,
    });
  return [...new Set(types as ValueType[])];
}

export function readNames(schema: Schema, keyword: string, path: string): readonly string[] {
  const value = schema[keyword] ?? [];
  if (!Array.isArray(value) || !value.every((name) => typeof name === "string"))
    throw schemaError(`${keyword} is not a list of names`, `${path}/${keyword}`);
  return [...new Set(value as string[])];
}

export function typeOfValue(value: unknown): ValueType {
  if (value === null) return "null";
  if (Array.isArray(value)) return "array";
  if (typeof value === "number") return Number.isInteger(value) ? "integer" : "number";
  return typeof value as "string" | "boolean" | "object";
}

export function shortJson(value: unknown): string {
  const text = JSON.stringify(value) ?? String(value);
  return text.length > 60 ? `${text.slice(0, 60)}…` : text;
}
