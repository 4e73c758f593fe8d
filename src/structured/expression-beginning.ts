// Which characters an expression may begin with, as far as that can be told without looking
// into rules.

import type { Expression } from "./expression.js";

/** ASCII characters by code, and one for all beyond; `null`: any, or perhaps none at all. */
type Beginning = ReadonlySet<number> | null;

const BEYOND = 128;
const ALL = Array.from({ length: BEYOND + 1 }, (_, code) => code);

/** Whether both may begin with the same character, or one may be empty. */
export function overlap(first: Expression, second: Expression): boolean {
  const [own, other] = [beginning(first), beginning(second)];
  return own === null || other === null || [...own].some((code) => other.has(code));
}

function beginning(expression: Expression): Beginning {
  switch (expression.type) {
    case "text":
    case "marker": {
      const point = (expression.type === "text" ? expression.text : expression.marker).codePointAt(0);
      return point === undefined ? null : new Set([Math.min(point, BEYOND)]);
    }
    case "class": {
      const { ranges, negated } = expression;
      return new Set(ALL.filter((code) => ranges.some(([first, last]) => first <= code && code <= last) !== negated));
    }
    case "sequence":
      return expression.parts[0] ? beginning(expression.parts[0]) : null;
    case "either": {
      const parts = expression.parts.map(beginning);
      return parts.includes(null) ? null : new Set(parts.flatMap((part) => [...part!]));
    }
    case "repeat":
      return expression.least === 0 ? null : beginning(expression.part);
    case "rule":
      return null;
  }
}
