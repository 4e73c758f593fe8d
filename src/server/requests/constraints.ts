// What an answer must look like: `response_format` as OpenAI has it, and `structured_outputs` for what
// OpenAI has no words for (regular expressions, choices, grammars), under the names that vLLM uses.

import { z } from "zod";
import type { GenerateOptions } from "../../engine/model.js";
import { InvalidRequestError } from "../errors.js";

type Constraint = NonNullable<GenerateOptions["constraint"]>;

const schema = z.record(z.string(), z.unknown());

export const responseFormat = z.discriminatedUnion("type", [
  z.strictObject({ type: z.literal("text") }),
  z.strictObject({ type: z.literal("json_object") }),
  z.strictObject({
    type: z.literal("json_schema"),
    json_schema: z.strictObject({
      name: z.string().nullish(),
      description: z.string().nullish(),
      schema: schema.nullish(),
      strict: z.boolean().nullish(),
    }),
  }),
]);

export const structuredOutputs = z.strictObject({
  json: schema.nullish(),
  json_object: z.literal(true).nullish(),
  regex: z.string().nullish(),
  choice: z.array(z.string()).nullish(),
  grammar: z.string().nullish(),
});

export const constraintShape = { response_format: responseFormat.nullish(), structured_outputs: structuredOutputs.nullish() };

/** @throws {InvalidRequestError} where more than one thing is asked of the answer */
export function constraintOf(request: z.output<z.ZodObject<typeof constraintShape>>): Constraint | undefined {
  const format = request.response_format ? formatConstraint(request.response_format) : undefined;
  const structured = request.structured_outputs ? structuredConstraint(request.structured_outputs) : undefined;
  if (format && structured)
    throw new InvalidRequestError("'response_format' and 'structured_outputs' both say what the answer must look like", {
      param: "structured_outputs",
      hint: "Leave one of them out.",
    });
  return format ?? structured;
}

export function formatConstraint(format: z.output<typeof responseFormat>): Constraint | undefined {
  if (format.type === "text") return undefined;
  if (format.type === "json_object" || format.json_schema.schema == null) return { kind: "json" };
  return schemaConstraint(format.json_schema.schema, format.json_schema.strict);
}

function structuredConstraint(asked: z.output<typeof structuredOutputs>): Constraint {
  const said = Object.entries(asked).filter(([, value]) => value !== undefined && value !== null);
  if (said.length !== 1)
    throw new InvalidRequestError(`'structured_outputs' says ${said.length === 0 ? "nothing" : "more than one thing"}`, {
      param: "structured_outputs",
      hint: "Give one of json, json_object, regex, choice and grammar.",
    });
  if (asked.json != null) return schemaConstraint(asked.json, null);
  if (asked.regex != null) return { kind: "regex", pattern: asked.regex };
  if (asked.choice != null) return { kind: "choice", choices: asked.choice };
  if (asked.grammar != null) return { kind: "grammar", ebnf: asked.grammar };
  return { kind: "json" };
}

/** Where nobody says whether objects may have further properties, they may not: that fits either way. */
function schemaConstraint(value: Record<string, unknown>, strict: boolean | null | undefined): Constraint {
  return { kind: "jsonSchema", schema: value, ...(strict == null ? {} : { strict }) };
}
