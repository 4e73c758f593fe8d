// What an answer must look like, as plain data that crosses to the engine and can be kept.

import { ConstraintError } from "./errors.js";

export type Constraint =
  /** A JSON object. */
  | { readonly kind: "json" }
  /**
   * A JSON value that a JSON Schema accepts. `strict` (default true): an object that lists its
   * properties takes no others unless it says `additionalProperties`.
   */
  | { readonly kind: "jsonSchema"; readonly schema: unknown; readonly strict?: boolean }
  /** The whole answer matches this regular expression. */
  | { readonly kind: "regex"; readonly pattern: string }
  /** The answer is one of these texts. */
  | { readonly kind: "choice"; readonly choices: readonly string[] }
  /** A grammar in EBNF as llama.cpp writes it (GBNF); it begins with the rule `root`. */
  | { readonly kind: "grammar"; readonly ebnf: string };

/** Bounds on what a request may bring: far more than people write, far less than does harm. */
const MOST_SCHEMA_CHARACTERS = 2 ** 18;
const MOST_PATTERN_CHARACTERS = 2 ** 13;
const MOST_GRAMMAR_CHARACTERS = 2 ** 16;
const MOST_CHOICES = 10_000;
const MOST_CHOICE_CHARACTERS = 2 ** 18;

type Fields = Readonly<Record<string, unknown>>;

const KINDS: Readonly<
  Record<Constraint["kind"], { readonly fields: readonly string[]; readonly check: (given: Fields) => void }>
> = {
  json: { fields: [], check: () => {} },
  jsonSchema: { fields: ["schema", "strict"], check: checkSchemaFields },
  regex: { fields: ["pattern"], check: ({ pattern }) => checkText("pattern", pattern, MOST_PATTERN_CHARACTERS) },
  choice: { fields: ["choices"], check: ({ choices }) => checkChoices(choices) },
  grammar: { fields: ["ebnf"], check: ({ ebnf }) => checkText("ebnf", ebnf, MOST_GRAMMAR_CHARACTERS) },
};

/**
 * Checks the form and the size of a constraint; what it says is judged when it is compiled.
 *
 * @throws {ConstraintError}
 */
export function checkConstraint(value: unknown): Constraint {
  const given = (typeof value === "object" && value !== null ? value : {}) as Fields;
  const { kind, ...rest } = given;
  if (typeof kind !== "string" || !Object.hasOwn(KINDS, kind))
    throw new ConstraintError(`a constraint of kind ${shown(kind)} is not known`, {
      hint: `The kinds are ${Object.keys(KINDS).join(", ")}, as in { kind: "choice", choices: ["yes", "no"] }.`,
    });
  const { fields, check } = KINDS[kind as Constraint["kind"]];
  const unknown = Object.keys(rest).find((field) => !fields.includes(field) && rest[field] !== undefined);
  if (unknown !== undefined)
    throw new ConstraintError(`a constraint of kind ${kind} has no ${shown(unknown)}`, {
      hint: fields.length > 0 ? `It has ${fields.join(" and ")}.` : "It has nothing beside its kind.",
    });
  check(rest);
  return value as Constraint;
}

function checkSchemaFields({ schema, strict }: Fields): void {
  if (strict !== undefined && typeof strict !== "boolean")
    throw new ConstraintError(`strict is ${shown(strict)}, neither true nor false`);
  let text: string | undefined;
  try {
    text = JSON.stringify(schema);
  } catch (error) {
    throw new ConstraintError("the schema cannot be written as JSON", { cause: error });
  }
  if (text === undefined) throw new ConstraintError("there is no schema", { hint: 'Give one, such as { "type": "object" }.' });
  if (text.length > MOST_SCHEMA_CHARACTERS)
    throw new ConstraintError(`the schema has ${text.length} characters; at most ${MOST_SCHEMA_CHARACTERS} are taken`);
}

function checkChoices(choices: unknown): void {
  if (!Array.isArray(choices) || choices.length === 0 || !choices.every((choice) => typeof choice === "string"))
    throw new ConstraintError("choices is not a list of texts with at least one in it");
  if (choices.length > MOST_CHOICES)
    throw new ConstraintError(`there are ${choices.length} choices; at most ${MOST_CHOICES} are taken`);
  if (choices.includes(""))
    throw new ConstraintError("one of the choices is empty", { hint: "Every choice needs at least one character." });
  checkText("choices", choices.join(""), MOST_CHOICE_CHARACTERS);
}

function checkText(name: string, value: unknown, most: number): void {
  if (typeof value !== "string" || value === "") throw new ConstraintError(`${name} is ${shown(value)}, not a text`);
  if (value.length > most) throw new ConstraintError(`${name} has ${value.length} characters; at most ${most} are taken`);
  if (/\p{Surrogate}/u.test(value)) throw new ConstraintError(`${name} holds half of a character (a lone surrogate)`);
}

function shown(value: unknown): string {
  const text = JSON.stringify(value) ?? String(value);
  return text.length > 60 ? `${text.slice(0, 60)}…` : text;
}
