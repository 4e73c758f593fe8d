// `exllama devices` on a real machine: what CUDA_VISIBLE_DEVICES leaves of it, and the calibration of the driver's
// own memory, in processes of their own.

import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Card } from "../../src/backend/cuda/cards/cards.js";
import type { DeviceReport } from "../../src/engine/devices.js";
import { formatBytes, MiB } from "../../src/memory/size.js";
import { distFile } from "../../src/paths.js";
import type { Report } from "./report.js";

interface Listed {
  readonly devices: readonly DeviceReport[];
  readonly problem: { readonly code: string; readonly message: string } | null;
}

export async function checkDeviceList(cards: readonly Card[], report: Report): Promise<void> {
  const uuids = cards.map(({ uuid }) => uuid);
  const swapped = [...uuids].reverse();
  const cases: [visible: string, uuids: readonly string[]][] = [
    ["0", [uuids[0]!]],
    [uuids[0]!, [uuids[0]!]],
    [uuids.at(-1)!.slice(0, "GPU-".length + 8), [uuids.at(-1)!]],
    [swapped.join(","), swapped],
    [uuids.map((_, i) => uuids.length - 1 - i).join(","), swapped],
    [String(uuids.length + 3), []],
    ["", []],
  ];
  for (const [visible, wanted] of cases)
    await report.check(`devices with CUDA_VISIBLE_DEVICES="${visible}"`, () => {
      const { devices, problem } = list({ CUDA_VISIBLE_DEVICES: visible });
      const seen = devices.flatMap(({ uuid }) => uuid ?? []);
      if (seen.join() !== wanted.join()) throw new Error(`shows ${seen.join() || "none"}`);
      const ids = devices.map(({ id }) => id).join();
      if (ids !== [...wanted.map((_, i) => `cuda:${i}`), "cpu"].join()) throw new Error(`names them ${ids}`);
      if (wanted.length === 0 && problem === null) throw new Error("says nothing about there being none");
      if (wanted.length > 0) generateOn(visible);
      return problem === null ? ids : problem.message;
    });
  await report.check("devices --calibrate", () => {
    const folder = mkdtempSync(join(tmpdir(), "exllama-calibration-"));
    try {
      const environment = { XDG_CACHE_HOME: folder };
      const before = list(environment).devices[0]!;
      if (before.baselineSource !== "table") throw new Error(`the baseline is ${before.baselineSource} at first`);
      const after = list(environment, "--calibrate").devices[0]!;
      if (after.baselineSource !== "calibrated") throw new Error(`the baseline is ${after.baselineSource} afterwards`);
      if (!(after.baseline > 200 * MiB && after.baseline < 1024 * MiB)) throw new Error(formatBytes(after.baseline));
      if (list(environment).devices[0]!.baseline !== after.baseline) throw new Error("it was not kept");
      return `${formatBytes(before.baseline)} in the table, ${formatBytes(after.baseline)} measured`;
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  });
}

function list(environment: Readonly<Record<string, string>>, ...flags: string[]): Listed {
  return JSON.parse(run(environment, ["devices", "--json", ...flags])) as Listed;
}

function generateOn(visible: string): void {
  run({ CUDA_VISIBLE_DEVICES: visible }, ["generate", "--backend", "cuda", "--devices", "cuda:0", "-n", "4", "--prompt", "Once"]);
}

function run(environment: Readonly<Record<string, string>>, args: readonly string[]): string {
  const { status, stdout, stderr } = spawnSync(process.execPath, [distFile("cli/main.js"), ...args], {
    encoding: "utf8",
    env: { ...process.env, ...environment },
  });
  if (status !== 0) throw new Error(`exllama ${args[0]} ended with ${status}: ${stderr}`);
  return stdout;
}
