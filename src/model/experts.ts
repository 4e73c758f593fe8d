// A layer's mixture of experts, as far as planning needs it.

import type { ExpertsLayout } from "./architectures/architecture.js";
import type { ConfigValues } from "./config-values.js";
import { ModelConfigError } from "./errors.js";
import type { LinearReader } from "./linears.js";
import type { GatedMlpSpec, MoeMlpSpec } from "./spec.js";

const COUNT = { min: 1, max: 4096 };
const SIZE = { min: 1, max: 2 ** 22 };

/**
 * @param layer tensor prefix of the layer
 * @returns every expert; a shared one is the last of them
 */
export function readExperts(
  layer: string,
  layout: ExpertsLayout,
  config: ConfigValues,
  hidden: number,
  linears: LinearReader,
): MoeMlpSpec {
  const count = config.integer(layout.countKey, COUNT);
  const perToken = config.integer(layout.perTokenKey, COUNT);
  if (perToken > count)
    throw new ModelConfigError(`${config.where}: ${perToken} experts per token are more than the ${count} there are`);
  const expert = (name: string, size: number, gate: string, up: string, down: string): GatedMlpSpec => ({
    kind: "gated",
    gate: linears.read(`${name}.${gate}`, hidden, size, false),
    up: linears.read(`${name}.${up}`, hidden, size, false),
    down: linears.read(`${name}.${down}`, size, hidden, false),
  });
  const size = config.integer(layout.sizeKey, SIZE);
  const router = linears.read(`${layer}.${layout.router}`, hidden, count, false);
  const experts: GatedMlpSpec[] = [];
  for (let index = 0; index < count; index++)
    experts.push(expert(`${layer}.${layout.expert}.${index}`, size, layout.gate, layout.up, layout.down));
  if (!layout.shared) return { kind: "moe", router, experts };
  const sharedSize = config.integer(layout.shared.sizeKey, SIZE);
  experts.push(expert(`${layer}.${layout.shared.expert}`, sharedSize, "gate_proj", "up_proj", "down_proj"));
  return { kind: "moe", router, experts, sharedGate: linears.read(`${layer}.${layout.shared.gate}`, hidden, 1, false) };
}
