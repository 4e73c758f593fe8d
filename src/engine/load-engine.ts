// From a folder to a model that answers, cheapest refusals first: headers, config, options,
// plan and tokenizer are all judged before memory for the model is taken.

import type { Backend } from "../backend/backend.js";
import { createCpuBackend } from "../backend/cpu/index.js";
import { BaselineExceededError } from "../backend/cuda/errors.js";
import { createCudaBackend } from "../backend/cuda/index.js";
import { isRemoteAddress } from "../checkpoint/address.js";
import type { Checkpoint } from "../checkpoint/checkpoint.js";
import { openCheckpoint } from "../checkpoint/local.js";
import { isSyntheticAddress, openSynthetic } from "../checkpoint/synthetic.js";
import { UsageError } from "../errors.js";
import { samplingDefaults } from "../generate/defaults.js";
import { describesDevices } from "../memory/devices.js";
import { PlanRefusedError } from "../memory/errors.js";
import type { Plan, PlanDevice, PlanRefusal } from "../memory/plan.js";
import { recheckPlan } from "../memory/recheck.js";
import { describeModel } from "../model/describe.js";
import { UnsupportedModelError } from "../model/errors.js";
import { readModel } from "../model/read.js";
import type { ModelSpec } from "../model/spec.js";
import { measureCpuDevice } from "./cpu-device.js";
import { measureDeviceMemory } from "./device-memory.js";
import { findGpus, type Gpus } from "./gpus.js";
import { readHeaders } from "./headers.js";
import type { Engine, LoadHooks } from "./host.js";
import { LoadedEngine } from "./loaded-engine.js";
import type { ModelInfo, PlanOptions } from "./model.js";
import { loadModelText, ModelText } from "./model-text.js";
import { resolvePlan } from "./planning.js";
import type { EngineOptions } from "./protocol.js";

/**
 * Loads a model into this process.
 *
 * @throws what checkpoints, configs, plans, tokenizers and the backend refuse; everything taken is given back then
 */
export async function loadEngine(path: string, options: EngineOptions, hooks: LoadHooks): Promise<Engine> {
  if (isRemoteAddress(path))
    throw new UsageError(`${path} is a remote address; a model is loaded from a folder`, {
      hint: "remote checkpoints can be planned: exllama plan, or plan() of the library",
    });
  const checkpoint = isSyntheticAddress(path) ? openSynthetic(path) : await openCheckpoint(path);
  try {
    return await loadCheckpoint(checkpoint, path, options, hooks).catch((error: unknown) => {
      // What the driver takes is known now: the plan is made anew with it, and holds or is refused.
      if (error instanceof BaselineExceededError) return loadCheckpoint(checkpoint, path, options, hooks);
      throw error;
    });
  } finally {
    await checkpoint.close();
  }
}

/**
 * Plans a model without loading it.
 *
 * @param path a folder or a remote address
 */
export async function planCheckpoint(path: string, options: PlanOptions, hooks: { signal: AbortSignal }): Promise<Plan> {
  const spec = readModel(await readHeaders(path, hooks), options);
  const draft = options.draft === undefined ? undefined : readModel(await readHeaders(options.draft, hooks));
  return accepted(resolvePlan(spec, options, measureCpuDevice(), draft, findGpus).plan);
}

async function loadCheckpoint(
  checkpoint: Checkpoint,
  path: string,
  options: EngineOptions,
  { signal, onProgress }: LoadHooks,
): Promise<Engine> {
  const spec = readModel(checkpoint, options);
  checkLoadable(spec, options);
  const { threads } = options;
  let gpus: Gpus | undefined;
  const lookForGpus = () => {
    gpus = findGpus();
    return gpus;
  };
  const { request, plan: resolved } = resolvePlan(spec, options, measureCpuDevice(threads), undefined, lookForGpus);
  const plan = accepted(resolved);
  const backend = backendFor(plan, options, gpus);
  const text = isSyntheticAddress(path) ? new ModelText(path, null, null) : await loadModelText(path);
  signal.throwIfAborted();
  refuseIfTaken(plan, backend.name === "cpu" ? [measureCpuDevice(threads)] : backend.devices());
  const runtime = await backend.load({ plan, spec, checkpoint, signal, onProgress });
  const { architecture, parameters, quantization } = describeModel(checkpoint, spec);
  const info: ModelInfo = {
    source: checkpoint.source,
    architecture,
    parameters,
    quantization,
    vocabSize: spec.vocabSize,
    contextLimit: spec.contextLimit,
    hasChatTemplate: text.hasChatTemplate,
    backend: backend.name,
    sampling: samplingDefaults(checkpoint.configs.generation),
  };
  const planning = { ...request, packing: request.packing.name };
  const measureDevices = () => measureDeviceMemory(plan, gpus);
  return new LoadedEngine({ info, planning, runtime, text, measureDevices });
}

/** The backend that the plan is for. */
function backendFor(plan: Plan, { threads, hugePages, cpuExact, peers }: EngineOptions, gpus: Gpus | undefined): Backend {
  if (plan.packing !== "cuda") return createCpuBackend({ exact: cpuExact, threads, hugePages });
  return createCudaBackend({ peers, ...(gpus?.sources ? { sources: gpus.sources } : {}) });
}

/** What can be planned and not run. */
function checkLoadable(spec: ModelSpec, options: EngineOptions): void {
  if (spec.planOnly !== null)
    throw new UnsupportedModelError(`this model can be planned, but not run: ${spec.planOnly}`, {
      details: { architecture: spec.architecture },
    });
  if (options.devices !== undefined && describesDevices(options.devices))
    throw new UsageError(`devices ${options.devices} are described, not here: they can be planned for, not loaded on`, {
      hint: "name devices of this computer, such as cuda:0 or cpu, or leave devices out",
    });
  if (options.draft !== undefined)
    throw new UsageError("a draft model can be planned, but not run yet", { hint: "leave draft out to load the model" });
}

/** @throws {PlanRefusedError} */
function accepted(plan: Plan | PlanRefusal): Plan {
  if (!plan.ok) throw new PlanRefusedError(plan);
  return plan;
}

/** Another process may have taken memory since the plan was made. */
function refuseIfTaken(plan: Plan, devicesNow: readonly PlanDevice[]): void {
  const refusal = recheckPlan(plan, devicesNow);
  if (refusal) throw new PlanRefusedError(refusal);
}
