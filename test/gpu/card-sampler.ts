// How much of each card is used, seen from a process that uses none of it: a child of this program
// asks NVML every 20 ms and remembers the most.

import { fork } from "node:child_process";
import { Nvml } from "../../src/backend/cuda/cards/nvml.js";
import { loadNvml } from "../../src/backend/cuda/driver/load.js";
import { distFile } from "../../src/paths.js";

const INTERVAL_MS = 20;

/** Used bytes per card, in the order of the UUIDs asked for. */
export interface CardUse {
  readonly now: number[];
  readonly peak: number[];
  readonly samples: number;
}

/** The child's side; sample-cards.ts runs it. */
export function runSampler(uuids: readonly string[]): void {
  const nvml = new Nvml(loadNvml());
  const handles = uuids.map((uuid) => nvml.find(uuid)!);
  const used = () =>
    handles.map((handle) => {
      const { total, free } = nvml.memory(handle);
      return total - free;
    });
  let peak = used();
  let samples = 0;
  setInterval(() => {
    const now = used();
    peak = peak.map((most, i) => Math.max(most, now[i]!));
    samples++;
  }, INTERVAL_MS);
  process.on("message", (what) => {
    const now = used();
    if (what === "reset") [peak, samples] = [now, 0];
    process.send?.({ now, peak: peak.map((most, i) => Math.max(most, now[i]!)), samples });
  });
  process.once("disconnect", () => process.exit(0));
}

export class CardSampler implements Disposable {
  readonly #child;

  constructor(uuids: readonly string[]) {
    this.#child = fork(distFile("gpu/sample-cards.js"), uuids);
  }

  /** Use now, and the most since the last reset. */
  read(): Promise<CardUse> {
    return this.#ask("read");
  }

  /** Use now, from which the most is counted anew. */
  reset(): Promise<CardUse> {
    return this.#ask("reset");
  }

  #ask(what: string): Promise<CardUse> {
    return new Promise((resolve, reject) => {
      const ended = (code: number | null) => reject(new Error(`the sampler ended with ${code}`));
      this.#child.once("exit", ended);
      this.#child.once("message", (message) => {
        this.#child.off("exit", ended);
        resolve(message as CardUse);
      });
      this.#child.send(what);
    });
  }

  [Symbol.dispose](): void {
    this.#child.disconnect();
  }
}
