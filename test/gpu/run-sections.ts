// What the programs of checks beside main.ts have in common: a context on the first card, sections by name, an exit status.

import { DeviceContext } from "../../src/backend/cuda/cards/device-context.js";
import { CudaDriver } from "../../src/backend/cuda/driver/driver.js";
import { loadCuda } from "../../src/backend/cuda/driver/load.js";

/**
 * Runs the sections that the command line names, or else those in `usual`, and ends the process: with 1 where a check has failed.
 *
 * @param make may refuse the card by throwing
 */
export function runSections<Checks extends { readonly failures: number }>(
  make: (gpu: DeviceContext) => Checks,
  sections: Readonly<Record<string, (checks: Checks) => void>>,
  usual: readonly string[],
): never {
  const driver = new CudaDriver(loadCuda());
  driver.call("cuInit", [0]);
  const gpu = DeviceContext.open(driver, driver.i32("cuDeviceGet", [0]), "cuda:0");
  const checks = make(gpu);
  const asked = process.argv.slice(2);
  for (const name of asked.length > 0 ? asked : usual) {
    const section = sections[name];
    if (!section) throw new Error(`there is no section ${name}: ${Object.keys(sections).join(", ")}`);
    section(checks);
  }
  gpu.close();
  console.log(checks.failures === 0 ? "everything holds" : `${checks.failures} checks FAILED`);
  process.exit(checks.failures === 0 ? 0 : 1);
}
