// Perplexity over windows of the validation sets, and what it may be.

import type { Driver } from "./driver.js";
import { referenceNll, type ValidationSet, validationWindow, WINDOW } from "./golden-models.js";

/** window-nll.json: per checkpoint and set, the mean negative log-likelihood of each window on the exact CPU backend. */
export type RecordedWindows = Readonly<Record<string, Readonly<Record<ValidationSet, readonly number[]>>>>;

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

/** Perplexity over the reference's, less 1. */
export function perplexityDifference(windows: readonly number[], name: string, set: ValidationSet): number {
  const mean = windows.reduce((a, b) => a + b, 0) / windows.length;
  return Math.exp(mean - referenceNll(name, set).nll) - 1;
}
