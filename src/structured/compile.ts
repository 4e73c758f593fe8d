// From a constraint to the EBNF that the library compiles.

import { choiceOf } from "./choices.js";
import { writeEbnf } from "./ebnf.js";
import { type Expression, either, type Grammar, rule, sequence, text } from "./expression.js";
import { schemaGrammar } from "./json-schema.js";
import type { ConstraintSource, TemplatePart } from "./messages.js";
import { keepProductive } from "./productive.js";
import { regexExpression } from "./regex.js";

/** @throws {ConstraintError} */
export function sourceEbnf(source: ConstraintSource): string {
  return source.kind === "grammar" ? source.ebnf : writeEbnf(sourceGrammar(source));
}

/** @throws {ConstraintError} */
function sourceGrammar(source: Exclude<ConstraintSource, { kind: "grammar" }>): Grammar {
  switch (source.kind) {
    case "json":
      return schemaGrammar({ type: "object" }, { strict: false });
    case "jsonSchema":
      return schemaGrammar(source.schema, { strict: source.strict ?? true });
    case "regex":
      return keepProductive(plain(regexExpression(source.pattern, { whole: true })));
    case "choice":
      return plain(choiceOf(source.choices));
    case "templates":
      return templatesGrammar(source.templates);
  }
}

/** Each schema keeps its own rules: their names get the place of the schema before them. */
function templatesGrammar(templates: readonly (readonly TemplatePart[])[]): Grammar {
  const rules = new Map<string, Expression>();
  const alternatives = templates.map((parts, i) =>
    sequence(
      ...parts.map((part, j) => {
        if (typeof part === "string") return text(part);
        const grammar = schemaGrammar(part.schema, { strict: part.strict });
        for (const [name, body] of grammar.rules) rules.set(`${i}.${j} ${name}`, renamed(body, `${i}.${j} `));
        return renamed(grammar.root, `${i}.${j} `);
      }),
    ),
  );
  return { root: either(...alternatives), rules };
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
