// How the server has been doing: tokens, queue and latency over the last quarter of an hour.
// Each chart says its newest figures in words, too.

import { useEffect, useRef } from "preact/hooks";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { colors } from "../ui/theme.js";
import { ratesOf, samples } from "./status.js";

interface Line {
  readonly name: string;
  /** Custom property of the style sheet. */
  readonly color: string;
  readonly values: readonly (number | null)[];
}

interface ChartProps {
  /** Its figures are whole. */
  readonly whole?: boolean;
  readonly title: string;
  readonly unit: string;
  readonly times: readonly number[];
  readonly lines: readonly Line[];
}

const HEIGHT = 150;
/** Seconds. */
const SHOWN_AT_LEAST = 300;

export function Charts() {
  const rates = ratesOf(samples.value);
  const { times } = rates;
  return (
    <div class="charts">
      <Chart
        title="Tokens"
        unit="per second"
        times={times}
        lines={[
          { name: "generated", color: "--weights", values: rates.generated },
          { name: "prompt", color: "--cache", values: rates.prompt },
        ]}
      />
      <Chart
        title="Sequences"
        unit=""
        whole
        times={times}
        lines={[
          { name: "running", color: "--weights", values: rates.running },
          { name: "waiting", color: "--scratch", values: rates.waiting },
        ]}
      />
      <Chart
        title="Latency"
        unit="ms"
        times={times}
        lines={[
          { name: "first token", color: "--cache", values: rates.firstTokenMs },
          { name: "between tokens", color: "--weights", values: rates.betweenTokensMs },
        ]}
      />
    </div>
  );
}

function Chart({ title, unit, times, lines, whole = false }: ChartProps) {
  const place = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const painted = colors.value;
  useEffect(() => {
    const element = place.current!;
    plot.current = new uPlot(optionsFor(element, lines, whole), [[], ...lines.map(() => [])] as uPlot.AlignedData, element);
    const observer = new ResizeObserver(() => plot.current?.setSize({ width: element.clientWidth, height: HEIGHT }));
    observer.observe(element);
    return () => {
      observer.disconnect();
      plot.current?.destroy();
    };
  }, [painted]);
  useEffect(() => {
    plot.current?.setData([[...times], ...lines.map(({ values }) => [...values])] as uPlot.AlignedData);
  }, [times.at(-1), times.length, painted]);
  return (
    <section class="card chart" aria-label={title}>
      <h2>
        {title} {unit && <small>{unit}</small>}
      </h2>
      <p class="chart-now">
        {lines.map(({ name, color, values }) => (
          <span key={name}>
            <i class="swatch" style={{ background: `var(${color})` }} /> {name} <b>{figure(lastOf(values))}</b>
          </span>
        ))}
      </p>
      <div ref={place} class="plot" aria-hidden="true" />
    </section>
  );
}

function optionsFor(element: HTMLElement, lines: readonly Line[], whole: boolean): uPlot.Options {
  const style = getComputedStyle(element);
  const color = (name: string) => style.getPropertyValue(name).trim();
  const axis = {
    stroke: color("--ink-2"),
    grid: { stroke: color("--line"), width: 1 },
    ticks: { show: false },
    font: `11px ${style.fontFamily}`,
  };
  return {
    width: Math.max(100, element.clientWidth),
    height: HEIGHT,
    padding: [8, 18, 0, 0],
    legend: { show: false },
    cursor: { show: false },
    scales: {
      x: { range: (_, first, last) => [Math.min(first ?? 0, (last ?? 0) - SHOWN_AT_LEAST), last ?? 0] },
      y: { range: (_, __, most) => [0, Math.max(1, (most ?? 0) * 1.15)] },
    },
    axes: [
      { ...axis, size: 26, space: 60, incrs: [60, 120, 300], values: (_, ticks) => ticks.map(clock) },
      { ...axis, size: 44, space: 34, ...(whole ? { incrs: [1, 2, 5, 10, 20, 50, 100] } : {}) },
    ],
    series: [
      {},
      ...lines.map(({ color: name }) => ({
        stroke: color(name),
        width: 2,
        points: { show: false },
        spanGaps: true,
        fill: `${color(name)}1f`,
      })),
    ],
  };
}

function clock(seconds: number): string {
  return new Date(seconds * 1000).toTimeString().slice(0, 5);
}

function lastOf(values: readonly (number | null)[]): number | null {
  return values.findLast((value) => value !== null) ?? null;
}

function figure(value: number | null): string {
  if (value === null) return "–";
  return value >= 100 || Number.isInteger(value) ? String(Math.round(value)) : value.toFixed(1);
}
