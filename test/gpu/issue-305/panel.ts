// One engine's half of a row: bars with their figures, a verdict, a refusal in its own words.

import { type Bar, type Comparison, isBroken, isIdle, isLeftOut } from "./comparison.js";
import { type Mark, mark, rect, type Style, text, upright, wrap } from "./svg.js";

/** A part of the picture, drawn from its top left corner, and its height. */
export interface Part {
  readonly svg: string;
  readonly height: number;
}

export const PANEL = 274;
export const LINE = 16;
export const BAR = 11;
/** In a panel: the GPU's number, the bars, the figures. */
const BARS = 14;
export const BARS_WIDTH = 166;
/** Where figures end, and what is said beside them begins. */
const FIGURE = PANEL - 45;
/** Where a verdict's words begin, behind its mark. */
const WORDS = 16;
/** Characters of a line below it, in the widest of usual fonts. */
const CHARACTERS = 37;

/** The parts one below the other. */
export function stacked(parts: readonly Part[]): Part {
  let height = 0;
  const drawn = parts.map((part) => {
    height += part.height;
    return moved(part, 0, height - part.height);
  });
  return { svg: drawn.join("\n"), height };
}

export function moved({ svg }: Part, x: number, y: number): string {
  return `<g transform="translate(${x} ${y})">\n${svg}\n</g>`;
}

/** @param scale pixels of a MiB */
export function exllamaPanel({ split, ctx, exllama }: Comparison, scale: number): Part {
  const broken = exllama?.filter(isBroken).length ?? 0;
  const idle = exllama?.filter(isIdle).length ?? 0;
  const words = [broken > 0 ? `${broken} broken` : exllama ? "held" : "died", ...(idle > 0 ? [`${idle} idle`] : [])];
  const bad = broken > 0 || !exllama;
  const heading = [
    text(0, 12, "quiet", [
      ["typed", split],
      ["quiet", `\u00a0 ctx ${ctx}`],
    ]),
    text(PANEL - 16, 12, bad ? "bad" : "quiet", words.join(", "), { bold: bad, anchor: "end" }),
    mark(bad ? "broken" : "idle", PANEL - 6, 8),
  ];
  const taken = exllama
    ? bars(exllama, scale, "theirs", (one) => {
        if (isIdle(one)) return ["quiet", "idle"];
        return isBroken(one) ? ["bad", `+${mib(one.shown - one.cap)}`] : ["quiet", ""];
      })
    : indexError();
  return stacked([{ svg: heading.join("\n"), height: LINE + 2 }, taken]);
}

/** @param scale pixels of a MiB */
export function ourPanel({ refusal, ran }: Comparison, scale: number): Part {
  const parts: Part[] = [];
  if (refusal) {
    parts.push(verdict("refused", "ink", "refused before a weight is read"));
    for (const line of wrap(refusal.short, CHARACTERS)) parts.push(below("ink", line));
    for (const line of wrap(refusal.fits, CHARACTERS)) parts.push(below("quiet", line));
    if (ran) parts.push({ svg: "", height: 5 });
  }
  if (ran) {
    const broken = ran.bars.filter(isBroken).length;
    const where = refusal ? `--ctx auto, ${ran.context} tokens: ` : "";
    const most = refusal ? "" : `, up to ${ran.largestContext} tokens fit`;
    parts.push(
      broken > 0 ? verdict("broken", "bad", where + brokenCaps(broken)) : verdict("held", "good", `${where}caps held${most}`),
      bars(ran.bars, scale, "ours", (one) => (isLeftOut(one) ? ["quiet", "left out"] : ["quiet", `/ ${mib(one.planned ?? 0)}`])),
    );
  }
  return stacked(parts);
}

/** A bar from 0 to what was shown, its part above the cap in another colour and striped. */
export function bar({ shown, planned, cap }: Bar, kind: "theirs" | "ours", x: number, y: number, scale: number): string {
  const within = Math.min(shown, cap);
  const parts = [rect("room", x, y, cap * scale, BAR), rect(kind, x, y, within * scale, BAR)];
  if (shown > cap) {
    for (const over of ["over", "stripes"]) parts.push(rect(over, x + cap * scale, y, (shown - cap) * scale, BAR));
  }
  parts.push(upright("cap", x + cap * scale, y - 2, y + BAR + 2));
  if (planned) parts.push(upright("plan", x + planned * scale, y - 1, y + BAR + 1));
  return parts.join("\n");
}

export function brokenCaps(count: number): string {
  return count > 1 ? `${count} caps broken` : `${count || "no"} cap broken`;
}

/** @param beside what stands after a bar's figure, or instead of a figure of 0 */
function bars(all: readonly Bar[], scale: number, kind: "theirs" | "ours", beside: (bar: Bar) => readonly [Style, string]): Part {
  const drawn = all.map((one, i) => {
    const y = i * LINE + 2;
    const figure = mib(one.shown);
    return [
      text(0, y + 10, "quiet", one.gpu),
      bar(one, kind, BARS, y, scale),
      ...(one.shown > 0 ? [text(FIGURE, y + 10, "ink", figure, { anchor: "end" })] : []),
      text(one.shown > 0 ? FIGURE + 4 : PANEL, y + 10, ...beside(one), one.shown > 0 ? {} : { anchor: "end" }),
    ].join("\n");
  });
  return { svg: drawn.join("\n"), height: all.length * LINE };
}

function verdict(kind: Mark, style: Style, words: string): Part {
  return { svg: `${mark(kind, 6, 8)}\n${text(WORDS, 12, style, words, { bold: true })}`, height: LINE + 2 };
}

function below(style: Style, words: string): Part {
  return { svg: text(WORDS, 12, style, words), height: LINE };
}

function indexError(): Part {
  const said = text(8, 22, "bad", "IndexError: list index out of range", { mono: true, size: 11.5 });
  return { svg: `${rect("error", 0, 5, PANEL, 26, 3)}\n${said}`, height: 36 };
}

function mib(size: number): string {
  return size.toFixed(0);
}
