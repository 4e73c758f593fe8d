// What the rounds come to: medians, shares of node-llama-cpp's speed, the goals they are held
// against, and how all that is shown.

import { DECODE_TOKENS, PROMPT_TOKENS } from "./rounds.js";
import { KINDS } from "./sides.js";

/** What issue and README promise, as a share of node-llama-cpp's speed. */
const GOALS = { plain: { decode: 1.1, prompt: 0.38 }, huge: { decode: 1.3, prompt: 0.38 } };

/**
 * The name of one of our sides in a record. Under the Node that runs the benchmark, the record's
 * `machine.node`, it is the bare name, as it was when there was no other.
 *
 * @param {"plain" | "huge"} pages
 * @param {{ version: string, running: boolean }} node
 */
export function sideName(pages, { version, running }) {
  return running ? pages : `${pages}@${version}`;
}

/**
 * @typedef {object} Figures of one kind of round
 * @property {number} tokensPerSecond median
 * @property {number} ratio to node-llama-cpp's
 * @property {number | null} goal of that ratio; `null` for node-llama-cpp itself
 * @property {number[]} rounds
 *
 * @typedef {{ engine: string, version: string, node: string, decode: Figures, prompt: Figures }} Side
 */

/**
 * @param {Record<string, { about: { engine: string, version: string, node: string } }>} sides
 * @param {Record<string, { decode: number[], prompt: number[] }>} rates tokens per second, by the same names; one
 *   of them is `llama`
 * @returns {Record<string, Side>}
 */
export function summarise(sides, rates) {
  const result = {};
  for (const [name, { about }] of Object.entries(sides)) {
    result[name] = { ...about };
    for (const kind of KINDS) {
      const rate = median(rates[name][kind]);
      const ratio = rate / median(rates.llama[kind]);
      const goal = GOALS[name.split("@")[0]]?.[kind] ?? null;
      result[name][kind] = { tokensPerSecond: rate, ratio, goal, rounds: rates[name][kind] };
    }
  }
  return result;
}

/**
 * The table, a group of rows for each Node, and below it which rows hold the goals.
 *
 * @param {Record<string, Side>} result
 */
export function describeResult(result) {
  return [...table(Object.values(result)), "", ...verdicts(Object.values(result))].join("\n");
}

function table(sides) {
  const rows = [["", `decode ${DECODE_TOKENS} tok/s`, "ratio", `prompt ${PROMPT_TOKENS} tok/s`, "ratio"]];
  for (const node of new Set(sides.map(({ node }) => node))) {
    rows.push([`Node ${node}`, "", "", "", ""]);
    for (const side of sides.filter((side) => side.node === node)) {
      const figures = KINDS.flatMap((kind) => [side[kind].tokensPerSecond.toFixed(1), ratioOf(side[kind])]);
      rows.push([`  ${side.engine} ${side.version}`, ...figures]);
    }
  }
  const widths = rows[0].map((_, column) => Math.max(...rows.map((row) => row[column].length)));
  const cell = (text, i) => (i === 0 ? text.padEnd(widths[i]) : text.padStart(widths[i]));
  return rows.map((row) => row.map(cell).join("   ").trimEnd());
}

function ratioOf(figures) {
  if (figures.goal === null) return "1";
  return `${digits(figures.ratio)} ${isHeld(figures) ? "≥" : "<"} ${figures.goal}`;
}

function verdicts(sides) {
  const ours = sides.filter(({ decode }) => decode.goal !== null);
  const label = ({ engine, node }) => `  Node ${node}, ${engine}`;
  const width = Math.max(...ours.map((side) => label(side).length));
  return ["goals:", ...ours.map((side) => `${label(side).padEnd(width)}   ${verdictOf(side)}`)];
}

function verdictOf(side) {
  const below = KINDS.filter((kind) => !isHeld(side[kind]));
  if (below.length === 0) return "ok";
  return `below: ${below.map((kind) => `${kind} ${digits(side[kind].ratio)} of ${side[kind].goal}`).join(", ")}`;
}

function isHeld({ ratio, goal }) {
  return ratio >= goal;
}

/** Rounded down: what is below a goal of two digits must not look like it. */
function digits(ratio) {
  return (Math.floor(ratio * 100) / 100).toFixed(2);
}

function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}
