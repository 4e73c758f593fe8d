// `exllama bench --profile` as people and as programs read it.

import type { StepProfile } from "../../engine/profile.js";

/** What cannot be said of a kernel that moves next to nothing. */
const NOTHING = "–";

/** One profile as a JSON value: microseconds, bytes, bytes per second. */
export function profileJson(profile: StepProfile) {
  const { kernels, readRate, stepMicroseconds } = profile;
  const { bytes, alone } = totals(profile);
  return {
    ...profile,
    kernels: kernels.map((kernel) => ({ ...kernel, share: kernel.bytes / (kernel.microseconds * 1e-6) / readRate })),
    aloneMicroseconds: alone,
    bytes,
    share: bytes / (stepMicroseconds * 1e-6) / readRate,
    tokensPerSecond: (profile.rows * 1e6) / stepMicroseconds,
  };
}

/** Lines of a table, one kernel each, then the step. */
export function profileLines(profile: StepProfile): string[] {
  const { rows, depth, prompt, kernels, readRate, stepMicroseconds, throughHostMicroseconds } = profile;
  const { bytes, alone } = totals(profile);
  const rate = (moved: number, microseconds: number): string[] =>
    moved < 1e5
      ? [NOTHING, NOTHING, NOTHING]
      : [
          (moved / 1e6).toFixed(1),
          (moved / microseconds / 1e3).toFixed(0),
          `${((moved / (microseconds * 1e-6) / readRate) * 100).toFixed(0)} %`,
        ];
  const table = [
    ["what", "kernel", "launches", "µs each", "µs", "MB each", "GB/s", "of reading"],
    ...kernels.map((kernel) => [
      kernel.role,
      kernel.kernel,
      `${kernel.launches}`,
      kernel.microseconds.toFixed(2),
      (kernel.microseconds * kernel.launches).toFixed(1),
      ...rate(kernel.bytes, kernel.microseconds),
    ]),
    [
      "all kernels, each alone",
      "",
      `${kernels.reduce((sum, { launches }) => sum + launches, 0)}`,
      "",
      alone.toFixed(1),
      "",
      "",
      "",
    ],
    ["the step", "", "", "", stepMicroseconds.toFixed(1), ...rate(bytes, stepMicroseconds)],
    ["the step, host included", "", "", "", throughHostMicroseconds.toFixed(1), ...rate(bytes, throughHostMicroseconds)],
  ];
  const widths = table[0]!.map((_, column) => Math.max(...table.map((cells) => cells[column]!.length)));
  const line = (cells: readonly string[]): string =>
    cells.map((cell, column) => (column < 2 ? cell.padEnd(widths[column]!) : cell.padStart(widths[column]!))).join("  ");
  return [
    `${prompt ? `a prompt of ${rows} tokens` : `${rows} ${rows === 1 ? "sequence" : "sequences"} of ${depth} tokens`}; reading alone: ${(readRate / 1e9).toFixed(0)} GB/s`,
    ...table.map(line),
  ];
}

function totals({ kernels }: StepProfile): { bytes: number; alone: number } {
  const sum = (of: (kernel: StepProfile["kernels"][number]) => number) => kernels.reduce((total, each) => total + of(each), 0);
  return { bytes: sum(({ bytes, launches }) => bytes * launches), alone: sum((each) => each.microseconds * each.launches) };
}
