// The records as a table for people.

import { formatBytes, MiB } from "../../../src/memory/size.js";
import type { CaseRecord } from "./record.js";
import type { CardOutcome } from "./run-case.js";

const HEAD = [
  "model",
  "split",
  "ctx",
  "layers",
  "planned MiB",
  "shown MiB",
  "difference",
  "caps MiB",
  "first token",
  "per token",
];

export function recordTable(records: readonly CaseRecord[]): string {
  const rows = [HEAD, ...records.map(row)];
  const widths = HEAD.map((_, column) =>
    Math.max(...rows.map((cells) => (cells.length === HEAD.length ? cells[column]!.length : 0))),
  );
  return rows
    .map((cells) =>
      cells
        .map((cell, i) => cell.padEnd(widths[i]!))
        .join("  ")
        .trimEnd(),
    )
    .join("\n");
}

function row({ model, split, splitMode, ctx, peers, outcome }: CaseRecord): string[] {
  const name = [model.replace("synthetic:", ""), splitMode, peers ? "" : "through the host"].filter(Boolean).join(" ");
  if (outcome.kind === "refused") return [name, split, String(ctx), `refused: ${outcome.message}`];
  const each = (of: (card: CardOutcome) => string) => outcome.cards.map(of).join(" / ");
  const mib = (bytes: number) => (bytes / MiB).toFixed(0);
  return [
    name,
    split,
    ctx === outcome.context ? String(ctx) : `${ctx} = ${outcome.context}`,
    each(({ layers }) => layers.join(",")),
    each(({ planned }) => mib(planned)),
    each(({ peak }) => mib(peak)),
    each(({ planned, peak }) => ((peak - planned) / MiB).toFixed(1)),
    each(({ cap }) => mib(cap)),
    `${(outcome.firstTokenMs / 1000).toFixed(2)} s`,
    `${outcome.tokenMs.toFixed(2)} ms`,
  ];
}

/** Where every card lies in total, for a line below the table. */
export function totals(records: readonly CaseRecord[]): string {
  const ran = records.flatMap(({ outcome }) => (outcome.kind === "ran" ? outcome.cards : []));
  if (ran.length === 0) return "nothing ran";
  const differences = ran.map(({ planned, peak }) => peak - planned);
  return `${ran.length} measurements: from ${formatBytes(-Math.min(...differences))} below the plan to ${
    Math.max(...differences) > 0 ? `${formatBytes(Math.max(...differences))} above it` : "the plan itself, never above"
  }`;
}
