// A validation as a person reads it: a line for each check, what there is to say about it below.

import { tableLines } from "../../memory/text-table.js";
import { grouped } from "../output.js";
import type { Verdict } from "./judge.js";
import type { Validation } from "./run.js";

/** How a line that failed, and one of less weight, look. */
export interface LineStyle {
  readonly bad: (text: string) => string;
  readonly dim: (text: string) => string;
}

export function verdictLines({ backend, tokens, verdicts }: Validation, { bad, dim }: LineStyle): string[] {
  const column = (heading: string, cell: (verdict: Verdict) => string, right = false) => ({
    heading,
    cells: verdicts.map(cell),
    right,
  });
  const [headings, ...lines] = tableLines([
    column(`${grouped(tokens)} tokens, ${backend}`, ({ check }) => check),
    column("perplexity", ({ perplexity }) => perplexity.toFixed(4), true),
    column("reference", ({ reference }) => reference.toFixed(4), true),
    column("difference", difference, true),
    column("allowed", ({ allowed }) => (allowed === 0 ? "same bits" : percent(allowed)), true),
    column("", ({ ok }) => (ok ? "ok" : "FAILED")),
  ]);
  return [
    dim(headings!),
    ...verdicts.flatMap(({ ok, remark }, i) => [
      ok ? lines[i]! : bad(lines[i]!),
      ...(remark === null ? [] : [`  ${dim(remark)}`]),
    ]),
  ];
}

function difference({ sameBits, difference: share, uncertainty }: Verdict): string {
  return sameBits ? "same bits" : `${percent(share)} ± ${percent(uncertainty)}`;
}

function percent(share: number): string {
  return `${(100 * share).toFixed(3)} %`;
}
