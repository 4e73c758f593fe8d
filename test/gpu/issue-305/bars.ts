// The records as a picture: for each split a bar per card: planned (filled), shown (line across),
// cap (outline), and ExLlama's own use of four cards beside them.

import { MiB } from "../../../src/memory/size.js";
import { EXLLAMA } from "./cases.js";
import type { CaseRecord } from "./record.js";

const BAR = 34;
const GAP = 8;
const GROUP = 4 * (BAR + GAP) + 110;
const HEIGHT = 140;
const TOP = 92;
const LEFT = 28;

interface Bar {
  readonly label: string;
  readonly planned: number | null;
  readonly shown: number;
  readonly cap: number | null;
}

interface Group {
  readonly title: string;
  readonly engine: "exllama-ts" | "ExLlama";
  readonly bars: readonly Bar[];
  /** Instead of bars. */
  readonly said: string | null;
}

/** @param caption lines below the title, two at most */
export function barsSvg(records: readonly CaseRecord[], caption: readonly string[]): string {
  const groups = EXLLAMA.flatMap(({ split, ctx, used }): Group[] => {
    const record = records.find((one) => one.split === split && one.ctx === ctx && one.model.includes("13b"));
    if (!record) return [];
    const caps = split.split(",").map((cap) => Number(cap) * 1024);
    return [
      {
        title: `${split} · ctx ${ctx}`,
        engine: "ExLlama",
        bars: (used ?? []).map((mib, i) => ({ label: String(i), planned: null, shown: mib, cap: caps[i] ?? null })),
        said: used ? null : "IndexError",
      },
      { title: `${split} · ctx ${ctx}`, engine: "exllama-ts", ...ours(record) },
    ];
  });
  // Caps may be far above all use: those are drawn as far as there is room.
  const most = 1.15 * Math.max(1024, ...groups.flatMap(({ bars }) => bars.map(({ shown }) => shown)));
  const rows = Math.ceil(groups.length / 2);
  const width = LEFT + 2 * GROUP + 20;
  const height = TOP + rows * (HEIGHT + 62) + 30;
  const drawn = groups.map((group, i) =>
    drawGroup(group, LEFT + (i % 2) * (GROUP + 20), TOP + Math.floor(i / 2) * (HEIGHT + 62), most),
  );
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" font-family="system-ui, sans-serif" font-size="12" role="img" aria-label="Memory per card: planned, shown and allowed">
<style>
.ground{fill:#fff}.ink{fill:#1d2430}.quiet{fill:#667080}.cap{fill:none;stroke:#667080;stroke-dasharray:3 3}.over{fill:#c8443c}.held{fill:#2f7d6b}.plan{fill:#9fd3c4}.shown{stroke:#1d2430;stroke-width:2}
@media (prefers-color-scheme: dark){.ground{fill:#14181f}.ink{fill:#e8ecf2}.quiet{fill:#98a3b3}.cap{stroke:#98a3b3}.plan{fill:#2f7d6b}.shown{stroke:#e8ecf2}}
</style>
<rect class="ground" width="${width}" height="${height}"/>
<text class="ink" x="${LEFT}" y="28" font-size="17" font-weight="600">--gpu-split says what a card shows</text>
${caption.map((line, i) => `<text class="quiet" x="${LEFT}" y="${46 + 16 * i}">${markup(line)}</text>`).join("\n")}
${drawn.join("\n")}
</svg>
`;
}

function ours({ outcome }: CaseRecord): Pick<Group, "bars" | "said"> {
  if (outcome.kind === "refused") return { bars: [], said: "refused before a byte was read" };
  return {
    bars: outcome.cards.map(({ id, planned, peak, cap }) => ({
      label: id.replace("cuda:", ""),
      planned: planned / MiB,
      shown: peak / MiB,
      cap: cap / MiB,
    })),
    said: null,
  };
}

function drawGroup({ title, engine, bars, said }: Group, x: number, y: number, most: number): string {
  const scale = (mib: number) => (Math.min(mib, most) / most) * HEIGHT;
  const lines = [
    `<text class="ink" x="${x}" y="${y - 6}" font-weight="600">${markup(engine)}</text>`,
    `<text class="quiet" x="${x + 84}" y="${y - 6}">${markup(title)}</text>`,
  ];
  if (said) lines.push(`<text class="quiet" x="${x}" y="${y + HEIGHT / 2}">${markup(said)}</text>`);
  bars.forEach(({ label, planned, shown, cap }, i) => {
    const left = x + i * (BAR + GAP);
    const bottom = y + HEIGHT;
    const rect = (kind: string, mib: number) =>
      `<rect class="${kind}" x="${left}" y="${(bottom - scale(mib)).toFixed(1)}" width="${BAR}" height="${scale(mib).toFixed(1)}"/>`;
    lines.push(rect(planned !== null ? "plan" : cap !== null && shown > cap ? "over" : "held", planned ?? shown));
    if (planned !== null) {
      const at = (bottom - scale(shown)).toFixed(1);
      lines.push(`<line class="shown" x1="${left - 3}" x2="${left + BAR + 3}" y1="${at}" y2="${at}"/>`);
    }
    if (cap !== null) lines.push(rect("cap", cap));
    lines.push(
      `<text class="quiet" x="${left + BAR / 2}" y="${bottom + 15}" text-anchor="middle">${markup(label)}</text>`,
      `<text class="ink" x="${left + BAR / 2}" y="${(bottom - scale(shown) - 5).toFixed(1)}" text-anchor="middle" font-size="10">${shown.toFixed(0)}</text>`,
    );
  });
  return lines.join("\n");
}

function markup(text: string): string {
  return text.replace(/[&<>"]/g, (one) => `&#${one.charCodeAt(0)};`);
}
