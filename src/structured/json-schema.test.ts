import fc from "fast-check";
import { afterAll, describe, expect, it } from "vitest";
import { byteVocabulary, describes, END, walk } from "../../test/support/byte-vocabulary.js";
import { satisfies } from "../../test/support/json-schema-judge.js";
import { ConstraintError } from "./errors.js";
import { StructuredOutput } from "./structured-output.js";

const structured = new StructuredOutput(byteVocabulary, [END]);
afterAll(() => structured.close());

type Schema = Record<string, unknown>;
const open = (schema: unknown, strict?: boolean) =>
  structured.open({ kind: "jsonSchema", schema, ...(strict === undefined ? {} : { strict }) });

/** Random numbers that a failing case repeats. */
function numbers(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (Math.imul(state ^ (state >>> 15), 0x2c1b3c6d) + 0x9e3779b9) >>> 0;
    return state / 2 ** 32;
  };
}

async function answers(schema: unknown, seed: number, strict?: boolean): Promise<unknown> {
  const matcher = await open(schema, strict);
  try {
    return JSON.parse(await walk(matcher, numbers(seed)));
  } finally {
    matcher.close();
  }
}

const bound = fc.oneof(
  fc.integer({ min: -1200, max: 1200 }),
  fc.double({ min: -50, max: 50, noNaN: true }).map((value) => Number(value.toFixed(3))),
);
const names = fc.constantFrom("a", "b", "name", "é", 'q"', "back\\slash", "");
const scalars: fc.Arbitrary<Schema> = fc.oneof(
  fc.constantFrom<Schema>(
    { type: "string" },
    { type: "boolean" },
    { type: "null" },
    { type: "integer" },
    { type: "number" },
    { type: ["string", "null"] },
  ),
  fc.constantFrom<Schema>(
    { enum: ["x", 1, null, { k: [1] }] },
    { const: "fixed" },
    { type: "string", enum: ["red", "green", "re"] },
  ),
  fc.constantFrom<Schema>(
    { type: "string", pattern: "^[a-c]+\\d{2}$" },
    { type: "string", pattern: '^x["\\\\\\n]y?$' },
    { type: "string", pattern: "^\\S+ \\w$" },
  ),
  fc.tuple(fc.nat(6), fc.nat(6)).map(([least, more]): Schema => ({ type: "string", minLength: least, maxLength: least + more })),
  fc
    .tuple(bound, bound)
    .map(([a, b]): Schema => ({ type: "number", minimum: Math.min(a, b), exclusiveMaximum: Math.max(a, b) + 1 })),
  fc
    .tuple(bound, fc.nat(300))
    .map(([a, more]): Schema => ({ type: "integer", exclusiveMinimum: a, maximum: Math.floor(a) + 1 + more })),
);
const schemas: fc.Arbitrary<Schema> = fc.letrec<{ schema: Schema }>((tie) => ({
  schema: fc.oneof(
    { maxDepth: 3, depthSize: "small" },
    scalars,
    fc
      .tuple(
        fc.uniqueArray(fc.tuple(names, tie("schema"), fc.boolean()), { maxLength: 4, selector: ([name]) => name }),
        fc.constantFrom(undefined, false, true, { type: "integer" }),
      )
      .map(
        ([list, further]): Schema => ({
          type: "object",
          properties: Object.fromEntries(list.map(([name, schema]) => [name, schema])),
          required: list.filter(([, , required]) => required).map(([name]) => name),
          ...(further === undefined ? {} : { additionalProperties: further }),
        }),
      ),
    fc
      .tuple(tie("schema"), fc.nat(2), fc.nat(2))
      .map(([items, least, more]): Schema => ({ type: "array", items, minItems: least, maxItems: least + more })),
    fc
      .tuple(tie("schema"), tie("schema"))
      .map(([first, second]): Schema => ({ type: "array", prefixItems: [first, second], items: false, minItems: 2 })),
    fc.array(tie("schema"), { minLength: 1, maxLength: 3 }).map((anyOf): Schema => ({ anyOf })),
    tie("schema").map((additionalProperties): Schema => ({ type: "object", additionalProperties })),
  ),
})).schema;

