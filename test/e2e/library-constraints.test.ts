// Constrained answers of the embedded model: what comes out is what was asked for, alone and in
// batches, at any temperature.

import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Constraint, ConstraintError, type GenerateOptions, loadModel, type Model, UsageError } from "../../src/index.js";
import { satisfies } from "../support/json-schema-judge.js";

type Schema = Record<string, unknown>;

const short: fc.Arbitrary<Schema> = fc.oneof(
  fc.nat(8).map((maxLength): Schema => ({ type: "string", maxLength })),
  fc.constantFrom<Schema>(
    { type: "boolean" },
    { enum: ["red", "green", "blue", 7, null] },
    { type: "string", format: "date" },
    { type: "string", pattern: "^[A-Z][a-z]{1,6}$" },
  ),
  fc
    .tuple(fc.integer({ min: -500, max: 500 }), fc.nat(1000))
    .map(([least, more]): Schema => ({ type: "integer", minimum: least, maximum: least + more })),
);
const schemas = fc
  .uniqueArray(fc.tuple(fc.constantFrom("name", "n", "tags", "inner", "größe"), short, fc.boolean(), fc.boolean()), {
    minLength: 1,
    maxLength: 4,
    selector: ([name]) => name,
  })
  .map(
    (list): Schema => ({
      type: "object",
      properties: Object.fromEntries(
        list.map(([name, schema, , many]) => [name, many ? { type: "array", items: schema, maxItems: 2 } : schema]),
      ),
      required: list.filter(([, , required]) => required).map(([name]) => name),
    }),
  );

describe("constrained answers", () => {
  let model: Model;
  beforeAll(async () => {
    model = await loadModel(undefined, { maxSequences: 4, ctx: 1024, threads: 1 });
  });
  afterAll(() => model.dispose());
  const ask = (constraint: Constraint, options: GenerateOptions = {}) =>
    model.generate("Once upon a time", { constraint, maxTokens: 200, temperature: 1.5, seed: 1, ...options }).result;

  it("satisfy any schema, at any seed, several at once", async () => {
    const wanted = fc.sample(fc.tuple(schemas, fc.nat(1e6)), 24);
    const answers = await Promise.all(wanted.map(([schema, seed]) => ask({ kind: "jsonSchema", schema }, { seed })));
    for (const [index, { text, finishReason }] of answers.entries()) {
      const [schema, seed] = wanted[index]!;
      const said = `${JSON.stringify(schema)} at seed ${seed}: ${text}`;
      expect(finishReason, said).toBe("stop");
      expect(satisfies(schema, JSON.parse(text)), said).toBe(true);
    }
  });

  it.each<[Constraint, RegExp]>([
    [{ kind: "regex", pattern: "\\d{3}-[a-f]{4}" }, /^\d{3}-[a-f]{4}$/],
    [{ kind: "choice", choices: ["yes", "no", "maybe so"] }, /^(yes|no|maybe so)$/],
    [{ kind: "grammar", ebnf: 'root ::= "hello " ("world" | "moon") "!"' }, /^hello (world|moon)!$/],
    [{ kind: "jsonSchema", schema: { type: "integer", minimum: 10, maximum: 99 } }, /^\d\d$/],
  ])("match %j from their first character to their last", async (constraint, pattern) => {
    for (const seed of [1, 2]) expect((await ask(constraint, { seed })).text).toMatch(pattern);
    const chat = model.chat([{ role: "user", content: "Say something." }], { constraint, seed: 1, temperature: 1 });
    const pieces: string[] = [];
    for await (const piece of chat) pieces.push(piece);
    expect(pieces.join("")).toMatch(pattern);
    expect((await chat.result).finishReason).toBe("stop");
  });

  it("begin a JSON object in JSON mode, and end as it ends", async () => {
    const { text, finishReason } = await ask({ kind: "json" }, { temperature: 0, maxTokens: 40 });
    expect(text.startsWith("{")).toBe(true);
    if (finishReason === "stop") expect(JSON.parse(text)).toBeTypeOf("object");
  });

  it("are the same alone and in a batch, beside unconstrained ones too", async () => {
    const constraint: Constraint = { kind: "regex", pattern: "[a-z]{5,20} [a-z]{5,20}" };
    const alone = await ask(constraint, { seed: 5 });
    const free = () => model.generate("Once upon a time", { maxTokens: 12, temperature: 0, ignoreEos: true }).result;
    const [one, , two] = await Promise.all([ask(constraint, { seed: 5 }), free(), ask(constraint, { seed: 5 })]);
    expect([one!.ids, two!.ids]).toEqual([alone.ids, alone.ids]);
  });

  it("fail with the reason, and the next request is answered", async () => {
    await expect(ask({ kind: "grammar", ebnf: "root ::= nothing" })).rejects.toBeInstanceOf(ConstraintError);
    await expect(ask({ kind: "jsonSchema", schema: { type: "object", properties: { a: { not: {} } } } })).rejects.toMatchObject({
      code: "CONSTRAINT",
      details: { path: "/properties/a/not" },
    });
    await expect(ask({ kind: "json" }, { ignoreEos: true })).rejects.toBeInstanceOf(UsageError);
    expect(() => model.generate("x", { constraint: { kind: "xml" } as unknown as Constraint })).toThrow(ConstraintError);
    expect((await ask({ kind: "choice", choices: ["ok"] })).text).toBe("ok");
  });

  it("that are cancelled leave nothing behind", async () => {
    const controller = new AbortController();
    const generation = model.generate("Once", { constraint: { kind: "regex", pattern: "[a-z ]*" }, signal: controller.signal });
    for await (const _ of generation) break;
    const other = model.generate("Once", {
      constraint: { kind: "regex", pattern: "[a-z ]{400,500}" },
      signal: controller.signal,
    });
    controller.abort();
    await expect(other.result).rejects.toBe(controller.signal.reason);
    await expect(generation.result).rejects.toThrow();
    expect((await model.status()).scheduler.running).toBe(0);
    expect((await ask({ kind: "choice", choices: ["ok"] })).text).toBe("ok");
  });
});
