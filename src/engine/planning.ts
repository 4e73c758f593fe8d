// From options as people write them to a plan: which devices, which packing, which caps. The
// loader and `exllama plan` go through here, so that what is printed is what is loaded.

import { cpuExactPacking, cpuPacking } from "../backend/cpu/packing.js";
import { cudaPacking } from "../backend/cuda/packing.js";
import { UsageError } from "../errors.js";
import { freeBytes } from "../memory/caps.js";
import { describesDevices, parseDevices } from "../memory/devices.js";
import type { CacheType, Packing } from "../memory/packing.js";
import type { Plan, PlanDevice, PlanRefusal, SplitMode } from "../memory/plan.js";
import { planModel } from "../memory/plan-model.js";
import { parseSize } from "../memory/size.js";
import { parseGpuSplit } from "../memory/split.js";
import type { ModelSpec } from "../model/spec.js";
import { BackendUnavailableError } from "./errors.js";
import type { PlanOptions } from "./model.js";

/** Part of the free memory that the CPU's cap takes by default. */
const CPU_SHARE = 0.8;

const SPLIT_MODES: readonly SplitMode[] = ["even", "fewest", "fill"];
const CACHE_TYPES = ["f16", "q8", "q4"] as const;

/** A packing and the devices it is planned on. */
interface Target {
  readonly packing: Packing;
  readonly devices: readonly PlanDevice[];
  readonly caps: readonly number[] | "auto";
}

/**
 * Plans a model for devices described in the options, or for this computer.
 *
 * `draft` (a folder) and the RoPE options have done their work when the specs were read.
 *
 * @param cpuDevice see measureCpuDevice()
 * @throws {UsageError} options that cannot be read or do not go together
 * @throws {BackendUnavailableError} a backend that this program does not have
 */
export function resolvePlan(spec: ModelSpec, options: PlanOptions, cpuDevice: PlanDevice, draft?: ModelSpec): Plan | PlanRefusal {
  const target = targetOf(options, cpuDevice);
  const { ctx, splitMode, cache, cacheTokens, maxSequences, prefillChunk } = options;
  if (splitMode !== undefined) oneOf("split mode", splitMode, SPLIT_MODES);
  if (typeof ctx === "string" && ctx !== "auto" && ctx !== "max")
    throw new UsageError(`a context of "${ctx}" means nothing`, { expected: "a number of tokens, auto or max" });
  return planModel({
    spec,
    ...target,
    context: ctx ?? "auto",
    cacheType: cacheTypeOf(cache, target.packing),
    ...(splitMode === undefined ? {} : { splitMode }),
    ...(cacheTokens === undefined ? {} : { cacheTokens }),
    ...(maxSequences === undefined ? {} : { maxSequences }),
    ...(prefillChunk === undefined ? {} : { prefillChunk }),
    ...(draft === undefined ? {} : { draft }),
  });
}

function targetOf(options: PlanOptions, cpuDevice: PlanDevice): Target {
  const { backend, devices } = options;
  if (backend !== undefined) oneOf("backend", backend, ["auto", "cpu", "cuda"]);
  if (devices !== undefined && describesDevices(devices)) return describedTarget(options, devices);
  const cuda = backend === "cuda" ? "--backend cuda" : devices?.split(",").find((entry) => entry.trim() !== "cpu");
  if (cuda !== undefined) throw new BackendUnavailableError("cuda", cuda);
  if (devices !== undefined && devices.trim() !== "cpu")
    throw new UsageError(`devices "${devices}" name the CPU more than once`, { expected: "cpu" });
  return cpuTarget(options, cpuDevice);
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
