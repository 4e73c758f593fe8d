// A JSON Schema as a grammar: every text that the grammar allows is JSON that the schema
// accepts. Not every such JSON is allowed: it is written on one line, the properties come in
// the schema's order, and some forms are narrower than the schema (numbers of 15 digits, no
// escapes in strings of bounded length). What cannot be kept is refused, never ignored.

import { choiceOf } from "./choices.js";
import { type Expression, either, type Grammar, rule, text } from "./expression.js";
import { NUMBER_FORMATS } from "./json-formats.js";
import { ANY_INTEGER, ANY_NUMBER } from "./json-numbers.js";
import { ANY_STRING, STRING_RULES } from "./json-strings.js";
import { keepProductive } from "./productive.js";
import { ArrayGrammar } from "./schema-arrays.js";
import type { SchemaContext } from "./schema-context.js";
import { areDisjoint } from "./schema-disjoint.js";
import {
  asSchema,
  constrainingPart,
  KEYWORDS_OF,
  readList,
  readTypes,
  type Schema,
  schemaError,
  shortJson,
  typeOfValue,
  VALUE_TYPES,
  type ValueType,
} from "./schema-keywords.js";
import { mergeSchemas } from "./schema-merge.js";
import { ObjectGrammar } from "./schema-objects.js";
import { resolveReference } from "./schema-references.js";
import { numberExpression, stringExpression } from "./schema-scalars.js";

const DEEPEST = 64;
const MOST_SCHEMAS = 20_000;

/** Name of the rule for any JSON value. */
const ANY_VALUE = "value";

export interface SchemaOptions {
  /** Objects that list their properties take no others unless they say `additionalProperties`. */
  readonly strict: boolean;
}

/** @throws {ConstraintError} naming the keyword and its place */
export function schemaGrammar(schema: unknown, options: SchemaOptions): Grammar {
  return keepProductive(new SchemaCompiler(schema, options).grammar());
}

class SchemaCompiler implements SchemaContext {
  readonly strict: boolean;
  readonly anyValue = rule(ANY_VALUE);
  readonly #root: unknown;
  readonly #rules = new Map<string, Expression>(STRING_RULES);
  readonly #wanted: string[] = [];
  #depth = 0;
  #schemas = 0;

  constructor(root: unknown, { strict }: SchemaOptions) {
    this.#root = root;
    this.strict = strict;
  }

