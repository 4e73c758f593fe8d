// Takes out of a grammar what could never come to an end (a list node whose next node is
// required to be another one), so that no answer is led into it.

import { ConstraintError } from "./errors.js";
import { type Expression, either, type Grammar, NOTHING, repeat, sequence } from "./expression.js";

/** @throws {ConstraintError} when nothing is left: no finite text would do */
export function keepProductive({ root, rules }: Grammar): Grammar {
  const productive = productiveRules(rules);
  const kept = new Map<string, Expression>();
  for (const [name, body] of rules) {
    const pruned = prune(body, productive);
    if (pruned) kept.set(name, pruned);
  }
  const pruned = prune(root, productive);
  if (!pruned)
    throw new ConstraintError("no finite answer satisfies this constraint", {
      hint: "Something in it requires itself again without end: make that optional or nullable.",
    });
  return { root: pruned, rules: kept };
}

function productiveRules(rules: ReadonlyMap<string, Expression>): ReadonlySet<string> {
  const found = new Set<string>();
  for (let before = -1; before !== found.size; ) {
    before = found.size;
    for (const [name, body] of rules) if (!found.has(name) && ends(body, found)) found.add(name);
  }
  return found;
}

function ends(expression: Expression, productive: ReadonlySet<string>): boolean {
  switch (expression.type) {
    case "text":
    case "marker":
      return true;
    case "class":
      return expression.negated || expression.ranges.length > 0;
    case "rule":
      return productive.has(expression.name);
    case "sequence":
      return expression.parts.every((part) => ends(part, productive));
    case "either":
      return expression.parts.some((part) => ends(part, productive));
    case "repeat":
      return expression.least === 0 || ends(expression.part, productive);
  }
}

function prune(expression: Expression, productive: ReadonlySet<string>): Expression | null {
  if (!ends(expression, productive)) return null;
  switch (expression.type) {
    case "sequence":
      return sequence(...expression.parts.map((part) => prune(part, productive)!));
    case "either":
      return either(...expression.parts.map((part) => prune(part, productive)).filter((part) => part !== null));
    case "repeat": {
      const part = prune(expression.part, productive);
      return part ? repeat(part, expression.least, expression.most) : NOTHING;
    }
    default:
      return expression;
  }
}
