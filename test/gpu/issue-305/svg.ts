// The few shapes that the picture is made of, as text.

export type Style = "ink" | "quiet" | "bad" | "good" | "typed";

export interface TextOptions {
  readonly size?: number;
  readonly bold?: boolean;
  readonly mono?: boolean;
  readonly anchor?: "start" | "middle" | "end";
}

/** A run of text in one style, or several runs one after the other. */
export type Runs = string | readonly (readonly [Style, string])[];

export function text(x: number, y: number, style: Style, runs: Runs, options: TextOptions = {}): string {
  const { size, bold, mono, anchor } = options;
  const attributes = [
    `class="${style}${mono ? " mono" : ""}"`,
    `x="${px(x)}" y="${px(y)}"`,
    ...(size ? [`font-size="${size}"`] : []),
    ...(bold ? ['font-weight="600"'] : []),
    ...(anchor ? [`text-anchor="${anchor}"`] : []),
  ];
  const inside =
    typeof runs === "string"
      ? markup(runs)
      : runs.map(([of, run]) => (of === style ? markup(run) : `<tspan class="${of}">${markup(run)}</tspan>`)).join("");
  return `<text ${attributes.join(" ")}>${inside}</text>`;
}

export function rect(kind: string, x: number, y: number, width: number, height: number, radius = 0): string {
  return `<rect class="${kind}" x="${px(x)}" y="${px(y)}" width="${px(width)}" height="${px(height)}"${radius ? ` rx="${radius}"` : ""}/>`;
}

export function upright(kind: string, x: number, from: number, to: number): string {
  return `<path class="${kind}" d="M${px(x)} ${px(from)}V${px(to)}"/>`;
}

const MARKS = {
  /** A cross on a full disc. */
  broken: ["disc bad", "M-2.6-2.6 2.6 2.6M-2.6 2.6 2.6-2.6"],
  /** A tick on a full disc. */
  held: ["disc good", "M-3 .2-.9 2.4 3-2.2"],
  /** A dash in a ring: nothing wrong was taken, and little used. */
  idle: ["ring", "M-2.8 0H2.8"],
  /** A slanted bar in a ring: no entry. */
  refused: ["ring", "M-3.6 3.6 3.6-3.6"],
} as const;

export type Mark = keyof typeof MARKS;

/** A sign of 12 by 12 around a point: its shape says the same as its colour. */
export function mark(kind: Mark, x: number, y: number): string {
  const [disc, path] = MARKS[kind];
  return `<g transform="translate(${px(x)} ${px(y)})"><circle class="${disc}" r="${disc === "ring" ? 5.2 : 6}"/><path class="${disc === "ring" ? "on-ring" : "on-disc"}" d="${path}"/></g>`;
}

/** Lines of at most `most` characters, broken between words. */
export function wrap(words: string, most: number): string[] {
  const lines: string[] = [];
  for (const word of words.split(" ").filter(Boolean)) {
    const line = lines.at(-1);
    if (line !== undefined && line.length + 1 + word.length <= most) lines[lines.length - 1] = `${line} ${word}`;
    else lines.push(word);
  }
  return lines;
}

export function markup(words: string): string {
  return words.replace(/[&<>"]/g, (one) => `&#${one.charCodeAt(0)};`);
}

function px(length: number): string {
  return String(Math.round(length * 10) / 10);
}
