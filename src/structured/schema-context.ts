// What the grammars of objects and arrays need of the schema that they are a part of.

import type { Expression } from "./expression.js";

export interface SchemaContext {
  /** Objects that list their properties take no others unless they say `additionalProperties`. */
  readonly strict: boolean;
  /** Any JSON value. */
  readonly anyValue: Expression;
  /** Grammar of a nested schema; `null`: nothing satisfies it (`false`). */
  value(schema: unknown, path: string): Expression | null;
  /** Names an expression, so that it is written once. */
  define(hint: string, expression: Expression): Expression;
}
