// Loads a model on the GPUs of this computer, in this process, to find out where the time of its
// steps goes. Not part of the engine's protocol: a profile is nothing that a running
// model should stop for.

import { BaselineExceededError } from "../backend/cuda/errors.js";
import { createCudaBackend } from "../backend/cuda/index.js";
import type { StepProfile } from "../backend/cuda/profile/step-profile.js";
import type { Checkpoint } from "../checkpoint/checkpoint.js";
import { openCheckpoint } from "../checkpoint/local.js";
import { isSyntheticAddress, openSynthetic } from "../checkpoint/synthetic.js";
import { UsageError } from "../errors.js";
import { PlanRefusedError } from "../memory/errors.js";
import type { RunShape } from "../memory/packing.js";
import { PAGE_TOKENS } from "../memory/plan.js";
import { roundUp } from "../memory/size.js";
import { readModel } from "../model/read.js";
import { measureCpuDevice } from "./cpu-device.js";
import { findGpus } from "./gpus.js";
import type { LoadOptions } from "./model.js";
import { resolvePlan } from "./planning.js";

export type { KernelTime, StepProfile } from "../backend/cuda/profile/step-profile.js";

export interface ProfileRequest {
  /** Sequences that decode at once. */
  readonly rows: number;
  /** Tokens that each of them holds; those of a prompt. */
  readonly depth: number;
  /** A step that takes a prompt, alone. */
  readonly prompt?: boolean;
}

/** What a model must be loaded with for these steps, where the options do not say it. */
export function profileOptions(options: LoadOptions, requests: readonly ProfileRequest[]): LoadOptions {
  const context = Math.max(...requests.map(tokensHeld));
  const ctx = options.ctx ?? context;
  const together = Math.max(...requests.map((request) => request.rows * tokensHeld(request)));
  return {
    ...options,
    ctx,
    maxSequences: options.maxSequences ?? Math.max(...requests.map(({ rows }) => rows)),
    cacheTokens: options.cacheTokens ?? Math.max(together, typeof ctx === "number" ? ctx : context),
  };
}

/** @throws {UsageError} where a step does not fit what the options allow, in words, before anything is loaded */
export function checkProfile(
  requests: readonly ProfileRequest[],
  run: Pick<RunShape, "context" | "cacheTokens" | "maxSequences" | "prefillChunk">,
): void {
  for (const request of requests) {
    const { rows, depth, prompt = false } = request;
    if (prompt && (depth < 1 || depth > Math.min(run.prefillChunk, run.context)))
      throw new UsageError(`a step that takes a prompt of ${depth} tokens is none of this model's`, {
        hint: `Up to ${Math.min(run.prefillChunk, run.context)} can be taken at once: use a larger --prefill-chunk or --ctx.`,
      });
    if (prompt) continue;
    const too = (what: string, hint: string): never => {
      throw new UsageError(
        `a step of ${rows} ${rows === 1 ? "sequence that holds" : "sequences that hold"} ${depth} tokens ${what}`,
        {
          hint,
        },
      );
    };
    if (rows < 1) too("is none", "Use --batch 1 or more.");
    if (rows > run.maxSequences)
      too(`is more than ${run.maxSequences} at once`, "Use a larger --max-sequences, or a smaller --batch.");
    if (depth >= run.context) too(`is beyond the context of ${run.context}`, "Use a larger --ctx, or a smaller --depth.");
    const needed = rows * tokensHeld(request);
    if (needed > run.cacheTokens)
      too(
        `needs a cache of ${needed} tokens, not ${run.cacheTokens}`,
        "Use a larger --cache-tokens, or a smaller --batch or --depth.",
      );
  }
}

/** Of each sequence, in whole pages. */
function tokensHeld({ depth }: ProfileRequest): number {
  return roundUp(depth + 1, PAGE_TOKENS);
}

/**
 * @param path a folder or the address of a synthetic model
 * @throws {UsageError} where the steps do not fit the options; PlanRefusedError where they do not fit the GPUs
 */
export async function profileDecode(
  path: string,
  options: LoadOptions,
  requests: readonly ProfileRequest[],
): Promise<StepProfile[]> {
  const checkpoint = isSyntheticAddress(path) ? openSynthetic(path) : await openCheckpoint(path);
  try {
    const loadAndProfile = () => profileOnGpus(checkpoint, profileOptions(options, requests), requests);
    return await loadAndProfile().catch((error: unknown) => {
      // What the driver takes is known now: planned anew with it.
      if (error instanceof BaselineExceededError) return loadAndProfile();
      throw error;
    });
  } finally {
    await checkpoint.close();
  }
}

async function profileOnGpus(
  checkpoint: Checkpoint,
  options: LoadOptions,
  requests: readonly ProfileRequest[],
): Promise<StepProfile[]> {
  const spec = readModel(checkpoint, options);
  const gpus = findGpus();
  const { plan } = resolvePlan(spec, { ...options, backend: "cuda" }, measureCpuDevice(), undefined, () => gpus);
  if (!plan.ok) throw new PlanRefusedError(plan);
  checkProfile(requests, plan.run);
  const backend = createCudaBackend(gpus.sources ? { sources: gpus.sources } : {});
  const runtime = await backend.load({ plan, spec, checkpoint, ...(options.signal ? { signal: options.signal } : {}) });
  try {
    const profiles: StepProfile[] = [];
    for (const { rows, depth, prompt } of requests)
      profiles.push(await (prompt ? runtime.profilePrompt(depth) : runtime.profile(rows, depth)));
    return profiles;
  } finally {
    await runtime.dispose();
  }
}