describe("a JSON schema as a constraint", () => {
  it("lets through only what the schema accepts, whatever is chosen", async () => {
    await fc.assert(
      fc.asyncProperty(schemas, fc.nat(), fc.boolean(), async (schema, seed, strict) => {
        const value = await answers(schema, seed, strict);
        expect(satisfies(schema, value), JSON.stringify(value)).toBe(true);
      }),
      { numRuns: 150 },
    );
  });

  const TREE = {
    $defs: {
      node: {
        type: "object",
        properties: { v: { type: "integer" }, next: { anyOf: [{ $ref: "#/$defs/node" }, { type: "null" }] } },
        required: ["v", "next"],
      },
    },
    $ref: "#/$defs/node",
  };
  it.each<[string, unknown, string[], string[]]>([
    [
      "properties in their order, optional ones left out",
      { type: "object", properties: { a: { type: "integer" }, b: {}, c: { type: "null" } }, required: ["b"] },
      ['{"a": 1, "b": [], "c": null}', '{"b": "x"}', '{"b": 1.5, "c": null}'],
      ['{"a": 1}', '{"b": 1, "a": 1}', '{"b": 1, "d": 1}', '{"b": 1,}', "{}"],
    ],
    [
      "further properties where they are asked for",
      { type: "object", properties: { a: { type: "integer" } }, additionalProperties: { type: "boolean" } },
      ['{"a": 1, "x": true}', '{"aa": true}', '{"": false}'],
      ['{"a": true}', '{"x": 1}', '{"\\u0061": true}'],
    ],
    [
      "names that need escapes",
      { type: "object", properties: { 'a"b\\': { type: "null" } }, required: ['a"b\\'] },
      ['{"a\\"b\\\\": null}'],
      [],
    ],
    ["references to itself", TREE, ['{"v": 1, "next": null}', '{"v": 1, "next": {"v": 2, "next": null}}'], ['{"v": 1}', "null"]],
    [
      "escapes in strings",
      { type: "string" },
      ['"\\n\\"\\u00e9\\ud83d\\ude00"', '""', '"é😀"'],
      ['"\n"', '"\\x"', '"\\ud83d"', '"a'],
    ],
    [
      "whole numbers between bounds",
      { type: "integer", minimum: -3, exclusiveMaximum: 120 },
      ["-3", "0", "99", "100", "119"],
      ["-4", "120", "00", "-0", "1.0"],
    ],
    [
      "numbers between bounds",
      { type: "number", exclusiveMinimum: 0.25, maximum: 1 },
      ["0.26", "0.250001", "1", "1.0"],
      ["0.25", "0", "1.01", "1.", "2"],
    ],
    [
      "tuples, with further items where they are described",
      { type: "array", prefixItems: [{ type: "null" }], items: { type: "boolean" } },
      ["[null]", "[null, true, false]"],
      ["[true]", "[null, null]"],
    ],
    [
      "counts of items",
      { type: "array", items: { type: "null" }, minItems: 1, maxItems: 2 },
      ["[null]", "[null, null]"],
      ["[]", "[null, null, null]"],
    ],
    [
      "one of several, told apart by a property",
      {
        oneOf: [
          { type: "object", properties: { k: { const: 1 } }, required: ["k"] },
          { type: "object", properties: { k: { const: 2 }, z: {} }, required: ["k", "z"] },
        ],
      },
      ['{"k": 1}', '{"k": 2, "z": 0}'],
      ['{"k": 2}', '{"k": 3}'],
    ],
    [
      "schemas that must both hold",
      {
        allOf: [
          { type: "object", properties: { a: { const: 1 } }, required: ["a"] },
          { properties: { b: { const: 2 } }, required: ["b"] },
        ],
      },
      ['{"a": 1, "b": 2}'],
      ['{"a": 1}', '{"b": 2}'],
    ],
    [
      "keywords beside anyOf",
      {
        type: "object",
        properties: { t: { const: 0 } },
        required: ["t"],
        anyOf: [{ properties: { a: { const: 1 } }, required: ["a"] }, {}],
      },
      ['{"t": 0, "a": 1}', '{"t": 0}'],
      ['{"a": 1}'],
    ],
    [
      "maps with names of a form",
      { type: "object", propertyNames: { pattern: "^x\\d$" }, additionalProperties: { type: "null" }, minProperties: 1 },
      ['{"x1": null}', '{"x1": null, "x2": null}'],
      ["{}", '{"y1": null}'],
    ],
    ["dates", { type: "string", format: "date" }, ['"2024-02-28"', '"1999-12-31"'], ['"2024-13-01"', '"2024-02-30"', '"x"']],
    ["anything", true, ["[1, {}, null]", '"x"', "-0.5e-7"], ["", "nul", "[1,2]", "1e999"]],
    ["an object of anything", { type: "object" }, ['{"a": {"b": []}}', "{}"], ["[]"]],
  ])("takes %s", async (_what, schema, good, bad) => {
    for (const text of good) expect([text, await describes(await open(schema), text)]).toEqual([text, true]);
    for (const text of bad) expect([text, await describes(await open(schema), text)]).toEqual([text, false]);
  });

  it("opens objects that list properties where it is not strict", async () => {
    const schema = { type: "object", properties: { a: { type: "null" } } };
    expect(await describes(await open(schema), '{"b": 1}')).toBe(false);
    expect(await describes(await open(schema, false), '{"b": 1}')).toBe(true);
  });

  it("leads no answer into what could not end", async () => {
    const endless = { type: "object", properties: { next: { $ref: "#/$defs/endless" } }, required: ["next"] };
    const schema = { $defs: { endless }, anyOf: [{ $ref: "#/$defs/endless" }, { type: "null" }] };
    expect(await answers(schema, 1)).toBe(null);
  });

  const nested = (depth: number): unknown => (depth === 0 ? {} : { type: "array", items: nested(depth - 1) });
  it.each<[string, unknown, string | RegExp]>([
    ["a keyword that is not supported", { type: "object", properties: { a: { not: {} } } }, "/properties/a/not"],
    ["conditions", { if: {}, else: {} }, "/if"],
    ["a format that is not known", { format: "telepathy" }, "/format"],
    ["a type that is none", { type: "strin" }, "/type"],
    ["a reference to nothing", { items: { $ref: "#/$defs/x" } }, "/items/$ref"],
    ["a reference to elsewhere", { $ref: "https://example.com/schema" }, "/$ref"],
    ["a reference to itself", { $ref: "#" }, /no finite answer/],
    [
      "what requires itself without end",
      { type: "object", properties: { n: { $ref: "#" } }, required: ["n"] },
      /no finite answer/,
    ],
    ["a pattern with look-ahead", { type: "string", pattern: "(?=x)" }, /look-ahead/],
    ["a pattern beside a length", { type: "string", pattern: "x", minLength: 2 }, /minLength/],
    ["alternatives of oneOf that overlap", { oneOf: [{ type: "string" }, { minLength: 2 }] }, "/oneOf"],
    ["both sides that disagree", { allOf: [{ type: "string" }, { type: "null" }] }, /different types/],
    ["bounds with nothing between", { type: "integer", minimum: 5, maximum: 4 }, /no number/],
    ["counts the wrong way round", { type: "array", minItems: 3, maxItems: 2 }, /maxItems/],
    ["an empty enum", { enum: [] }, "/enum"],
    ["false", false, /false/],
    ["a required name that is forbidden", { type: "object", required: ["x"], additionalProperties: false }, /"x" is required/],
    ["nesting without end", nested(2000), /deeper/],
    [
      "more alternatives than are compiled",
      { type: "array", maxItems: 10_000, items: { type: "array", maxItems: 10_000, items: { enum: [1, 2] } } },
      /too large/,
    ],
    ["no schema", "object", /not a schema/],
    ["a property that is no schema", { properties: { a: 5 } }, "/properties/a"],
  ])("refuses %s, and says where", async (_what, schema, where) => {
    const error = await open(schema).then(
      () => null,
      (thrown: unknown) => thrown,
    );
    expect(error).toBeInstanceOf(ConstraintError);
    if (typeof where === "string") expect((error as ConstraintError).details.path).toBe(where);
    else expect((error as ConstraintError).message).toMatch(where);
  });
});
