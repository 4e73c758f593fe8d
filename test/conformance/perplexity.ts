// Perplexity over windows of the validation sets, and what it may be.

import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { packageRoot } from "../../src/paths.js";
import type { Driver } from "./driver.js";
import { referenceNll, type ValidationSet, validationWindow, WINDOW } from "./golden-models.js";

export const SETS: readonly ValidationSet[] = ["stories", "docs"];

/** The checkpoint whose windows are recorded on backends that quantise, too. */
export const RECORDED_MODEL = "demo-gptq-4bit-g128";

/** Mean negative log-likelihood of each window of each set. */
export type WindowNll = Readonly<Record<ValidationSet, readonly number[]>>;

/** By checkpoint on the exact CPU backend; by name of the backend on those that quantise. */
export type RecordedWindows = Readonly<Record<string, WindowNll>>;

/** Files that full.ts writes with RECORD_WINDOWS=1. */
export const RECORDS = {
  exact: join(packageRoot, "test/conformance/window-nll.json"),
  quantized: join(packageRoot, "test/conformance/quantized-nll.json"),
} as const;

export function recordedWindows(record: keyof typeof RECORDS): RecordedWindows {
  return JSON.parse(readFileSync(RECORDS[record], "utf8")) as RecordedWindows;
}

export function recordWindows(record: keyof typeof RECORDS, name: string, set: ValidationSet, windows: readonly number[]): void {
  const all = recordedWindows(record);
  const rounded = windows.map((nll) => Number(nll.toPrecision(9)));
  writeFileSync(RECORDS[record], `${JSON.stringify({ ...all, [name]: { ...all[name], [set]: rounded } }, null, 1)}\n`);
}

/** Mean negative log-likelihood of one window's tokens. */
export async function windowNll(driver: Driver, set: ValidationSet, k: number): Promise<number> {
  const logprobs = await driver.logprobs(validationWindow(set, k));
  return -logprobs.reduce((sum, value) => sum + value, 0) / WINDOW;
}

/** All windows of the reference. */
export async function allWindows(driver: Driver, name: string, set: ValidationSet): Promise<number[]> {
  const windows: number[] = [];
  for (let k = 0; k < referenceNll(name, set).windows; k++) windows.push(await windowNll(driver, set, k));
  return windows;
}

export function mean(values: readonly number[]): number {
  return values.reduce((a, b) => a + b, 0) / values.length;
}

/** Perplexity over the reference's, less 1. */
export function perplexityDifference(windows: readonly number[], name: string, set: ValidationSet): number {
  return Math.exp(mean(windows) - referenceNll(name, set).nll) - 1;
}
