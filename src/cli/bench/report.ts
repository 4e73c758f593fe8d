// What a benchmark found, as people and as programs read it.

import type { CardMeters } from "../../engine/card-meters.js";
import type { EngineStatus, Model } from "../../index.js";
import { formatBytes } from "../../memory/size.js";
import { tableLines } from "../../memory/text-table.js";
import { grouped, seconds } from "../output.js";
import type { MeasuredRow } from "./measure.js";
import { rowName } from "./rows.js";

export interface BenchResult {
  readonly model: Pick<Model, "info" | "plan">;
  readonly meters: Pick<CardMeters, "card" | "driver">;
  readonly loadMs: number;
  readonly devices: EngineStatus["devices"];
  /** Bytes per second of a kernel that only reads, in the same run; `null` where there is none. */
  readonly readRate: number | null;
  readonly rows: readonly MeasuredRow[];
}

/** Nothing was or can be measured. */
const NOTHING = "–";

/** One JSON value: tokens and bytes per second, bytes, joules, milliseconds. */
export function benchJson({ model: { info, plan }, meters, loadMs, devices, readRate, rows }: BenchResult) {
  const sum = (area: "total" | "scratch") => plan.devices.reduce((bytes, device) => bytes + device[area], 0);
  return {
    model: info.source,
    backend: info.backend,
    card: meters.card,
    driver: meters.driver,
    context: plan.context,
    cache: plan.run.cacheType,
    loadMs,
    memoryBytes: sum("total"),
    prefillChunk: plan.run.prefillChunk,
    scratchBytes: sum("scratch"),
    devices,
    readRate,
    rows: rows.map(({ row, ...measured }) => ({
      name: rowName(row),
      ...row,
      ...measured,
      shareOfReading: shareOf(measured.bytesPerSecond, readRate),
    })),
  };
}

/** Lines about the model, then a table with a line for each row. */
export function benchLines({ model: { info, plan }, meters, loadMs, devices, readRate, rows }: BenchResult): string[] {
  const { run, context } = plan;
  const where = meters.card === null ? info.backend : `${meters.card}, driver ${meters.driver}`;
  const or = <T>(value: T | null, text: (value: T) => string) => (value === null ? NOTHING : text(value));
  const column = (heading: string, cell: (row: MeasuredRow) => string) => ({ heading, cells: rows.map(cell), right: true });
  return [
    `${info.source} (${info.architecture}, ${info.quantization}), ${where}`,
    `loaded in ${seconds(loadMs)}; context ${grouped(context)}, ${run.cacheType} cache of ${grouped(run.cacheTokens)} tokens, prompts ${grouped(run.prefillChunk)} at a time`,
    ...devices.map(
      ({ id, planned, measured }) =>
        `${id}: ${formatBytes(planned)} planned${measured === null ? "" : `, ${formatBytes(measured)} measured`}`,
    ),
    ...(readRate === null ? [] : [`reading alone: ${(readRate / 1e9).toFixed(0)} GB/s`]),
    "",
    ...tableLines([
      { heading: "", cells: rows.map(({ row }) => rowName(row)) },
      column("tokens/s", ({ tokensPerSecond }) => rate(tokensPerSecond.mean)),
      column("±", ({ tokensPerSecond }) => rate(tokensPerSecond.deviation)),
      column("GB/s", ({ bytesPerSecond }) => or(bytesPerSecond, (bytes) => (bytes / 1e9).toFixed(bytes < 1e11 ? 2 : 0))),
      column("of reading", ({ bytesPerSecond }) =>
        or(shareOf(bytesPerSecond, readRate), (share) => `${(share * 100).toFixed(0)} %`),
      ),
      column("J/token", ({ joulesPerToken }) => or(joulesPerToken, (joules) => joules.toPrecision(3))),
    ]),
  ];
}

function shareOf(bytesPerSecond: number | null, readRate: number | null): number | null {
  return bytesPerSecond === null || readRate === null ? null : bytesPerSecond / readRate;
}

/** Three digits at least; none behind the point where they mean nothing. */
function rate(tokensPerSecond: number): string {
  return tokensPerSecond < 1000 ? tokensPerSecond.toFixed(1) : grouped(Math.round(tokensPerSecond));
}
