// The computer itself as a device to plan on: how much of its memory this process could take,
// and how much of it the engine takes before a model is loaded. In a container the container's
// limit counts, not the machine's.

import { readFileSync } from "node:fs";
import { availableParallelism, freemem, totalmem } from "node:os";
import type { PlanDevice } from "../memory/plan.js";
import { MiB, roundUp } from "../memory/size.js";

/** The resident size varies by some MiB from start to start; plans should not. */
const BASELINE_STEP = 64 * MiB;

/** What the engine takes besides its arenas once it runs: compiled kernels, tokenizer, message buffers. */
const ENGINE_ALLOWANCE = 96 * MiB;

/** A compute thread: its JavaScript heap and stack. */
const THREAD_ALLOWANCE = 12 * MiB;

/** A control group without a limit says so with a number near 2⁶³. */
const NO_LIMIT = 2 ** 60;

/**
 * Measures now, in the process that asks.
 *
 * @param threads compute threads of each model; default: one per core this process may use
 * @param models 2 with a draft model, which has threads of its own
 */
export function measureCpuDevice(threads = availableParallelism(), models = 1): PlanDevice {
  const resident = process.memoryUsage.rss();
  const { total, available } = memoryNow();
  return {
    id: "cpu",
    card: "cpu",
    total,
    // What this process has already is part of what it may take.
    usedByOthers: Math.max(0, total - available - resident),
    baseline: roundUp(resident + ENGINE_ALLOWANCE + models * threads * THREAD_ALLOWANCE, BASELINE_STEP),
    baselineSource: "measured",
    reserve: 0,
  };
}

/** Memory of the machine or, where it is smaller, of the control group. */
function memoryNow(): { total: number; available: number } {
  const machine = machineMemory();
  const group = groupMemory();
  if (!group || group.total >= machine.total) return machine;
  return { total: group.total, available: Math.min(group.available, machine.available) };
}

function machineMemory(): { total: number; available: number } {
  const text = readText("/proc/meminfo");
  const kibibytes = (name: string) => Number(new RegExp(`^${name}:\\s+(\\d+) kB`, "m").exec(text ?? "")?.[1]) * 1024;
  const [total, available] = [kibibytes("MemTotal"), kibibytes("MemAvailable")];
  return total > 0 && available >= 0 ? { total, available } : { total: totalmem(), available: freemem() };
}

/** Limit and room of the control group, version 2 or 1; pages of files in memory give way and count as room. */
function groupMemory(): { total: number; available: number } | null {
  for (const [limitFile, usageFile, statFile] of GROUP_FILES) {
    const limit = Number(readText(limitFile) ?? Number.NaN); // "max" is no number: no limit
    const usage = Number(readText(usageFile) ?? Number.NaN);
    if (!(limit > 0 && limit < NO_LIMIT && usage >= 0)) continue;
    const stat = readText(statFile) ?? "";
    const files = ["inactive_file", "active_file"].reduce(
      (sum, name) => sum + Number(new RegExp(`^(?:total_)?${name} (\\d+)$`, "m").exec(stat)?.[1] ?? 0),
      0,
    );
    return { total: limit, available: Math.max(0, limit - usage + Math.min(usage, files)) };
  }
  return null;
}

const GROUP_FILES = [
  ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current", "/sys/fs/cgroup/memory.stat"],
  [
    "/sys/fs/cgroup/memory/memory.limit_in_bytes",
    "/sys/fs/cgroup/memory/memory.usage_in_bytes",
    "/sys/fs/cgroup/memory/memory.stat",
  ],
] as const;

function readText(path: string): string | null {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return null;
  }
}
