// Says whether a value satisfies a JSON schema, for the keywords that constraints support. It
// shares no code with src/structured/: it judges values, where that makes texts.

type Schema = boolean | { readonly [keyword: string]: unknown };
type Rule = (
  value: unknown,
  keyword: never,
  schema: { readonly [keyword: string]: unknown },
  judge: (schema: Schema, value: unknown) => boolean,
) => boolean;

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value);
const onNumbers =
  (test: (value: number, bound: number) => boolean): Rule =>
  (value, bound) =>
    typeof value !== "number" || test(value, bound);
const onStrings =
  (test: (value: string, wanted: never) => boolean): Rule =>
  (value, wanted) =>
    typeof value !== "string" || test(value, wanted);
const onArrays =
  (test: (value: unknown[], wanted: never) => boolean): Rule =>
  (value, wanted) =>
    !Array.isArray(value) || test(value, wanted);
const length = (text: string): number => [...text].length;
const same = (a: unknown, b: unknown): boolean => JSON.stringify(a) === JSON.stringify(b);

const RULES: Record<string, Rule> = {
  type: (value, wanted: string | string[]) => [wanted].flat().some((type) => hasType(value, type)),
  enum: (value, values: unknown[]) => values.some((one) => same(one, value)),
  const: (value, wanted) => same(value, wanted),
  minimum: onNumbers((value, bound) => value >= bound),
  maximum: onNumbers((value, bound) => value <= bound),
  exclusiveMinimum: onNumbers((value, bound) => value > bound),
  exclusiveMaximum: onNumbers((value, bound) => value < bound),
  multipleOf: onNumbers((value, step) => Number.isInteger(value / step)),
  minLength: onStrings((value, least) => length(value) >= least),
  maxLength: onStrings((value, most) => length(value) <= most),
  pattern: onStrings((value, pattern) => new RegExp(pattern, "u").test(value)),
  minItems: onArrays((value, least) => value.length >= least),
  maxItems: onArrays((value, most) => value.length <= most),
  prefixItems: (value, items: Schema[], _schema, judge) =>
    !Array.isArray(value) || items.every((item, index) => index >= value.length || judge(item, value[index])),
  items: (value, items: Schema, schema, judge) =>
    !Array.isArray(value) ||
    value.slice(((schema.prefixItems as unknown[] | undefined) ?? []).length).every((item) => judge(items, item)),
  required: (value, names: string[]) => !isObject(value) || names.every((name) => Object.hasOwn(value, name)),
  properties: (value, properties: Record<string, Schema>, _schema, judge) =>
    !isObject(value) ||
    Object.entries(properties).every(([name, schema]) => !Object.hasOwn(value, name) || judge(schema, value[name])),
  additionalProperties: (value, further: Schema, schema, judge) =>
    !isObject(value) ||
    Object.entries(value).every(
      ([name, one]) => Object.hasOwn((schema.properties as object | undefined) ?? {}, name) || judge(further, one),
    ),
  propertyNames: (value, names: Schema, _schema, judge) =>
    !isObject(value) || Object.keys(value).every((name) => judge(names, name)),
  minProperties: (value, least) => !isObject(value) || Object.keys(value).length >= least,
  maxProperties: (value, most) => !isObject(value) || Object.keys(value).length <= most,
  anyOf: (value, schemas: Schema[], _schema, judge) => schemas.some((schema) => judge(schema, value)),
  allOf: (value, schemas: Schema[], _schema, judge) => schemas.every((schema) => judge(schema, value)),
  oneOf: (value, schemas: Schema[], _schema, judge) => schemas.filter((schema) => judge(schema, value)).length === 1,
};

/** @param schema with `$ref` to `#` and `#/…` of itself */
export function satisfies(root: Schema, value: unknown): boolean {
  const judge = (schema: Schema, one: unknown): boolean => {
    if (typeof schema === "boolean") return schema;
    if (typeof schema.$ref === "string" && !judge(resolve(root, schema.$ref), one)) return false;
    return Object.entries(schema).every(([keyword, wanted]) => RULES[keyword]?.(one, wanted as never, schema, judge) ?? true);
  };
  return judge(root, value);
}

function hasType(value: unknown, type: string): boolean {
  switch (type) {
    case "null":
      return value === null;
    case "array":
      return Array.isArray(value);
    case "object":
      return isObject(value);
    case "integer":
      return Number.isInteger(value);
    case "number":
      return typeof value === "number" && Number.isFinite(value);
    default:
      return typeof value === type;
  }
}

function resolve(root: Schema, pointer: string): Schema {
  let found: unknown = root;
  for (const key of pointer.split("/").slice(1))
    found = (found as Record<string, unknown>)[key.replace(/~1/g, "/").replace(/~0/g, "~")];
  return found as Schema;
}