  grammar(): Grammar {
    this.#rules.set(ANY_VALUE, either(...VALUE_TYPES.filter((type) => type !== "integer").map((type) => this.#anyOfType(type))));
    this.#rules.set("object", new ObjectGrammar(this, {}, "").open(this.anyValue));
    this.#rules.set("array", new ArrayGrammar(this, {}, "").any());
    const root = this.#reference("#");
    for (let pointer = this.#wanted.shift(); pointer !== undefined; pointer = this.#wanted.shift()) {
      const value = this.value(resolveReference(this.#root, pointer, ""), pointer.slice(1));
      if (value === null) throw schemaError("it is false: nothing satisfies it", pointer.slice(1));
      this.#rules.set(pointer, value);
    }
    return { root, rules: this.#rules };
  }

  define(hint: string, expression: Expression): Expression {
    const name = `${hint} ${this.#rules.size}`;
    this.#rules.set(name, expression);
    return rule(name);
  }

  value(given: unknown, path: string): Expression | null {
    const schema = asSchema(given, path);
    if (schema === true) return this.anyValue;
    if (schema === false) return null;
    if (++this.#schemas > MOST_SCHEMAS) throw schemaError(`it has more than ${MOST_SCHEMAS} parts`, path);
    if (++this.#depth > DEEPEST) throw schemaError(`it is nested deeper than ${DEEPEST}`, path);
    const expression = this.#constrained(constrainingPart(schema, path), path);
    this.#depth--;
    return expression;
  }

  /** Of a pointer into the root schema; its rule is made later, once, so that schemas may refer to themselves. */
  #reference(pointer: string): Expression {
    if (!this.#rules.has(pointer) && !this.#wanted.includes(pointer)) this.#wanted.push(pointer);
    return rule(pointer);
  }

  #constrained(schema: Schema, path: string): Expression | null {
    const { $ref, allOf, anyOf, oneOf, ...rest } = schema;
    const alone = Object.keys(schema).length === 1;
    if ($ref !== undefined) {
      if (typeof $ref !== "string" || !$ref.startsWith("#"))
        throw schemaError(`$ref ${shortJson($ref)} points outside the schema`, `${path}/$ref`, { keyword: "$ref" });
      const target = resolveReference(this.#root, $ref, `${path}/$ref`);
      if (alone) return this.#reference($ref);
      return this.#merged({ ...rest, allOf, anyOf, oneOf }, target, path, $ref.slice(1));
    }
    if (allOf !== undefined) {
      let merged: Schema = { ...rest, ...(anyOf === undefined ? {} : { anyOf }), ...(oneOf === undefined ? {} : { oneOf }) };
      for (const [index, part] of readList(schema, "allOf", path).entries()) {
        const at = `${path}/allOf/${index}`;
        const partSchema = this.#dereferenced(part, at);
        if (partSchema === false) return null;
        if (partSchema !== true) merged = mergeSchemas(merged, constrainingPart(partSchema, at), path);
      }
      return this.value(merged, path);
    }
    if (anyOf !== undefined && oneOf !== undefined) throw schemaError("anyOf and oneOf stand side by side", path);
    const keyword = anyOf !== undefined ? "anyOf" : oneOf !== undefined ? "oneOf" : null;
    return keyword ? this.#alternatives(schema, rest, keyword, path) : this.#plain(rest, path);
  }

  /** `rest` and what a reference leads to must both hold. */
  #merged(rest: Schema, target: unknown, path: string, targetPath: string): Expression | null {
    const schema = asSchema(target, targetPath);
    if (schema === false) return null;
    const own = constrainingPart(rest, path);
    return this.value(schema === true ? own : mergeSchemas(own, constrainingPart(schema, targetPath), path), path);
  }

  #alternatives(schema: Schema, rest: Schema, keyword: "anyOf" | "oneOf", path: string): Expression | null {
    const branches = readList(schema, keyword, path);
    if (keyword === "oneOf") this.#refuseOverlap(branches, path);
    const parts = branches.map((branch, index) => {
      const at = `${path}/${keyword}/${index}`;
      if (Object.keys(rest).length === 0) return this.value(branch, at);
      const target = this.#dereferenced(branch, at);
      if (target === false) return null;
      return this.value(target === true ? rest : mergeSchemas(rest, constrainingPart(target, at), at), at);
    });
    const possible = parts.filter((part) => part !== null);
    return possible.length === 0 ? null : either(...possible);
  }

  /** Exactly one may hold: as alternatives that is true only if no two can hold at once. */
  #refuseOverlap(branches: readonly unknown[], path: string): void {
    const schemas = branches.map((branch, index) => this.#dereferenced(branch, `${path}/oneOf/${index}`));
    for (const [i, first] of schemas.entries())
      for (const second of schemas.slice(i + 1))
        if (!areDisjoint(first, second))
          throw schemaError(
            "alternatives of oneOf are not told apart by their type or by a property of theirs",
            `${path}/oneOf`,
            {
              hint: "Use anyOf.",
              keyword: "oneOf",
            },
          );
  }

  #dereferenced(given: unknown, path: string): Schema | boolean {
    let schema = asSchema(given, path);
    for (let hops = 0; typeof schema === "object" && typeof schema.$ref === "string"; hops++) {
      const { $ref, ...rest } = constrainingPart(schema, path) as { $ref: string } & Schema;
      if (Object.keys(rest).length > 0) return schema;
      if (hops > DEEPEST || !$ref.startsWith("#"))
        throw schemaError(`$ref ${shortJson($ref)} leads nowhere`, path, { keyword: "$ref" });
      schema = asSchema(resolveReference(this.#root, $ref, path), $ref.slice(1));
    }
    return schema;
  }

  #plain(schema: Schema, path: string): Expression | null {
    const types = readTypes(schema, path);
    if (schema.enum !== undefined || schema.const !== undefined) return this.#listed(schema, types, path);
    const spokenOf = VALUE_TYPES.filter((type) => KEYWORDS_OF[type]?.some((keyword) => schema[keyword] !== undefined));
    if (schema.format !== undefined && !(typeof schema.format === "string" && NUMBER_FORMATS.has(schema.format)))
      spokenOf.push("string");
    const possible = types ?? (spokenOf.length > 0 ? [...new Set(spokenOf)] : null);
    if (possible === null) return this.anyValue;
    const stray = spokenOf.find((type) => !possible.includes(type) && !(type === "number" && possible.includes("integer")));
    if (stray !== undefined)
      throw schemaError(`it has keywords for a value of type ${stray}, and its type is ${possible.join(" or ")}`, path);
    const parts = possible.map((type) => this.#ofType(type, schema, path)).filter((part) => part !== null);
    return parts.length === 0 ? null : either(...parts);
  }

  #listed(schema: Schema, types: readonly ValueType[] | null, path: string): Expression | null {
    const beside = Object.keys(schema).find((keyword) => !["enum", "const", "type", "format"].includes(keyword));
    if (beside !== undefined)
      throw schemaError(`${beside} stands beside enum or const`, path, { hint: "Leave it out.", keyword: beside });
    let values = schema.enum === undefined ? [schema.const] : readList(schema, "enum", path);
    if (schema.enum !== undefined && schema.const !== undefined)
      values = values.filter((value) => JSON.stringify(value) === JSON.stringify(schema.const));
    if (types)
      values = values.filter((value) => {
        const type = typeOfValue(value);
        return types.includes(type) || (type === "integer" && types.includes("number"));
      });
    return values.length === 0 ? null : choiceOf(values.map((value) => JSON.stringify(value)));
  }

  #ofType(type: ValueType, schema: Schema, path: string): Expression | null {
    switch (type) {
      case "object":
        return new ObjectGrammar(this, schema, path).expression();
      case "array":
        return new ArrayGrammar(this, schema, path).expression();
      case "string":
        return stringExpression(schema, path, this.#shared);
      case "number":
      case "integer":
        return numberExpression(type, schema, path, this.#shared);
      default:
        return this.#anyOfType(type);
    }
  }

  #anyOfType(type: ValueType): Expression {
    switch (type) {
      case "string":
        return rule(ANY_STRING);
      case "number":
        return ANY_NUMBER;
      case "integer":
        return ANY_INTEGER;
      case "boolean":
        return either(text("true"), text("false"));
      case "null":
        return text("null");
      default:
        return rule(type);
    }
  }

  /** What is long and may be wanted often is written once. */
  readonly #shared = (name: string, make: () => Expression): Expression => {
    if (!this.#rules.has(name)) this.#rules.set(name, make());
    return rule(name);
  };
}
