// The CPU backend: any machine, WebAssembly and threads, nothing to install.

import { availableParallelism, freemem, totalmem } from "node:os";
import { UsageError } from "../../errors.js";
import { cacheGroups } from "../../memory/cache-groups.js";
import type { DevicePlan, PlanDevice } from "../../memory/plan.js";
import { RegionIndex } from "../../memory/regions.js";
import type { Backend, LoadRequest } from "../backend.js";
import { draftRequest, sharedProgress } from "../load-together.js";
import { loadAdapters } from "./adapter-loading.js";
import { allocateArenas } from "./arena-memory.js";
import { CpuLoadError } from "./errors.js";
import { loadExactLinear } from "./exact-loading.js";
import { askForHugePages } from "./huge-pages.js";
import { instantiate } from "./kernels.js";
import { clearStaging, loadWeights, weightBytes } from "./loading.js";
import { cpuExactPacking, cpuPacking } from "./packing.js";
import type { PackedFacts } from "./quantized-linear.js";
import { loadQuantizedLinear } from "./quantized-loading.js";
import { CpuRuntime } from "./runtime.js";
import { MAX_THREADS } from "./step-message.js";
import { Team } from "./team.js";
import { TensorReader } from "./tensor-reader.js";
import { loadKernelModules } from "./wasm-module.js";

export interface CpuBackendOptions {
  /** The oracle: f32 weights, activations and cache. Default false. */
  exact?: boolean;
  /** Compute threads; default: the cores this process may use, at most 64. */
  threads?: number;
  /** Ask for huge pages where the system has them; default true. */
  hugePages?: boolean;
}

/** @throws {UsageError} for a number of threads that cannot be */
export function createCpuBackend(options: CpuBackendOptions = {}): Backend {
  const { exact = false, hugePages = true } = options;
  const threads = options.threads ?? Math.min(availableParallelism(), MAX_THREADS);
  if (!Number.isInteger(threads) || threads < 1 || threads > MAX_THREADS)
    throw new UsageError(`${threads} compute threads cannot be`, { expected: `a whole number from 1 to ${MAX_THREADS}` });
  const packing = exact ? cpuExactPacking : cpuPacking;
  return {
    name: "cpu",
    packing,
    devices: () => [cpuDevice()],
    load: (request) => load(request, { exact, threads, hugePages }),
  };
}

/** This machine's memory; the engine's resident size so far is the baseline. */
function cpuDevice(): PlanDevice {
  const total = totalmem();
  const baseline = process.memoryUsage.rss();
  const usedByOthers = Math.max(0, total - freemem() - baseline);
  return { id: "cpu", card: "cpu", total, usedByOthers, baseline, baselineSource: "measured", reserve: 0 };
}

/** The draft first: it is small, and what is wrong with it is heard soon. */
async function load(request: LoadRequest, options: Required<CpuBackendOptions>): Promise<CpuRuntime> {
  const draft = draftRequest(request);
  if (!draft) return loadOne(request, options, null);
  const bytes = [draft, request].map(({ spec, checkpoint }) => weightBytes(spec, checkpoint.tensors));
  const [onDraft, onMain] = sharedProgress(request.onProgress, bytes);
  const loaded = await loadOne({ ...draft, onProgress: onDraft! }, options, null);
  try {
    return await loadOne({ ...request, onProgress: onMain! }, options, loaded);
  } catch (error) {
    await loaded.dispose();
    throw error;
  }
}

async function loadOne(
  request: LoadRequest,
  options: Required<CpuBackendOptions>,
  draft: CpuRuntime | null,
): Promise<CpuRuntime> {
  const { plan, spec, checkpoint, signal, onProgress } = request;
  signal?.throwIfAborted();
  const { stage } = loadableDevice(request, options.exact);
  const regions = new RegionIndex(stage);
  const modules = await loadKernelModules();
  const memories = allocateArenas(stage);
  const pages = options.hugePages ? await askForHugePages(memories) : { asked: false, reason: "switched off" };
  const control = regions.get("scratch.control", 0);
  const words = new Int32Array(memories[0]!.buffer, control.offset, control.bytes / 4);
  const windows = cacheGroups(spec, plan.run).map(({ window }) => window);
  const { exact, threads } = options;
  const team = await Team.start({ modules, memories, spec, run: plan.run, stage, windows, exact, threads }, words);
  try {
    const reader = new TensorReader(checkpoint, weightBytes(spec, checkpoint.tensors), signal, onProgress);
    const site = { spec, stage, regions, memories, team, reader };
    const kernels = memories.map((memory) => instantiate(modules, memory));
    const facts = new Map<string, PackedFacts>();
    await loadWeights(site, async (target) => {
      if (exact) await loadExactLinear(site, target);
      else facts.set(target.name, await loadQuantizedLinear(site, target, kernels[target.arena]!));
    });
    await loadAdapters(site, request.adapters ?? [], exact, signal);
    clearStaging(site);
    signal?.throwIfAborted();
    await team.serve(facts);
    return new CpuRuntime({ plan, spec, regions, memories, team, threads, hugePages: pages, draft });
  } catch (error) {
    await team.end();
    throw error;
  }
}

/** @throws {CpuLoadError} when the plan is not one for this backend, or the model cannot be run */
function loadableDevice({ plan, spec }: LoadRequest, exact: boolean): DevicePlan & { stage: NonNullable<DevicePlan["stage"]> } {
  const packing = exact ? cpuExactPacking : cpuPacking;
  if (spec.planOnly) throw new CpuLoadError(`this model can be planned but not run: ${spec.planOnly}`);
  if (plan.packing !== packing.name)
    throw new CpuLoadError(`the plan is for ${plan.packing}, this backend stores models as ${packing.name}`);
  if (!packing.cacheTypes.includes(plan.run.cacheType))
    throw new CpuLoadError(`the CPU backend has no ${plan.run.cacheType} cache`, {
      hint: `Plan with --cache ${packing.cacheTypes[0]}.`,
    });
  const used = plan.devices.filter((device) => device.stage);
  const device = used[0];
  if (used.length !== 1 || !device?.stage)
    throw new CpuLoadError(`the plan spreads the model over ${used.length} devices; the CPU is one`);
  const dims = new Set(spec.layers.map(({ attention }) => attention.headDim));
  if (dims.size > 1) throw new CpuLoadError(`the layers have heads of ${[...dims].join(" and ")} dimensions; one size is needed`);
  return { ...device, stage: device.stage };
}
