// The record of a card: rows of any age, each with the commit and day it was measured at, so that a
// run of some rows leaves the others as they are.

import { existsSync, readFileSync, renameSync, writeFileSync } from "node:fs";

/** `NVIDIA H100 80GB HBM3` → `nvidia-h100-80gb-hbm3`. */
export function fileNameOf(card) {
  return card
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, "-")
    .replace(/^-|-$/g, "");
}

/** What tells rows apart. */
export function keyOf({ model, cache, name }) {
  return `${model} ${cache} ${name}`;
}

/**
 * Rows as they are kept.
 *
 * @param {{ model: string, kind: string }} job
 * @param {object} report the JSON of `exllama bench`
 * @param {object} run commit, date, node
 */
export function rowsOf({ model, kind: section }, report, run) {
  const { cache, context, readRate, devices, driver } = report;
  return report.rows.map((row) => ({ model, section, cache, context, ...row, readRate, devices, driver, ...run }));
}

/** The record with these rows: in the place of older ones of the same kind, else behind the others. */
export function withRows(record, rows) {
  const fresh = new Map(rows.map((row) => [keyOf(row), row]));
  const kept = record.rows.map((row) => {
    const key = keyOf(row);
    const replaced = fresh.get(key) ?? row;
    fresh.delete(key);
    return replaced;
  });
  return { ...record, rows: [...kept, ...fresh.values()] };
}

/** What is recorded of a card; nothing yet where there is no file. */
export function readRecord(path, card) {
  return existsSync(path) ? JSON.parse(readFileSync(path, "utf8")) : { card, rows: [] };
}

/** Whole or not at all, whatever interrupts it. */
export function writeWhole(path, text) {
  writeFileSync(`${path}.part`, text);
  renameSync(`${path}.part`, path);
}
