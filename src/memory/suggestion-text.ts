// What would do instead of a refused request, as options that can be typed.

import type { PlanRefusal, PlanSuggestion } from "./plan.js";
import { GiB, MiB } from "./size.js";

/** `--ctx 3328`, `--cache q8`, `--gpu-split 5GiB,3114MiB`; for the CPU `--cpu-memory 3114MiB`. */
export function optionsFor(refusal: Pick<PlanRefusal, "suggestions" | "devices">): string[] {
  const onCpu = refusal.devices.length === 1 && refusal.devices[0]!.id === "cpu";
  return refusal.suggestions.map((suggestion) => optionFor(suggestion, onCpu));
}

function optionFor({ change, value }: PlanSuggestion, onCpu: boolean): string {
  if (change === "ctx") return `--ctx ${value}`;
  // f32 is what the exact backend takes by itself, no value of the option.
  if (change === "cache") return value === "f32" ? "no --cache" : `--cache ${value}`;
  const sizes = (value as readonly number[]).map(exactSize).join(",");
  return onCpu ? `--cpu-memory ${sizes}` : `--gpu-split ${sizes}`;
}

/** A size that parseSize() reads back as the same number of bytes. */
export function exactSize(bytes: number): string {
  if (bytes % GiB === 0) return `${bytes / GiB}GiB`;
  return bytes % MiB === 0 ? `${bytes / MiB}MiB` : `${bytes}B`;
}
