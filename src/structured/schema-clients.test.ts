// Schemas as the clients of this ecosystem write them: none of them may be refused for what
// they add.

import { afterAll, describe, expect, it } from "vitest";
import { z } from "zod";
import { byteVocabulary, END, walk } from "../../test/support/byte-vocabulary.js";
import { StructuredOutput } from "./structured-output.js";

const structured = new StructuredOutput(byteVocabulary, [END]);
afterAll(() => structured.close());

/** Random numbers that a failing case repeats. */
function numbers(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state * 48271) % 2147483647;
    return state / 2147483647;
  };
}

const animal = z.discriminatedUnion("kind", [
  z.object({ kind: z.literal("cat"), lives: z.int().min(1).max(9) }),
  z.object({ kind: z.literal("bird"), wings: z.number().positive().max(2) }),
]);

describe("a schema of zod", () => {
  it.each<[string, z.ZodType]>([
    ["a union told apart by a property", z.object({ animal })],
    ["addresses and times", z.object({ email: z.email(), id: z.uuid(), day: z.iso.date(), at: z.iso.datetime(), ip: z.ipv4() })],
    ["whole numbers of any size", z.object({ any: z.int(), small: z.int32(), positive: z.int().positive() })],
    [
      "what may be missing or null",
      z.object({ a: z.string().max(3).optional(), b: z.boolean().nullable(), c: z.string().max(2).default("x") }),
    ],
    [
      "tuples, maps and lists",
      z.object({
        pair: z.tuple([z.boolean(), z.null()]),
        map: z.record(z.string().max(3), z.boolean()),
        list: z
          .array(z.enum(["p", "q"]))
          .min(1)
          .max(2),
      }),
    ],
    ["several constants", z.object({ one: z.literal([1, "two", true]) })],
    ["texts that begin in a way", z.object({ code: z.string().startsWith("ab"), upper: z.string().regex(/^[A-Z]{2,4}$/) })],
  ])("of %s gives what zod then accepts", async (_what, type) => {
    for (const seed of [1, 2, 3]) {
      const matcher = await structured.open({ kind: "jsonSchema", schema: z.toJSONSchema(type) });
      const value: unknown = JSON.parse(await walk(matcher, numbers(seed)));
      expect(type.safeParse(value), JSON.stringify(value)).toMatchObject({ success: true });
      matcher.close();
    }
  });
});

describe("a schema of pydantic", () => {
  it("with titles, definitions, nullable fields and discriminators is taken", async () => {
    const schema = {
      $defs: {
        Cat: {
          properties: { type: { const: "cat", title: "Type", type: "string" } },
          required: ["type"],
          title: "Cat",
          type: "object",
        },
        Dog: {
          properties: { type: { const: "dog", title: "Type", type: "string" } },
          required: ["type"],
          title: "Dog",
          type: "object",
        },
      },
      properties: {
        pet: {
          discriminator: { mapping: { cat: "#/$defs/Cat", dog: "#/$defs/Dog" }, propertyName: "type" },
          oneOf: [{ $ref: "#/$defs/Cat" }, { $ref: "#/$defs/Dog" }],
          title: "Pet",
        },
        age: { anyOf: [{ type: "integer", minimum: 0, maximum: 99 }, { type: "null" }], default: null, title: "Age" },
      },
      required: ["pet"],
      title: "Owner",
      type: "object",
    };
    const matcher = await structured.open({ kind: "jsonSchema", schema });
    expect(JSON.parse(await walk(matcher, numbers(1)))).toMatchObject({ pet: { type: expect.stringMatching(/^(cat|dog)$/) } });
    matcher.close();
  });
});
