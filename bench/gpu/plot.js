// A record as a picture: a bar for each row, its median, with a line from one deviation below to one
// above; decoding, batches and prompts each on a scale of their own. Readable on light and on
// dark ground.

const WIDTH = 760;
const LEFT = 210;
const BARS = 360;
const ROW = 24;
const HEAD = 92;
const GAP = 46;

const NAMES = { "7b": "7B", "13b": "13B", "70b": "70B", "llama3-8b": "Llama 3 8B" };

const SECTIONS = [
  [
    "decode",
    "Decoding, one sequence",
    ({ depth, cache }) => `${depth ? `at ${digits(depth)}` : "empty"}${cache === "f16" ? "" : `, ${cache} cache`}`,
  ],
  [
    "batch",
    "Decoding, sequences at once: tokens per second of all",
    ({ batch, held }) => `${batch} × ${digits(Math.round(held))} tokens`,
  ],
  ["prompt", "Prompts", ({ tokens }) => `${digits(tokens)} tokens`],
];

/** @param {{ card: string, rows: object[] }} record */
export function plotSvg({ card, rows }) {
  const parts = [];
  let y = HEAD;
  for (const [section, title, label] of SECTIONS) {
    const ours = rows.filter((row) => row.section === section);
    if (ours.length === 0) continue;
    const most = Math.max(...ours.map(({ tokensPerSecond: { median, deviation } }) => median + deviation));
    parts.push(`<text class="ink" x="24" y="${y}" font-size="14" font-weight="600">${markup(title)}</text>`);
    y += 12;
    for (const row of ours) {
      parts.push(bar(row, `${NAMES[row.model] ?? row.model}, ${label(row)}`, y, BARS / most));
      y += ROW;
    }
    y += GAP;
  }
  const height = Math.max(HEAD, y - GAP + 24);
  const facts = [...new Set(rows.map(({ driver }) => driver).filter(Boolean))].map((driver) => `driver ${driver}`);
  const commits = [...new Set(rows.map(({ commit }) => commit).filter(Boolean))];
  if (commits.length > 0) facts.push(`commit ${commits.join(", ")}`);
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" font-family="system-ui, sans-serif" font-size="12" role="img" aria-label="Tokens per second on ${markup(card)}">
<style>
.ground{fill:#fff}.ink{fill:#1d2430}.quiet{fill:#667080}.bar{fill:#2f7d6b}.spread{stroke:#1d2430;stroke-width:1.5}
@media (prefers-color-scheme: dark){.ground{fill:#14181f}.ink{fill:#e8ecf2}.quiet{fill:#98a3b3}.bar{fill:#3f9c86}.spread{stroke:#e8ecf2}}
</style>
<rect class="ground" width="${WIDTH}" height="${height}"/>
<text class="ink" x="24" y="32" font-size="17" font-weight="600">Tokens per second, ${markup(card)}</text>
<text class="quiet" x="24" y="52">${markup(["4 bits, groups of 128, made-up weights; medians", ...facts].join("; "))}</text>
${parts.join("\n")}
</svg>
`;
}

function bar({ tokensPerSecond: { median, deviation }, shareOfReading }, label, y, scale) {
  const length = (value) => (Math.max(0, value) * scale).toFixed(1);
  const middle = y + ROW / 2;
  const end = LEFT + (median + deviation) * scale;
  const share =
    shareOfReading === null || shareOfReading === undefined ? "" : ` · ${Math.round(shareOfReading * 100)} % of reading`;
  return [
    `<text class="quiet" x="${LEFT - 10}" y="${middle + 4}" text-anchor="end">${markup(label)}</text>`,
    `<rect class="bar" x="${LEFT}" y="${y + 4}" width="${length(median)}" height="${ROW - 8}" rx="2"/>`,
    `<line class="spread" x1="${(LEFT + Number(length(median - deviation))).toFixed(1)}" x2="${end.toFixed(1)}" y1="${middle}" y2="${middle}"/>`,
    `<text class="ink" x="${(end + 8).toFixed(1)}" y="${middle + 4}">${rate(median)}<tspan class="quiet">${share}</tspan></text>`,
  ].join("\n");
}

function digits(count) {
  return count.toLocaleString("en-US");
}

function rate(value) {
  return value < 100 ? value.toFixed(1) : digits(Math.round(value));
}

function markup(text) {
  return String(text).replace(/[&<>"]/g, (one) => `&#${one.charCodeAt(0)};`);
}
