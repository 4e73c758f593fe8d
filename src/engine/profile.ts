// Loads a model on the GPUs of this computer, in this process, to find out where the time of its
// decode steps goes. Not part of the engine's protocol: a profile is nothing that a running
// model should stop for.

import { createCudaBackend } from "../backend/cuda/index.js";
import type { StepProfile } from "../backend/cuda/step-profile.js";
import { openCheckpoint } from "../checkpoint/local.js";
import { isSyntheticAddress, openSynthetic } from "../checkpoint/synthetic.js";
import { UsageError } from "../errors.js";
import { PlanRefusedError } from "../memory/errors.js";
import { readModel } from "../model/read.js";
import { measureCpuDevice } from "./cpu-device.js";
import { findGpus } from "./gpus.js";
import type { LoadOptions } from "./model.js";
import { resolvePlan } from "./planning.js";

export type { KernelTime, StepProfile } from "../backend/cuda/step-profile.js";

export interface ProfileRequest {
  /** Sequences that decode at once. */
  readonly rows: number;
  /** Tokens that each of them holds. */
  readonly depth: number;
}

/**
 * @param path a folder or the address of a synthetic model
 * @throws {UsageError} where the model would run on the CPU
 */
export async function profileDecode(
  path: string,
  options: LoadOptions,
  requests: readonly ProfileRequest[],
): Promise<StepProfile[]> {
  const checkpoint = isSyntheticAddress(path) ? openSynthetic(path) : await openCheckpoint(path);
  try {
    const spec = readModel(checkpoint, options);
    const gpus = findGpus();
    const { plan } = resolvePlan(spec, { ...options, backend: "cuda" }, measureCpuDevice(), undefined, () => gpus);
    if (!plan.ok) throw new PlanRefusedError(plan);
    for (const { rows, depth } of requests)
      if (rows > plan.run.maxSequences || depth >= plan.context)
        throw new UsageError(`a step of ${rows} sequences that hold ${depth} tokens does not fit this plan`, {
          hint: `at most ${plan.run.maxSequences} sequences (--max-sequences) of ${plan.context - 1} tokens (--ctx)`,
        });
    const backend = createCudaBackend(gpus.sources ? { sources: gpus.sources } : {});
    const runtime = await backend.load({ plan, spec, checkpoint, ...(options.signal ? { signal: options.signal } : {}) });
    try {
      const profiles: StepProfile[] = [];
      for (const { rows, depth } of requests) profiles.push(await runtime.profile(rows, depth));
      return profiles;
    } finally {
      await runtime.dispose();
    }
  } finally {
    await checkpoint.close();
  }
}
