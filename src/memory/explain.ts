// A plan or a refusal as a person reads it: figures in one table, one unit, and a bar per
// device that shows at a glance what fills it.

import { adapterBytes } from "./adapter-bytes.js";
import type { DevicePlan, Plan, PlanRefusal } from "./plan.js";
import { formatBytes, GiB, MiB } from "./size.js";
import { optionsFor } from "./suggestion-text.js";
import { type Column, tableLines, tableWidth, wrap } from "./text-table.js";

export interface ExplainOptions {
  /** Columns of the terminal; default 100. */
  readonly width?: number;
  /** ANSI colours; default false. */
  readonly color?: boolean;
  /** What is planned, as the heading: `llama, 13.0 B parameters, GPTQ 4-bit`. */
  readonly title?: string;
}

type Paint = (text: string, style: keyof typeof STYLES) => string;

const STYLES = { bold: 1, dim: 2, red: 31, green: 32, yellow: 33, blue: 34 } as const;

/** What a bar is made of, in the order of the arena; each part has a colour and, without colours, a shade. */
const PARTS = [
  { name: "weights", glyph: "█", style: "blue", bytes: (device: DevicePlan) => device.weights },
  { name: "KV cache", glyph: "▓", style: "green", bytes: (device: DevicePlan) => device.kvCache },
  { name: "scratch", glyph: "▒", style: "yellow", bytes: (device: DevicePlan) => device.scratch },
  { name: "baseline", glyph: "░", style: "dim", bytes: (device: DevicePlan) => device.baseline },
] as const;

/** The table, the bars, the largest contexts, what binds, and the notes. */
export function explainPlan(plan: Plan, { width = 100, color = false, title }: ExplainOptions = {}): string {
  const paint = painter(color);
  const { cacheType, cacheTokens, maxSequences, prefillChunk } = plan.run;
  const lines = [
    ...(title ? [paint(title, "bold"), ""] : []),
    ...facts(
      [
        ["context", `${tokens(plan.context)} tokens`],
        ["KV cache", `${cacheType}, ${tokens(cacheTokens)} tokens in the pool, ${plural(maxSequences, "sequence")}`],
        ["prefill", `chunks of ${tokens(prefillChunk)} tokens`],
        ["split", `${plan.splitMode}, ${plan.packing} packing`],
        ...draftFacts(plan),
        ...(plan.adapters ? [["adapters", adapters(plan)] as const] : []),
      ],
      width,
      paint,
    ),
    "",
    ...deviceTable(plan.devices, width, paint),
    "",
    ...bars(plan.devices, width, paint),
    "",
    ...facts(
      [
        ["largest contexts", contexts(plan.largestContext)],
        ["what binds", plan.binding],
        ...plan.notes.map((note): [string, string] => ["note", note]),
      ],
      width,
      paint,
    ),
  ];
  return lines.join("\n");
}

/** What is missing where, and every change that would do as an option to type. */
export function explainRefusal(refusal: PlanRefusal, { width = 100, color = false, title }: ExplainOptions = {}): string {
  const paint = painter(color);
  const options = optionsFor(refusal);
  const used = refusal.devices.filter(({ cap, needed }) => cap > 0 || needed > 0);
  const lines = [
    ...(title ? [paint(title, "bold"), ""] : []),
    ...wrap(`no plan: ${refusal.message}`, width).map((line) => paint(line, "red")),
    ...(refusal.needed !== null && used.length > 1 ? ["", ...shortageTable(used, paint)] : []),
    ...(options.length > 0
      ? ["", "What would fit, each by itself:", ...options.map((option) => paint(`  ${option}`, "bold"))]
      : []),
    "",
    ...facts([["largest contexts", contexts(refusal.largestContext)]], width, paint),
  ];
  return lines.join("\n");
}

function deviceTable(devices: readonly DevicePlan[], width: number, paint: Paint): string[] {
  const used = devices.filter(({ excluded }) => excluded === null);
  const unit = unitFor(used.map(({ total }) => total));
  const size = (heading: string, bytes: (device: DevicePlan) => number): Column => ({
    heading,
    cells: [...used.map((device) => unit.write(bytes(device))), ...(used.length > 1 ? [unit.write(sum(used, bytes))] : [])],
    right: true,
  });
  const columns: Column[] = [
    { heading: unit.name, cells: [...used.map(({ id }) => id), ...(used.length > 1 ? ["all"] : [])] },
    { heading: "layers", cells: used.map(layersOf) },
    size("weights", ({ weights }) => weights),
    size("KV cache", ({ kvCache }) => kvCache),
    size("scratch", ({ scratch }) => scratch),
    size("baseline", ({ baseline }) => baseline),
    size("total", ({ total }) => total),
    size("cap", ({ cap }) => cap),
  ];
  const headroom = size("headroom", (device) => device.headroom);
  const shown = tableWidth([...columns, headroom]) <= width ? [...columns, headroom] : columns;
  const [headings, ...rows] = tableLines(shown);
  const leftOut = devices
    .filter(({ excluded }) => excluded !== null)
    .flatMap(({ id, excluded }) => wrap(`${id} is left out: ${excluded}`, width, "  "));
  return [paint(headings!, "dim"), ...rows, ...leftOut.map((line) => paint(line, "dim"))];
}

