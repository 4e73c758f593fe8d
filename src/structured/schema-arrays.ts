// Arrays of a JSON Schema as grammars: a beginning of fixed items, then items of one kind.

import { type Expression, NOTHING, optional, repeat, sequence, text } from "./expression.js";
import type { SchemaContext } from "./schema-context.js";
import { readCount, type Schema, schemaError } from "./schema-keywords.js";

const COMMA = text(", ");

export class ArrayGrammar {
  readonly #context: SchemaContext;
  readonly #schema: Schema;
  readonly #path: string;

  constructor(context: SchemaContext, schema: Schema, path: string) {
    this.#context = context;
    this.#schema = schema;
    this.#path = path;
  }

  /** `null`: no array satisfies it. */
  expression(): Expression | null {
    const least = readCount(this.#schema, "minItems", this.#path) ?? 0;
    const most = readCount(this.#schema, "maxItems", this.#path);
    if (most !== null && most < least) throw schemaError("maxItems is less than minItems", this.#path);
    const fixed = this.#fixed();
    const rest = this.#rest(fixed.length > 0);
    const begin = fixed.slice(0, most ?? fixed.length);
    const values: Expression[] = [];
    for (const [index, item] of begin.entries()) {
      if (item === null && index < least) return null;
      if (item === null) break;
      values.push(item);
    }
    const more = values.length === fixed.length ? rest : null;
    if (more === null && values.length < least) return null;
    if (more === null) return brackets(joined(values));
    const room = most === null ? null : most - values.length;
    const needed = Math.max(0, least - values.length);
    if (values.length === 0) return brackets(list(more, needed, room));
    return brackets(sequence(joined(values), repeat(sequence(COMMA, more), needed, room)));
  }

  any(): Expression {
    return brackets(list(this.#context.anyValue, 0, null));
  }

  #fixed(): readonly (Expression | null)[] {
    const { prefixItems, items } = this.#schema;
    const [keyword, list] =
      prefixItems === undefined && Array.isArray(items) ? ["items", items] : ["prefixItems", prefixItems ?? []];
    if (!Array.isArray(list)) throw schemaError("prefixItems is not a list", `${this.#path}/prefixItems`);
    return list.map((item: unknown, index) => this.#context.value(item, `${this.#path}/${keyword}/${index}`));
  }

  /** Items behind the fixed ones; `null`: there are none. */
  #rest(hasFixed: boolean): Expression | null {
    const { items, additionalItems, prefixItems } = this.#schema;
    if (additionalItems !== undefined && !(prefixItems === undefined && Array.isArray(items)))
      throw schemaError("additionalItems stands beside no list of items", `${this.#path}/additionalItems`, {
        keyword: "additionalItems",
      });
    const schema = Array.isArray(items) ? additionalItems : items;
    if (schema === undefined) return hasFixed && this.#context.strict ? null : this.#context.anyValue;
    const item = this.#context.value(schema, `${this.#path}/${Array.isArray(items) ? "additionalItems" : "items"}`);
    return item === null ? null : this.#context.define("item", item);
  }
}

function joined(values: readonly Expression[]): Expression {
  return sequence(...values.flatMap((value, index) => (index === 0 ? [value] : [COMMA, value])));
}

function list(item: Expression, least: number, most: number | null): Expression {
  if (most === 0) return NOTHING;
  const some = sequence(item, repeat(sequence(COMMA, item), Math.max(0, least - 1), most === null ? null : most - 1));
  return least === 0 ? optional(some) : some;
}

function brackets(items: Expression): Expression {
  return sequence(text("["), items, text("]"));
}
