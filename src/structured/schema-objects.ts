// Objects of a JSON Schema as grammars: listed properties in their order, optional ones left
// out or not, then further ones under names that are not listed.

import { type Expression, either, NOTHING, optional, repeat, rule, sequence, text } from "./expression.js";
import { ANY_STRING, stringExcept } from "./json-strings.js";
import type { SchemaContext } from "./schema-context.js";
import { asSchema, escapePointer, readCount, readNames, type Schema, schemaError, shortJson } from "./schema-keywords.js";

interface Property {
  readonly pair: Expression;
  readonly required: boolean;
}

const COMMA = text(", ");
const COLON = text(": ");

export class ObjectGrammar {
  readonly #context: SchemaContext;
  readonly #schema: Schema;
  readonly #path: string;

  constructor(context: SchemaContext, schema: Schema, path: string) {
    this.#context = context;
    this.#schema = schema;
    this.#path = path;
  }

  /** `null`: no object satisfies it. */
  expression(): Expression | null {
    const listed = this.#listed();
    const further = this.#further();
    const properties = this.#properties(listed, further);
    if (properties === null) return null;
    const counts = this.#counts(properties);
    if (further === null) return braces(this.#members(properties, NOTHING, NOTHING));
    const key = this.#furtherKey([...listed.keys()]);
    const pair = this.#context.define("pair", sequence(key, COLON, further));
    if (properties.length > 0) {
      const more = repeat(sequence(COMMA, pair), 0, null);
      return braces(this.#members(properties, optional(sequence(pair, more)), more));
    }
    return braces(pairs(pair, counts.least, counts.most));
  }

  /** Any object whose values are `value`. */
  open(value: Expression): Expression {
    return braces(pairs(sequence(rule(ANY_STRING), COLON, value), 0, null));
  }

  #listed(): ReadonlyMap<string, unknown> {
    const { properties = {} } = this.#schema;
    if (typeof properties !== "object" || properties === null || Array.isArray(properties))
      throw schemaError("properties is not an object", `${this.#path}/properties`);
    return new Map(Object.entries(properties));
  }

  /** Grammar of the values of properties that are not listed; `null`: there are none. */
  #further(): Expression | null {
    const { additionalProperties, properties } = this.#schema;
    if (additionalProperties === undefined)
      return this.#context.strict && properties !== undefined ? null : this.#context.anyValue;
    return this.#context.value(additionalProperties, `${this.#path}/additionalProperties`);
  }

  #properties(listed: ReadonlyMap<string, unknown>, further: Expression | null): Property[] | null {
    const required = new Set(readNames(this.#schema, "required", this.#path));
    const properties: Property[] = [];
    for (const [name, schema] of listed) {
      const value = this.#context.value(schema, `${this.#path}/properties/${escapePointer(name)}`);
      if (value === null && required.has(name)) return null;
      if (value !== null) properties.push({ pair: pairOf(name, value), required: required.has(name) });
    }
    for (const name of required) {
      if (listed.has(name)) continue;
      const { additionalProperties } = this.#schema;
      const value = additionalProperties === undefined ? this.#context.anyValue : further;
      if (value === null)
        throw schemaError(`"${name}" is required, and no property of that name is possible`, `${this.#path}/required`);
      properties.push({ pair: pairOf(name, value), required: true });
    }
    return properties;
  }

  #counts(properties: readonly Property[]): { least: number; most: number | null } {
    const least = readCount(this.#schema, "minProperties", this.#path) ?? 0;
    const most = readCount(this.#schema, "maxProperties", this.#path);
    if (least === 0 && most === null) return { least, most };
    const required = properties.filter((property) => property.required).length;
    const harmless = least <= required && (most === null || (properties.length <= most && this.#further() === null));
    // Names may come twice, and count once then.
    if (!harmless && (properties.length > 0 || least > 1 || (most !== null && most < least)))
      throw schemaError(
        "minProperties and maxProperties are supported for objects without listed properties, with at most 1 as the least",
        this.#path,
      );
    return { least, most };
  }

  #furtherKey(listed: readonly string[]): Expression {
    const { propertyNames } = this.#schema;
    if (propertyNames !== undefined && propertyNames !== true) {
      const path = `${this.#path}/propertyNames`;
      const schema = asSchema(propertyNames, path);
      if (listed.length > 0 && !isAnyString(schema)) throw schemaError("propertyNames stands beside properties", path);
      const key = this.#context.value(typeof schema === "object" ? { type: "string", ...schema } : schema, path);
      if (key === null) throw schemaError(`propertyNames ${shortJson(propertyNames)} allows no name`, path);
      if (listed.length === 0) return key;
    }
    return listed.length === 0 ? rule(ANY_STRING) : stringExcept(listed);
  }

  /**
   * @param alone what may stand where nothing stands before it
   * @param behind what may follow the listed properties, commas included
   */
  #members(properties: readonly Property[], alone: Expression, behind: Expression): Expression {
    let afterOthers = behind;
    let first = alone;
    for (const [index, { pair, required }] of [...properties].reverse().entries()) {
      const begun = sequence(pair, afterOthers);
      first = required ? begun : either(begun, first);
      const next = sequence(COMMA, pair);
      afterOthers = sequence(required ? next : optional(next), afterOthers);
      // Written once, not once for each property before it that may be left out.
      if (index % 8 === 7 || !required) {
        afterOthers = this.#context.define("after", afterOthers);
        first = this.#context.define("first", first);
      }
    }
    return first;
  }
}

function pairOf(name: string, value: Expression): Expression {
  return sequence(text(JSON.stringify(name)), COLON, value);
}

function pairs(pair: Expression, least: number, most: number | null): Expression {
  if (most === 0) return NOTHING;
  const some = sequence(pair, repeat(sequence(COMMA, pair), Math.max(0, least - 1), most === null ? null : most - 1));
  return least === 0 ? optional(some) : some;
}

function braces(members: Expression): Expression {
  return sequence(text("{"), members, text("}"));
}

function isAnyString(schema: unknown): boolean {
  return (
    typeof schema === "object" &&
    schema !== null &&
    Object.entries(schema).every(([key, value]) => key === "type" && value === "string")
  );
}