/** Where the draft model lies and what it takes of that device's sums. */
function draftFacts({ devices }: Plan): [string, string][] {
  return devices.flatMap(({ id, draft }): [string, string][] => {
    if (!draft) return [];
    const { weights, kvCache, scratch } = draft;
    const parts = `${formatBytes(weights)} weights, ${formatBytes(kvCache)} KV cache, ${formatBytes(scratch)} scratch`;
    return [["draft model", `whole on ${id}, in its sums: ${parts}`]];
  });
}

function layersOf({ layers: { first, count }, draft }: DevicePlan): string {
  const range = count === 0 ? "" : count === 1 ? `${first}` : `${first}–${first + count - 1}`;
  return [range, draft ? "draft" : ""].filter(Boolean).join(" + ");
}

function bars(devices: readonly DevicePlan[], width: number, paint: Paint): string[] {
  const used = devices.filter(({ excluded }) => excluded === null);
  const names = Math.max(...used.map(({ id }) => id.length));
  const cells = Math.max(10, Math.min(60, width - names - 2 - " 100.0 % of its cap".length));
  const legend = PARTS.map(({ name, glyph, style }) => `${paint(glyph, style)} ${name}`).join("  ");
  const lines = used.map((device) => {
    const percent = `${((100 * device.total) / device.cap).toFixed(1)} %`.padStart(7);
    return `${device.id.padEnd(names)}  ${bar(device, cells, paint)} ${percent} of its cap`;
  });
  return [...lines, `${" ".repeat(names + 2)}${legend}`];
}

/** Parts of the cap in whole cells, the borders rounded so that they add up. */
function bar(device: DevicePlan, cells: number, paint: Paint): string {
  let text = "";
  let bytes = 0;
  let filled = 0;
  for (const part of PARTS) {
    bytes += part.bytes(device);
    const end = Math.round((bytes / device.cap) * cells);
    if (end > filled) text += paint(part.glyph.repeat(end - filled), part.style);
    filled = Math.max(filled, end);
  }
  return text + paint("·".repeat(cells - filled), "dim");
}

function shortageTable(devices: PlanRefusal["devices"], paint: Paint): string[] {
  const unit = unitFor(devices.map(({ needed }) => needed));
  const column = (heading: string, bytes: (device: PlanRefusal["devices"][0]) => number): Column => ({
    heading,
    cells: devices.map((device) => unit.write(bytes(device))),
    right: true,
  });
  const [headings, ...rows] = tableLines([
    { heading: unit.name, cells: devices.map(({ id }) => id) },
    column("needed", ({ needed }) => needed),
    column("cap", ({ cap }) => cap),
    { ...column("short", ({ needed, cap }) => Math.max(0, needed - cap)), right: true },
  ]);
  return [paint(headings!, "dim"), ...rows];
}

/** One unit for a whole table, by its largest figure. */
function unitFor(sizes: readonly number[]): { name: string; write(bytes: number): string } {
  if (Math.max(0, ...sizes) < 2 * GiB) return { name: "MiB", write: (bytes) => (bytes / MiB).toFixed(1) };
  return { name: "GiB", write: (bytes) => (bytes / GiB).toFixed(2) };
}

function adapters({ adapters = [], devices }: Plan): string {
  const bytes = sum(devices, ({ stage }) => adapterBytes(stage));
  return `${adapters.map(({ name, rank }) => `${name} (rank ${rank})`).join(", ")}: ${formatBytes(bytes)} of the weights`;
}

function contexts(largest: Plan["largestContext"]): string {
  return (["f16", "q8", "q4"] as const).map((type) => `${type} ${largest[type] ? tokens(largest[type]) : "none"}`).join("   ");
}

/** `name   text`, the texts below each other, long ones wrapped. */
function facts(pairs: readonly (readonly [string, string])[], width: number, paint: Paint): string[] {
  const names = Math.max(...pairs.map(([name]) => name.length));
  const indent = " ".repeat(names + 2);
  return pairs.flatMap(([name, text]) => {
    const [first, ...rest] = wrap(text, Math.max(20, width - indent.length));
    return [`${paint(name.padEnd(names), "dim")}  ${first}`, ...rest.map((line) => indent + line)];
  });
}

function painter(color: boolean): Paint {
  return (text, style) => (color && text !== "" ? `\u001b[${STYLES[style]}m${text}\u001b[0m` : text);
}

function tokens(count: number): string {
  return count.toLocaleString("en-US");
}

function plural(count: number, noun: string): string {
  return count === 1 ? `1 ${noun}` : `${count} ${noun}s`;
}

function sum<T>(all: readonly T[], value: (one: T) => number): number {
  return all.reduce((total, one) => total + value(one), 0);
}
