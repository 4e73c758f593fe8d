// The record as a picture: each split that was reported, ExLlama's use of every GPU on the left,
// ours on the right, both at the row's own scale. Readable on light and on dark ground, and
// without telling colours apart.

import { formatBytes } from "../../../src/memory/size.js";
import { type Comparison, comparisons, describe, isBroken } from "./comparison.js";
import { BAR, BARS_WIDTH, bar, brokenCaps, exllamaPanel, LINE, moved, ourPanel, PANEL, type Part, stacked } from "./panel.js";
import { differingAnswers, fromPlan, type RunRecord, tellingAnswers } from "./record.js";
import { markup, text, wrap } from "./svg.js";

const WIDTH = 600;
const MARGIN = 16;
const OURS = WIDTH - MARGIN - PANEL;
const SMALL = 11.5;

const STYLE = `.ground{fill:#fff}.ink{fill:#1d2430}.quiet{fill:#566070}.bad{fill:#b8302a}.good{fill:#1f6f5f}
.mono,.typed{font-family:ui-monospace,SFMono-Regular,Consolas,monospace}.typed{fill:#1d2430;font-weight:600}
.room{fill:#e4e9f0}.theirs{fill:#8491a3}.over{fill:#cf3f39}.stripes{fill:url(#stripes)}.stripe{stroke:#fff;stroke-width:1.5;opacity:.5}.ours{fill:#2f8a77}
.cap{fill:none;stroke:#1d2430;stroke-width:1.3;stroke-dasharray:2.6 1.8}.plan{fill:none;stroke:#0b3a31;stroke-width:2}
.rule{stroke:#d5dae2}.error{fill:#fdf0ef;stroke:#cf3f39}.ring,.on-ring{fill:none;stroke:#566070;stroke-width:1.5}.on-disc{fill:none;stroke:#fff;stroke-width:1.7}
@media (prefers-color-scheme: dark){.ground{fill:#14181f}.ink,.typed{fill:#e8ecf2}.quiet{fill:#a4aebc}.bad{fill:#ff8b82}.good{fill:#6fd0b8}
.room{fill:#2b3340}.theirs{fill:#7a8698}.over{fill:#e5544c}.stripe{stroke:#14181f}.ours{fill:#379a85}.cap{stroke:#e8ecf2}.plan{stroke:#d9fff5}
.rule{stroke:#2f3845}.error{fill:#2b1a1b;stroke:#e5544c}.ring,.on-ring{stroke:#a4aebc}.on-disc{stroke:#14181f}}`;

