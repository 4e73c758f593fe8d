// What a plan and a model must be for the kernels: judged before anything is taken.

import type { Plan } from "../../../memory/plan.js";
import type { LinearSpec, ModelSpec } from "../../../model/spec.js";
import { CudaLoadError } from "../errors.js";
import { cudaPacking } from "../packing.js";
import { layerLinears } from "./layer-parts.js";
import { INPUT_MULTIPLE } from "./linear-storage.js";
import type { UsedDevice } from "./loader.js";

/** @throws {CudaLoadError} saying which part cannot be run on a GPU */
export function checkLoadable(plan: Plan, spec: ModelSpec): UsedDevice[] {
  if (spec.planOnly) throw new CudaLoadError(`this model can be planned but not run: ${spec.planOnly}`);
  if (plan.packing !== cudaPacking.name)
    throw new CudaLoadError(`the plan is for ${plan.packing}, this backend stores models as ${cudaPacking.name}`);
  const { cacheType } = plan.run;
  if (!cudaPacking.cacheTypes.includes(cacheType))
    throw new CudaLoadError(`the GPU kernels have no ${cacheType} cache`, {
      hint: `Plan with ${cudaPacking.cacheTypes.join(", ")}.`,
    });
  const devices = plan.devices.filter((device): device is UsedDevice => device.stage !== null);
  checkShapes(spec);
  return devices;
}

/** Why the kernels cannot run this model, or `null`. */
export function whyNotOnGpus(spec: ModelSpec): CudaLoadError | null {
  try {
    checkShapes(spec);
    return null;
  } catch (error) {
    if (error instanceof CudaLoadError) return error;
    throw error;
  }
}

/** @throws {CudaLoadError} sizes that the kernels do not have */
function checkShapes(spec: ModelSpec): void {
  const dims = new Set(spec.layers.map(({ attention }) => attention.headDim));
  const [dim = 0] = dims;
  if (dims.size > 1)
    throw new CudaLoadError(`the layers have heads of ${[...dims].join(" and ")} dimensions; one size is needed`);
  if (dim % 8 !== 0 || dim > MOST_HEAD_DIM)
    throw new CudaLoadError(`heads of ${dim} dimensions: the GPU kernels need a multiple of 8 up to ${MOST_HEAD_DIM}`, CPU_HINT);
  for (const layer of spec.layers) for (const [, linear] of layerLinears(layer)) checkInputs(linear);
  checkInputs(spec.head);
}

/** x is read 16 bytes at a time. */
function checkInputs({ name, in: inputs }: LinearSpec): void {
  if (inputs % INPUT_MULTIPLE !== 0)
    throw new CudaLoadError(`${name} has ${inputs} inputs: the GPU kernels need a multiple of ${INPUT_MULTIPLE}`, CPU_HINT);
}

const MOST_HEAD_DIM = 256;
const CPU_HINT = { hint: "--backend cpu runs this model." };
