// From a constraint to the EBNF that the library compiles.

import { choiceOf } from "./choices.js";
import { writeEbnf } from "./ebnf.js";
import { readEbnf } from "./ebnf-reader.js";
import { type Expression, either, type Grammar, NOTHING, repeat, rule, sequence, text } from "./expression.js";
import { schemaGrammar } from "./json-schema.js";
import type { CallPart, CallsSource, ConstraintSource } from "./messages.js";
import { keepProductive } from "./productive.js";
import { regexExpression } from "./regex.js";

/** Calls in one answer. */
const MOST_CALLS = 32;

/** @throws {ConstraintError} */
export function sourceEbnf(source: ConstraintSource): string {
  return writeEbnf(sourceGrammar(source));
}

/** @throws {ConstraintError} */
function sourceGrammar(source: ConstraintSource): Grammar {
  switch (source.kind) {
    case "json":
      return schemaGrammar({ type: "object" }, { strict: false });
    case "jsonSchema":
      return schemaGrammar(source.schema, { strict: source.strict ?? true });
    case "regex":
      return keepProductive(plain(regexExpression(source.pattern, { whole: true })));
    case "choice":
      return plain(choiceOf(source.choices));
    case "grammar":
      return keepProductive(readEbnf(source.ebnf));
    case "calls":
      return keepProductive(callsGrammar(source));
  }
}

function callsGrammar({ before, calls, separator, after }: CallsSource): Grammar {
  const rules = new Map<string, Expression>();
  const parts = (list: readonly CallPart[]): Expression => sequence(...list.map((part) => partExpression(part, rules)));
  rules.set("call", either(...calls.map(parts)));
  const call = rule("call");
  const more = separator === null ? NOTHING : repeat(sequence(parts(separator), call), 0, MOST_CALLS - 1);
  return { root: sequence(parts(before), call, more, parts(after)), rules };
}

/** A schema's rules get names of their own. */
function partExpression(part: CallPart, rules: Map<string, Expression>): Expression {
  if (typeof part === "string") return text(part);
  if ("marker" in part) return { type: "marker", marker: part.marker };
  const grammar = schemaGrammar(part.schema, { strict: part.strict });
  const prefix = `${rules.size} `;
  for (const [name, body] of grammar.rules) rules.set(prefix + name, renamed(body, prefix));
  return renamed(grammar.root, prefix);
}

function renamed(expression: Expression, prefix: string): Expression {
  switch (expression.type) {
    case "rule":
      return rule(prefix + expression.name);
    case "sequence":
    case "either":
      return { ...expression, parts: expression.parts.map((part) => renamed(part, prefix)) };
    case "repeat":
      return { ...expression, part: renamed(expression.part, prefix) };
    default:
      return expression;
  }
}

function plain(root: Expression): Grammar {
  return { root, rules: new Map() };
}
