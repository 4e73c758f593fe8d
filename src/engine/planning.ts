// From options as people write them to a plan: which devices, which packing, which caps. The
// loader and `exllama plan` go through here, so that what is printed is what is loaded.

import { cpuExactPacking, cpuPacking } from "../backend/cpu/packing.js";
import { planDevice } from "../backend/cuda/cards/cards.js";
import { selectCards } from "../backend/cuda/cards/select-cards.js";
import { cudaPacking } from "../backend/cuda/packing.js";
import { whyNotOnGpus } from "../backend/cuda/weights/loadable.js";
import { UsageError } from "../errors.js";
import { freeBytes } from "../memory/caps.js";
import { describesDevices, parseDevices } from "../memory/devices.js";
import type { CacheType, Packing } from "../memory/packing.js";
import type { Plan, PlanDevice, PlanRefusal, SplitMode } from "../memory/plan.js";
import { type PlanRequest, planModel } from "../memory/plan-model.js";
import { parseSize } from "../memory/size.js";
import { parseGpuSplit } from "../memory/split.js";
import type { ModelSpec } from "../model/spec.js";
import { BackendUnavailableError } from "./errors.js";
import type { Gpus } from "./gpus.js";
import type { PlanOptions } from "./model.js";
import { ON_CPU } from "./remarks.js";

/** Part of the free memory that the CPU's cap takes by default. */
const CPU_SHARE = 0.8;

const SPLIT_MODES: readonly SplitMode[] = ["even", "fewest", "fill"];
const CACHE_TYPES = ["f16", "q8", "q4"] as const;

/** A packing and the devices it is planned on. */
interface Target {
  readonly packing: Packing;
  readonly devices: readonly PlanDevice[];
  readonly caps: readonly number[] | "auto";
  /** Why this target was taken, where nobody asked for it. */
  readonly note?: string;
}

/** A plan, and what the planner was asked. */
export interface ResolvedPlan {
  readonly request: PlanRequest;
  readonly plan: Plan | PlanRefusal;
}

/**
 * Plans a model for devices described in the options, or for this computer.
 *
 * `draft` (a folder) and the RoPE options have done their work when the specs were read.
 *
 * @param cpuDevice see measureCpuDevice()
 * @param findGpus asked only where a GPU could be meant; see gpus.ts. Without it there are none
 * @throws {UsageError} options that cannot be read or do not go together
 * @throws {CudaUnavailableError | DriverMissingError | DriverBindingError} a GPU was asked for, and none can be used
 */
export function resolvePlan(
  spec: ModelSpec,
  options: PlanOptions,
  cpuDevice: PlanDevice,
  draft?: ModelSpec,
  findGpus?: () => Gpus,
): ResolvedPlan {
  const { note, ...target } = targetOf(draft ? [spec, draft] : [spec], options, cpuDevice, findGpus);
  const { ctx, splitMode, cache, cacheTokens, maxSequences, prefillChunk } = options;
  if (splitMode !== undefined) oneOf("split mode", splitMode, SPLIT_MODES);
  if (typeof ctx === "string" && ctx !== "auto" && ctx !== "max")
    throw new UsageError(`a context of "${ctx}" means nothing`, { expected: "a number of tokens, auto or max" });
  const request: PlanRequest = {
    spec,
    ...target,
    context: ctx ?? "auto",
    cacheType: cacheTypeOf(cache, target.packing),
    ...(splitMode === undefined ? {} : { splitMode }),
    ...(cacheTokens === undefined ? {} : { cacheTokens }),
    ...(maxSequences === undefined ? {} : { maxSequences }),
    ...(prefillChunk === undefined ? {} : { prefillChunk }),
    ...(draft === undefined ? {} : { draft }),
  };
  const plan = planModel(request);
  return { request, plan: plan.ok && note !== undefined ? { ...plan, notes: [...plan.notes, note] } : plan };
}

