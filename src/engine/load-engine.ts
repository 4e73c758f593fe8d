// From a folder to a model that answers, cheapest refusals first: headers, config, options,
// plan and tokenizer are all judged before memory for the model is taken.

import type { OpenAdapter } from "../adapters/open.js";
import { closeAdapters, openAdapters } from "../adapters/open-all.js";
import type { Backend } from "../backend/backend.js";
import { createCpuBackend } from "../backend/cpu/index.js";
import { BaselineExceededError } from "../backend/cuda/errors.js";
import type { Checkpoint } from "../checkpoint/checkpoint.js";
import { openCheckpoint } from "../checkpoint/local.js";
import { isSyntheticAddress, openSynthetic } from "../checkpoint/synthetic.js";
import { UsageError } from "../errors.js";
import { samplingDefaults } from "../generate/defaults.js";
import { checkPressureOptions } from "../generate/scheduler-options.js";
import { checkSpeculation } from "../generate/strategy-options.js";
import { describesDevices } from "../memory/devices.js";
import { PlanRefusedError } from "../memory/errors.js";
import type { Plan, PlanDevice, PlanRefusal } from "../memory/plan.js";
import { recheckPlan } from "../memory/recheck.js";
import { type AdapterSpec, withAdapters } from "../model/adapter.js";
import { describeModel } from "../model/describe.js";
import { UnsupportedModelError } from "../model/errors.js";
import { readModel } from "../model/read.js";
import type { ModelSpec } from "../model/spec.js";
import { measureCpuDevice } from "./cpu-device.js";
import { measureDeviceMemory } from "./device-memory.js";
import { checkVocabularies, type DraftModel, openDraft } from "./draft.js";
import { findGpus, type Gpus } from "./gpus.js";
import { readHeaders, refuseRemote } from "./headers.js";
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
  checkPressureOptions(options);
  refuseRemote(path);
  const checkpoint = isSyntheticAddress(path) ? openSynthetic(path) : await openCheckpoint(path);
  let draft: DraftModel | undefined;
  let adapters: readonly OpenAdapter[] = [];
  try {
    draft = options.draft === undefined ? undefined : await openDraft(options.draft);
    adapters = await openAdapters(options.adapters ?? {}, readModel(checkpoint, options));
    const opened = { checkpoint, path, draft, adapters };
    return await loadCheckpoint(opened, options, hooks).catch((error: unknown) => {
      // What the driver takes is known now: the plan is made anew with it, and holds or is refused.
      if (error instanceof BaselineExceededError) return loadCheckpoint(opened, options, hooks);
      throw error;
    });
  } finally {
    await closeAdapters(adapters);
    await draft?.checkpoint.close();
    await checkpoint.close();
  }
}

/**
 * Plans a model without loading it.
 *
 * @param path a folder or a remote address
 */
export async function planCheckpoint(path: string, options: PlanOptions, hooks: { signal: AbortSignal }): Promise<Plan> {
  const plain = readModel(await readHeaders(path, hooks), options);
  const adapters = await openAdapters(options.adapters ?? {}, plain);
  await closeAdapters(adapters); // their headers are read
  const spec = withAdapters(plain, specsOf(adapters));
  const draft = options.draft === undefined ? undefined : readModel(await readHeaders(options.draft, hooks));
  return accepted(resolvePlan(spec, options, measureCpuDevice(undefined, draft ? 2 : 1), draft, findGpus).plan);
}

interface OpenedModel {
  readonly checkpoint: Checkpoint;
  readonly path: string;
  readonly draft: DraftModel | undefined;
  readonly adapters: readonly OpenAdapter[];
}

function specsOf(adapters: readonly OpenAdapter[]): AdapterSpec[] {
  return adapters.map(({ spec }) => spec);
}

async function loadCheckpoint(
  { checkpoint, path, draft, adapters }: OpenedModel,
  options: EngineOptions,
  { signal, onProgress }: LoadHooks,
): Promise<Engine> {
  const speculate = checkSpeculation(options.speculate);
  const spec = withAdapters(readModel(checkpoint, options), specsOf(adapters));
  checkLoadable(spec, options);
  const { threads } = options;
  let gpus: Gpus | undefined;
  const lookForGpus = () => {
    gpus = findGpus();
    return gpus;
  };
  const cpu = () => measureCpuDevice(threads, draft ? 2 : 1);
  const { request, plan: resolved } = resolvePlan(spec, options, cpu(), draft?.spec, lookForGpus);
  const plan = accepted(resolved);
  const backend = await backendFor(plan, options, gpus);
  const text = isSyntheticAddress(path) ? new ModelText(path, null, null) : await loadModelText(path);
  if (draft) await checkVocabularies({ spec, text }, draft);
  signal.throwIfAborted();
  refuseIfTaken(plan, backend.name === "cpu" ? [cpu()] : backend.devices());
  const runtime = await backend.load({ plan, spec, checkpoint, adapters, ...(draft ? { draft } : {}), signal, onProgress });
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
    adapters: plan.adapters ?? [],
    sampling: samplingDefaults(checkpoint.configs.generation),
  };
  const planning = { ...request, packing: request.packing.name };
  const measureDevices = () => measureDeviceMemory(plan, gpus);
  return new LoadedEngine({ info, planning, runtime, text, pressure: options, speculate, measureDevices });
}

/** The backend that the plan is for. What drives GPUs is a fifth of all code, and read only where there is one. */
async function backendFor(
  plan: Plan,
  { threads, hugePages, cpuExact, peers }: EngineOptions,
  gpus: Gpus | undefined,
): Promise<Backend> {
  if (plan.packing !== "cuda") return createCpuBackend({ exact: cpuExact, threads, hugePages });
  const { createCudaBackend } = await import("../backend/cuda/index.js");
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
