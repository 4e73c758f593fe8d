// Linears of whole prompts whose weights are unpacked inside the product (kernels/linear_prompt.cu), for those that it can do.

import type { DeviceContext } from "../cards/device-context.js";
import type { KernelQueue } from "../launch/kernel-queue.js";
import type { PlacedLinear } from "../steps/stage.js";
import type { KernelGroup } from "../weights/quantized-layout.js";
import { MOST_BATCHED } from "./batch-launch.js";
import { gatherInputs } from "./gather-inputs.js";
import { fitsPrompt, PROMPT_TOKENS, type PromptShape, promptLaunch, promptLaunchOf } from "./prompt-launch.js";
import type { LinearScratch, LinearsCall } from "./run-linear.js";
import { promptParameters } from "./tensor-map.js";

/** Rows from which on this is faster than anything else: up to MOST_BATCHED, run-batch.ts is. */
export const LEAST_PROMPT_ROWS = MOST_BATCHED + 1;

/**
 * One linear, or several that are stored alike and read the same x in their own order.
 *
 * @param silu silu(first) · second, at the first one's y
 * @returns false where the kernel cannot do it and nothing was launched
 */
export function runPrompt(
  queue: KernelQueue,
  linears: readonly PlacedLinear[],
  call: LinearsCall,
  scratch: Pick<LinearScratch, "gathered">,
  silu = false,
): boolean {
  const { card, driver } = queue.context;
  const { storage, spec } = linears[0]!;
  const outputs = linears.map((linear) => linear.spec.out);
  const form = formOf(call);
  if (call.rows < LEAST_PROMPT_ROWS || form === null || storage.kind !== "quantized" || storage.format.bits !== 4) return false;
  if (!fitsPrompt(card, { inputs: spec.in, outputs })) return false;
  const shape: PromptShape = { rows: call.rows, inputs: spec.in, outputs, group: storage.group, silu };
  const { tokens, piece, ...launch } = promptLaunch(card, shape);
  const x = gatherInputs(queue, linears[0]!, call.x, call.rows, scratch.gathered);
  const parameters = promptParameters(
    driver,
    { tokens, piece, cluster: launch.cluster },
    {
      ...{ x, rows: call.rows, inputs: spec.in, form, silu },
      linears: linears.map((linear, i) => ({
        weights: linear.weights,
        bias: linear.bias,
        outputs: linear.spec.out,
        y: call.y[i]!,
      })),
    },
  );
  const bytes = linears.reduce((sum, { weightBytes }) => sum + weightBytes, 0);
  const cluster = launch.cluster > 1 ? launch.cluster : undefined;
  queue.run({ family: "linear_prompt", ...launch, cluster, parameters, role: call.role, bytes });
  return true;
}

/** Loads the kernels for prompts of any length: which one a step takes depends on its rows, and what the driver takes is planned. */
export function loadPromptKernels({ card, kernels }: DeviceContext, linears: readonly PlacedLinear[]): void {
  const groups = new Set<KernelGroup>();
  for (const { storage, spec } of linears)
    if (storage.kind === "quantized" && storage.format.bits === 4 && fitsPrompt(card, { inputs: spec.in, outputs: [spec.out] }))
      groups.add(storage.group);
  for (const group of groups)
    for (const tokens of PROMPT_TOKENS) {
      const shape: PromptShape = { rows: tokens, inputs: 0, outputs: [], group, silu: false };
      const { name, shared } = promptLaunchOf(card, shape, { tokens, cut: 1 });
      kernels.get("linear_prompt", name, shared);
    }
}

/** PromptLinear's `form`; `null`: there is none like it. */
function formOf({ f32, residual, y }: LinearsCall): 0 | 1 | 2 | null {
  if (residual === 0n) return f32 ? 1 : 0;
  return f32 && y.every((at) => at === residual) ? 2 : null;
}
