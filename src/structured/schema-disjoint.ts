// Whether two schemas can be told apart at a glance: by their types, by the values they list,
// or by a property that both require with different values (a discriminated union).

import { type Schema, typeOfValue } from "./schema-keywords.js";

/** `false` means: not known to be disjoint. */
export function areDisjoint(first: Schema | boolean, second: Schema | boolean): boolean {
  if (first === false || second === false) return true;
  if (first === true || second === true) return false;
  const [types, otherTypes] = [typesOf(first), typesOf(second)];
  if (types && otherTypes && !types.some((type) => otherTypes.includes(type))) return true;
  const [values, otherValues] = [valuesOf(first), valuesOf(second)];
  if (values && otherValues) return !values.some((value) => otherValues.includes(value));
  const onlyObjects = types?.join() === "object" && otherTypes?.join() === "object";
  return onlyObjects && requiredBoth(first, second).some((name) => disjointProperty(first, second, name));
}

function typesOf({ type, ...schema }: Schema): string[] | null {
  const list = type === undefined ? null : Array.isArray(type) ? (type as string[]) : [type as string];
  const widened = list?.map((name) => (name === "integer" ? "number" : name));
  const values = schema.enum ?? (schema.const === undefined ? undefined : [schema.const]);
  if (widened || !Array.isArray(values)) return widened ?? null;
  return values.map((value) => typeOfValue(value)).map((name) => (name === "integer" ? "number" : name));
}

function valuesOf(schema: Schema): string[] | null {
  const values = schema.enum ?? (schema.const === undefined ? undefined : [schema.const]);
  return Array.isArray(values) ? values.map((value) => JSON.stringify(value)) : null;
}

function requiredBoth(first: Schema, second: Schema): string[] {
  const [own, other] = [first.required, second.required];
  if (!Array.isArray(own) || !Array.isArray(other)) return [];
  return own.filter((name): name is string => typeof name === "string" && other.includes(name));
}

function disjointProperty(first: Schema, second: Schema, name: string): boolean {
  const values = (schema: Schema): string[] | null => {
    const property = (Object(schema.properties) as Record<string, unknown>)[name];
    return typeof property === "object" && property !== null ? valuesOf(property as Schema) : null;
  };
  const [own, other] = [values(first), values(second)];
  return own !== null && other !== null && !own.some((value) => other.includes(value));
}
