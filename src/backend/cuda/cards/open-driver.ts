// The way to the cards of this machine: little, for every engine asks whether there are any, and
// most machines have none.

import { CudaDriver } from "../driver/driver.js";
import { loadCuda, loadNvml } from "../driver/load.js";
import type { CardSources } from "./cards.js";
import { Nvml } from "./nvml.js";

/** The driver's libraries of this machine. @throws {DriverMissingError} */
export function openDriver(): CardSources {
  // Numbers as nvidia-smi shows them; only heard where nobody has started CUDA in this process yet.
  process.env.CUDA_DEVICE_ORDER ??= "PCI_BUS_ID";
  return { driver: new CudaDriver(loadCuda()), nvml: new Nvml(loadNvml()) };
}
