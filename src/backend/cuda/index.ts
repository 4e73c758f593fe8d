// The CUDA backend: any number of NVIDIA cards, with only their driver on the machine.

import type { DevicePlan } from "../../memory/plan.js";
import { ropeFrequencies } from "../../model/rope.js";
import type { Backend, LoadRequest } from "../backend.js";
import { draftRequest, sharedProgress } from "../load-together.js";
import { BaselineGuard } from "./cards/baseline-guard.js";
import { Calibrations } from "./cards/calibration.js";
import { type Card, type CardSources, listCards, planDevice } from "./cards/cards.js";
import { DeviceContext, type KernelImage } from "./cards/device-context.js";
import { openDriver } from "./cards/open-driver.js";
import type { CudaDriver } from "./driver/driver.js";
import { CudaLoadError } from "./errors.js";
import { cudaPacking } from "./packing.js";
import { CudaRuntime, type RuntimeParts } from "./runtime.js";
import { Stage } from "./steps/stage.js";
import { loadAdapters } from "./weights/load-adapters.js";
import { checkLoadable } from "./weights/loadable.js";
import { bytesToRead, loadWeights } from "./weights/loader.js";
import { TensorSource } from "./weights/weight-source.js";

export interface CudaBackendOptions {
  /** Hidden states may cross directly between cards that can reach each other; default true. */
  peers?: boolean | undefined;
  /** Decode steps are captured once and replayed; default true. */
  graphs?: boolean;
  /** Kernels may begin before those before them have ended, where cards can do that; default true. */
  overlap?: boolean;
  /** One token's linears between two attentions go in one launch, where cards and weights allow it; default true. */
  chains?: boolean;
  /** The driver's libraries; default: those of this machine. */
  sources?: CardSources;
  /** Kernels of older cards; default: each card's own. */
  image?: KernelImage | undefined;
}

export interface CudaBackend extends Backend {
  load(request: LoadRequest): Promise<CudaRuntime>;
}

/** @throws {DriverMissingError} */
export function createCudaBackend({
  peers = true,
  graphs = true,
  overlap = true,
  chains = true,
  sources = openDriver(),
  image,
}: CudaBackendOptions = {}): CudaBackend {
  return {
    name: "cuda",
    packing: cudaPacking,
    devices: () =>
      listCards(sources)
        .filter(({ unusable }) => unusable === null)
        .map(planDevice),
    load: (request) => load(request, sources, { peers, graphs, overlap, chains }, image),
  };
}

async function load(
  request: LoadRequest,
  sources: CardSources,
  options: Pick<RuntimeParts, "peers" | "graphs" | "overlap" | "chains">,
  image: KernelImage | undefined,
): Promise<CudaRuntime> {
  request.signal?.throwIfAborted();
  const draft = draftRequest(request);
  for (const { plan, spec } of draft ? [request, draft] : [request]) checkLoadable(plan, spec);
  const cards = listCards(sources);
  const used = request.plan.devices.filter((device) => device.stage !== null || device.draft !== null);
  const guard = new BaselineGuard(sources.nvml, sources.calibrations ?? new Calibrations(), used, cards);
  const contexts = new Map<string, DeviceContext>();
  const contextOf = (device: DevicePlan): DeviceContext => {
    const context = contexts.get(device.card) ?? openCard(sources.driver, device, cards, image);
    contexts.set(device.card, context);
    return context;
  };
  try {
    const bytes = [request, ...(draft ? [draft] : [])].map(({ spec, checkpoint }) => bytesToRead(spec, checkpoint.tensors));
    const [onMain, onDraft] = sharedProgress(request.onProgress, bytes);
    const main = await loadOne({ ...request, onProgress: onMain! }, contextOf);
    const guessing = draft && (await loadOne({ ...draft, onProgress: onDraft! }, contextOf));
    // Contexts are closed by the model's own runtime, the draft's is given back with it.
    const guesser = guessing && new CudaRuntime({ ...guessing, ...options, contexts: [], draft: null });
    const runtime = new CudaRuntime({ ...main, ...options, contexts: [...contexts.values()], draft: guesser });
    const both = guesser ? [guesser, runtime] : [runtime];
    for (const each of both) await each.warmUp();
    guard.keep();
    for (const each of both) await each.captureSteps();
    request.signal?.throwIfAborted();
    guard.check();
    return runtime;
  } catch (error) {
    for (const context of contexts.values()) context.close();
    throw error;
  }
}

type LoadedParts = Pick<RuntimeParts, "plan" | "spec" | "stages" | "model">;

/** Allocates a model's arenas and fills them. */
async function loadOne(request: LoadRequest, contextOf: (device: DevicePlan) => DeviceContext): Promise<LoadedParts> {
  const { plan, spec, checkpoint, signal, onProgress } = request;
  const groupOf = cacheGroupOfLayers(request);
  const stages = checkLoadable(plan, spec).map((device) => {
    const context = contextOf(device);
    return new Stage(context, device, spec, groupOf, context.use().allocate(device.stage.arenas[0]!.bytes));
  });
  const source = new TensorSource(checkpoint, bytesToRead(spec, checkpoint.tensors), { signal, onProgress });
  const embeddings = await loadWeights(stages, spec, source);
  await loadAdapters(stages, request.adapters ?? [], signal);
  const ropeFactor = ropeFrequencies(spec.rope, spec.layers[0]!.attention.headDim, 1).attentionFactor;
  return { plan, spec, stages, model: { spec, run: plan.run, ropeFactor, embeddings } };
}

function openCard(
  driver: CudaDriver,
  { id, card }: DevicePlan,
  cards: readonly Card[],
  image: KernelImage | undefined,
): DeviceContext {
  const found = cards.find(({ uuid }) => uuid === card);
  if (!found) throw new CudaLoadError(`${id} (${card}) is gone since the plan was made`);
  if (found.unusable) throw found.unusable;
  return DeviceContext.open(driver, found.ordinal, id, image);
}

/** Which page table each layer uses. */
function cacheGroupOfLayers({ plan, spec }: LoadRequest): number[] {
  return spec.layers.map(({ index }) => plan.cacheGroups.findIndex(({ layers }) => layers.includes(index)));
}
