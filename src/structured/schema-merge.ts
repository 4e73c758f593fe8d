// Two schemas that must both hold, as one: `allOf`, and keywords beside `$ref` or `anyOf`.
// Where joining them would need more than putting their keywords together it is refused.

import { isDeepStrictEqual } from "node:util";
import { type Schema, schemaError } from "./schema-keywords.js";

/** @throws {ConstraintError} where both say different things by one keyword */
export function mergeSchemas(first: Schema, second: Schema, path: string): Schema {
  const merged: Record<string, unknown> = { ...first };
  refuseHiddenProperties(first, second, path);
  refuseHiddenProperties(second, first, path);
  for (const [keyword, value] of Object.entries(second)) {
    const own = merged[keyword];
    if (own === undefined || isDeepStrictEqual(own, value)) merged[keyword] = value;
    else if (keyword === "required" && Array.isArray(own) && Array.isArray(value))
      merged.required = [...new Set([...own, ...value])];
    else if (keyword === "properties") merged.properties = mergeProperties(own as Schema, value as Schema, path);
    else if (keyword === "minimum" || keyword === "minLength" || keyword === "minItems")
      merged[keyword] = Math.max(own as number, value as number);
    else if (keyword === "maximum" || keyword === "maxLength" || keyword === "maxItems")
      merged[keyword] = Math.min(own as number, value as number);
    else if (keyword === "type") merged.type = commonType(own, value, path);
    else
      throw schemaError(`two schemas that must both hold say different things by "${keyword}"`, path, {
        hint: "Write them as one schema.",
        keyword,
      });
  }
  return merged;
}

/** `additionalProperties` forbids what only the other schema lists. */
function refuseHiddenProperties(closed: Schema, other: Schema, path: string): void {
  if (closed.additionalProperties === undefined || closed.additionalProperties === true || other.properties === undefined) return;
  const own = Object.keys((closed.properties as object | undefined) ?? {});
  const hidden = Object.keys(Object(other.properties)).find((name) => !own.includes(name));
  if (hidden !== undefined)
    throw schemaError(`additionalProperties of one schema speaks of "${hidden}" of another that must hold, too`, path, {
      hint: "Write them as one schema.",
      keyword: "additionalProperties",
    });
}

function mergeProperties(first: Schema, second: Schema, path: string): Schema {
  const merged: Record<string, unknown> = { ...first };
  for (const [name, value] of Object.entries(second))
    merged[name] = Object.hasOwn(first, name) ? { allOf: [first[name], value] } : value;
  if (Object.hasOwn(merged, "__proto__")) throw schemaError("a property is called __proto__", path);
  return merged;
}

function commonType(first: unknown, second: unknown, path: string): unknown {
  const list = (type: unknown): unknown[] => (Array.isArray(type) ? type : [type]);
  const narrow = (type: unknown, others: unknown[]): unknown[] =>
    others.includes(type)
      ? [type]
      : type === "integer" && others.includes("number")
        ? ["integer"]
        : type === "number" && others.includes("integer")
          ? ["integer"]
          : [];
  const common = [...new Set(list(first).flatMap((type) => narrow(type, list(second))))];
  if (common.length === 0) throw schemaError("two schemas that must both hold want different types", path, { keyword: "type" });
  return common;
}
