// What a context with this program's kernels takes on each kind of card, measured when models are
// loaded and kept in the user's cache folder, so that plans made later know it. Keyed by card
// name, driver and kernels: a change of any of them begins anew.

import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { homedir } from "node:os";
import { dirname, join } from "node:path";
import { MiB, roundUp } from "../../../memory/size.js";
import { packageRoot } from "../../../paths.js";

export interface CardKind {
  readonly name: string;
  readonly driver: string;
}

/**
 * Kernels that another model runs may need a little more than those that were loaded when it was
 * measured, and the driver takes memory for captured steps in pieces of 2 MiB, of which the last is not full.
 */
const ALLOWANCE = 4 * MiB;
/** More than any driver takes for a context: another process took memory meanwhile. */
const MOST_BELIEVED = 1024 * MiB;

export class Calibrations {
  readonly #file: string;

  constructor(file = join(cacheFolder(), "exllama", "cuda-baselines.json")) {
    this.#file = file;
  }

  /** Bytes to plan with, or `null` where nothing was measured. */
  find(card: CardKind): number | null {
    const value = this.#read()[keyOf(card)];
    return typeof value === "number" && Number.isSafeInteger(value) && value > 0 ? value : null;
  }

  /**
   * Keeps what was measured if it is more than what is known; a folder that cannot be written
   * only means that the next process measures again.
   */
  record(card: CardKind, measured: number): void {
    if (measured > MOST_BELIEVED) return;
    const planned = roundUp(measured + ALLOWANCE, MiB);
    if (planned <= (this.find(card) ?? 0)) return;
    const all = { ...this.#read(), [keyOf(card)]: planned };
    try {
      mkdirSync(dirname(this.#file), { recursive: true });
      const draft = `${this.#file}.${process.pid}`;
      writeFileSync(draft, `${JSON.stringify(all, null, 1)}\n`);
      renameSync(draft, this.#file);
    } catch {
      // Nothing depends on it.
    }
  }

  /** The file's contents; one that cannot be read counts as empty. */
  #read(): Record<string, unknown> {
    try {
      const value: unknown = JSON.parse(readFileSync(this.#file, "utf8"));
      return typeof value === "object" && value !== null ? (value as Record<string, unknown>) : {};
    } catch {
      return {};
    }
  }
}

function keyOf({ name, driver }: CardKind): string {
  return `${name} | driver ${driver} | kernels ${kernelHash()}`;
}

let hash: string | undefined;

/** Tells builds of the kernels apart. */
function kernelHash(): string {
  hash ??= createHash("sha256")
    .update(readFileSync(join(packageRoot, "kernels", "built", "manifest.json")))
    .digest("hex")
    .slice(0, 16);
  return hash;
}

function cacheFolder(): string {
  return process.env.XDG_CACHE_HOME || (process.platform === "win32" && process.env.LOCALAPPDATA) || join(homedir(), ".cache");
}
