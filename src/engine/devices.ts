// What `exllama devices` shows: every card that CUDA sees, usable or not, and the computer itself.

import type { Card } from "../backend/cuda/cards/cards.js";
import { BaselineExceededError } from "../backend/cuda/errors.js";
import { demoModel, loadModel } from "./client.js";
import { measureCpuDevice } from "./cpu-device.js";
import { findGpus } from "./gpus.js";

export interface DeviceReport {
  readonly id: string;
  readonly name: string;
  readonly uuid: string | null;
  readonly total: number;
  readonly free: number;
  readonly usedByOthers: number;
  /** Ids of the devices whose memory it reaches directly. */
  readonly peers: readonly string[];
  readonly display: boolean;
  readonly capability: string | null;
  readonly driver: string | null;
  /** What this program takes there before a model's own bytes. */
  readonly baseline: number;
  readonly baselineSource: "table" | "calibrated" | "measured";
  /** Why no model can be loaded there, or `null`. */
  readonly unusable: string | null;
}

export interface DeviceList {
  readonly devices: readonly DeviceReport[];
  /** Why no GPU can be used, or `null`. */
  readonly problem: { readonly code: string; readonly message: string; readonly hint: string | null } | null;
}

/** Asks the driver; creates no context. */
export function listDevices(): DeviceList {
  const { cards, problem } = findGpus();
  const { total, usedByOthers, baseline, baselineSource } = measureCpuDevice();
  const cpu: DeviceReport = {
    id: "cpu",
    name: "this computer",
    uuid: null,
    total,
    free: total - usedByOthers,
    usedByOthers,
    peers: [],
    display: false,
    capability: null,
    driver: null,
    baseline,
    baselineSource,
    unusable: null,
  };
  return {
    devices: [...cards.map(reportOf), cpu],
    problem: problem && { code: problem.code, message: problem.message, hint: problem.hint ?? null },
  };
}

/**
 * Measures what the driver takes on each usable card, by loading the package's own small model
 * there in a process of its own; the figure is kept for later plans.
 */
export async function calibrateDevices(onDevice: (id: string) => void = () => {}): Promise<void> {
  for (const { ordinal, unusable } of findGpus().cards) {
    if (unusable !== null) continue;
    onDevice(`cuda:${ordinal}`);
    try {
      const model = await loadModel(demoModel, { devices: `cuda:${ordinal}`, ctx: 256 });
      await model.dispose();
    } catch (error) {
      // More than was planned with: it has been written down, which is all that was wanted.
      if (!(error instanceof BaselineExceededError)) throw error;
    }
  }
}

function reportOf(card: Card): DeviceReport {
  const { ordinal, name, uuid, total, free, display, capability, driver, baseline, baselineSource, unusable } = card;
  const peers = card.peers.map((peer) => `cuda:${peer}`);
  const shared = { name, uuid, total, free, usedByOthers: total - free, peers, display, capability, driver };
  return { id: `cuda:${ordinal}`, ...shared, baseline, baselineSource, unusable: unusable?.message ?? null };
}