export function barsSvg(run: RunRecord): string {
  const rows = comparisons(run.records);
  const { svg, height } = stacked([head(run), legend(), columns(rows), ...rows.map(row), foot(run)]);
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" font-family="system-ui, sans-serif" font-size="12" role="img" aria-label="${markup(describe(rows))}">
<style>
${STYLE}
</style>
<defs><pattern id="stripes" width="4.5" height="4.5" patternUnits="userSpaceOnUse" patternTransform="rotate(45)"><path class="stripe" d="M0 0V4.5"/></pattern></defs>
<rect class="ground" width="${WIDTH}" height="${height}" rx="8"/>
${svg}
</svg>
`;
}

function head({ card, cards }: RunRecord): Part {
  const words = [
    `A 13B of 4 bits: exllama-ts on ${cards}\u00a0×\u00a0${card}, context filled to its end; ExLlama v1 on 4\u00a0×\u00a0H200.`,
    "Per GPU, 0 to 3: the most that it showed, everything included, seen from outside.",
  ];
  const title = text(MARGIN, 32, "ink", "--gpu-split: what was allowed, what each GPU held", { size: 19, bold: true });
  const lines = smallLines(words.join(" "));
  return { svg: [title, ...small(lines, 52)].join("\n"), height: 44 + LINE * lines.length };
}

function legend(): Part {
  const [y, full] = [6, 22];
  const samples = [
    ["allowed", { shown: 0, planned: null, cap: full }, "ours"],
    ["ExLlama", { shown: full, planned: null, cap: full }, "theirs"],
    ["above the cap", { shown: full, planned: null, cap: 6 }, "theirs"],
    ["exllama-ts", { shown: 14, planned: null, cap: full }, "ours"],
    ["planned", { shown: 14, planned: 14, cap: full }, "ours"],
  ] as const;
  let x = MARGIN;
  const drawn = samples.map(([words, sample, kind]) => {
    const at = x;
    x += full + 7 + 7 * words.length + 14; // the widest of usual fonts, and a gap
    return `${bar({ gpu: "", ...sample }, kind, at, y, 1)}\n${text(at + full + 7, y + 10, "quiet", words, { size: SMALL })}`;
  });
  return { svg: drawn.join("\n"), height: y + BAR + 11 };
}

function columns(rows: readonly Comparison[]): Part {
  const theirs = rows.flatMap(({ exllama }) => exllama ?? []);
  const ours = rows.flatMap(({ ran }) => ran?.bars ?? []);
  const column = (x: number, name: string, broken: number, more: string, figures: string) => [
    text(
      x,
      22,
      "ink",
      [
        ["ink", `${name}: `],
        [broken > 0 ? "bad" : "good", brokenCaps(broken)],
      ],
      { size: 15, bold: true },
    ),
    text(x, 39, "quiet", more, { size: SMALL }),
    text(x + PANEL, 39, "quiet", figures, { size: SMALL, anchor: "end" }),
  ];
  return {
    svg: [
      rule(),
      ...column(MARGIN, "ExLlama", theirs.filter(isBroken).length, "counts weights only", "MiB, above the cap"),
      ...column(OURS, "exllama-ts", ours.filter(isBroken).length, "counts everything", "MiB / planned"),
    ].join("\n"),
    height: 46,
  };
}

function row(one: Comparison): Part {
  const all = [...(one.exllama ?? []), ...(one.ran?.bars ?? [])];
  const scale = BARS_WIDTH / Math.max(1, ...all.flatMap(({ shown, cap }) => [shown, cap]));
  const [left, right] = [exllamaPanel(one, scale), ourPanel(one, scale)];
  return {
    svg: [rule(), moved(left, MARGIN, 6), moved(right, OURS, 6)].join("\n"),
    height: Math.max(left.height, right.height) + 14,
  };
}

function foot({ records, commit, driver, devices }: RunRecord): Part {
  const cases = `All ${records.length} cases: ${records.filter(({ outcome }) => outcome.kind === "ran").length} ran`;
  const { most, least } = fromPlan(records);
  const facts = [
    cases,
    most > 0 ? `up to ${formatBytes(most)} above the plan` : "never above the plan",
    `at most ${formatBytes(-least)} below it`,
  ];
  if (differingAnswers(records).length > 0) facts.push("answers differ");
  else if (tellingAnswers(records)) facts.push("the same answers from every split");
  const entries = devices.split(",");
  const shared = new Set(entries).size < entries.length;
  const origin = [commit && `commit ${commit}`, `driver ${driver}`, shared && `devices ${devices}`].filter(Boolean);
  const lines = smallLines(`${facts.join(", ")}. Each row has its own scale. From ${origin.join(", ")}.`);
  return { svg: [rule(), ...small(lines, 20)].join("\n"), height: 18 + LINE * lines.length };
}

/** Broken where the picture ends, in the widest of usual fonts. */
function smallLines(words: string): string[] {
  return wrap(words, 96);
}

function small(lines: readonly string[], y: number): string[] {
  return lines.map((line, i) => text(MARGIN, y + LINE * i, "quiet", line, { size: SMALL }));
}

function rule(): string {
  return `<path class="rule" d="M${MARGIN} 0H${WIDTH - MARGIN}"/>`;
}