function targetOf(specs: readonly ModelSpec[], options: PlanOptions, cpuDevice: PlanDevice, findGpus?: () => Gpus): Target {
  const { backend, devices } = options;
  if (backend !== undefined) oneOf("backend", backend, ["auto", "cpu", "cuda"]);
  if (devices !== undefined && describesDevices(devices)) return describedTarget(options, devices);
  const cuda = backend === "cuda" ? "--backend cuda" : devices?.split(",").find((entry) => entry.trim() !== "cpu");
  if (cuda !== undefined) {
    if (backend === "cpu")
      throw new UsageError(`backend cpu does not go with devices ${devices}`, { hint: "leave one of the two out" });
    if (!findGpus) throw new BackendUnavailableError("cuda", cuda);
    return gpuTarget(options, findGpus());
  }
  if (devices !== undefined && devices.trim() !== "cpu")
    throw new UsageError(`devices "${devices}" name the CPU more than once`, { expected: "cpu" });
  const forCpu = backend === "cpu" || devices !== undefined || options.cpuExact || options.cpuMemory !== undefined;
  if (forCpu || !findGpus) return cpuTarget(options, cpuDevice);
  const gpus = findGpus();
  const problem = gpus.problem ?? specs.map(whyNotOnGpus).find((why) => why !== null) ?? null;
  if (problem === null) return gpuTarget(options, gpus);
  return { ...cpuTarget(options, cpuDevice), note: `${ON_CPU}${problem.message}` };
}

/** @throws {CudaUnavailableError | DriverMissingError | DriverBindingError | UsageError} */
function gpuTarget({ devices, gpuSplit, cpuMemory, cpuExact }: PlanOptions, { cards, problem }: Gpus): Target {
  if (problem !== null && cards.length === 0) throw problem;
  for (const [name, given] of Object.entries({ cpuMemory: cpuMemory !== undefined, cpuExact }))
    if (given) throw new UsageError(`${name} does not go with GPUs`, { hint: "leave it out, or say --backend cpu" });
  const selected = selectCards(cards, devices).map(planDevice);
  return { packing: cudaPacking, devices: selected, caps: parseGpuSplit(gpuSplit ?? "auto", selected.length) };
}

/** Cards described by their size are planned for as CUDA devices; what is only for the CPU does not go with them. */
function describedTarget(options: PlanOptions, list: string): Target {
  const forCpu = {
    "backend cpu": options.backend === "cpu",
    cpuMemory: options.cpuMemory !== undefined,
    cpuExact: options.cpuExact,
  };
  for (const [name, given] of Object.entries(forCpu))
    if (given)
      throw new UsageError(`${name} does not go with described devices`, {
        hint: "described devices are GPUs; leave one of the two out",
      });
  const devices = parseDevices(list);
  return { packing: cudaPacking, devices, caps: parseGpuSplit(options.gpuSplit ?? "auto", devices.length) };
}

function cpuTarget({ gpuSplit, cpuMemory, cpuExact }: PlanOptions, device: PlanDevice): Target {
  const packing = cpuExact ? cpuExactPacking : cpuPacking;
  const split = gpuSplit === undefined ? "auto" : parseGpuSplit(gpuSplit, 1);
  if (split !== "auto" && cpuMemory !== undefined)
    throw new UsageError("the CPU's cap is given twice, as a split and as CPU memory", { hint: "leave one of the two out" });
  const cap = cpuMemory === undefined ? Math.floor(freeBytes(device) * CPU_SHARE) : cpuCap(cpuMemory);
  return { packing, devices: [device], caps: split === "auto" ? [cap] : split };
}

function cpuCap(memory: string | number): number {
  if (typeof memory === "string") return parseSize(memory);
  if (Number.isSafeInteger(memory) && memory >= 0) return memory;
  throw new UsageError(`CPU memory of ${memory} is not a size`, { expected: "whole bytes, or text such as 8GiB" });
}

function cacheTypeOf(cache: PlanOptions["cache"], packing: Packing): CacheType {
  if (cache === undefined) return packing.cacheTypes[0]!;
  return oneOf("cache type", cache, CACHE_TYPES);
}

function oneOf<T extends string>(what: string, value: string, values: readonly T[]): T {
  const found = values.find((known) => known === value);
  if (found === undefined) throw new UsageError(`${what} "${value}" is not known`, { expected: values.join(", ") });
  return found;
}
