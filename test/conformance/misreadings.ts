// Mistakes that a backend could make with a checkpoint, each as the model it would then run.
// Where activations are quantised to int8 an answer is never exact, and a small mistake can
// hide in that noise; but noise points nowhere, and a mistake points at its own model. So an
// answer must lie nearer to the truth than to any of these, which notices mistakes several
// times smaller than the noise.

import type { DenseLinear, ReferenceLayer, ReferenceModel } from "../reference/model.js";
import type { SyntheticFiles, SyntheticModel } from "../support/synthetic-checkpoint.js";

export interface Misreading {
  readonly name: string;
  readonly model: ReferenceModel;
}

type LinearName = "q" | "k" | "v" | "o" | "gate" | "up" | "down";
const LINEARS: readonly LinearName[] = ["q", "k", "v", "o", "gate", "up", "down"];

/** Every mistake that can be made with this model. */
export function misreadingsOf(
  model: SyntheticModel,
  { truth, misread }: Pick<SyntheticFiles, "truth" | "misread">,
): Misreading[] {
  const found: Misreading[] = [];
  const add = (name: string, changes: Partial<ReferenceModel>) => found.push({ name, model: { ...truth, ...changes } });
  const eachLayer = (change: (layer: ReferenceLayer) => Partial<ReferenceLayer>) =>
    truth.layers.map((layer) => ({ ...layer, ...change(layer) }));

  if (model.weights.kind === "gptq") {
    const { order, groupSize } = model.weights;
    add("zeros of the other format", misread("zeros of the other format"));
    const severalGroups = groupSize !== -1 && groupSize < model.hidden;
    if (severalGroups) add("last group lost", misread("last group lost"));
    if (severalGroups && order !== "absent" && order !== "sequential") add("g_idx ignored", misread("g_idx ignored"));
  }
  if (truth.layers[0]!.q.bias) {
    const bare = (layer: ReferenceLayer) => LINEARS.map((name) => [name, { ...layer[name], bias: null }]);
    add("biases dropped", { layers: eachLayer((layer) => Object.fromEntries(bare(layer))) });
  }
  if (model.window !== null) {
    const widened = (by: number) => eachLayer(({ window }) => ({ window: window === null ? null : window + by }));
    add("window ignored", { layers: eachLayer(() => ({ window: null })) });
    add("window one longer", { layers: widened(1) });
    add("window one shorter", { layers: widened(-1) });
  }
  if (truth.rope.type !== "default") add("plain rope", { rope: { type: "default", theta: truth.rope.theta } });
  if (truth.rope.type === "yarn") add("rope without its amplitude", { rope: { ...truth.rope, attentionFactor: 1 } });
  if (truth.layers[0]!.qNorm) add("q norm dropped", { layers: eachLayer(() => ({ qNorm: null })) });
  if (truth.layers[0]!.kNorm) add("k norm dropped", { layers: eachLayer(() => ({ kNorm: null })) });
  if (truth.kvHeads > 1 && truth.kvHeads < truth.heads) add("kv heads in turns", { layers: eachLayer((l) => turned(truth, l)) });
  return found;
}

/** Query head h with kv head h mod kvHeads instead of h / (heads / kvHeads): the q and o heads in another order. */
function turned(model: ReferenceModel, layer: ReferenceLayer): Partial<ReferenceLayer> {
  const { heads, kvHeads, headDim } = model;
  const perKv = heads / kvHeads;
  // Head h of the turned model stands where its kv head is (h mod kvHeads) in the straight order.
  const place = (head: number) => (head % kvHeads) * perKv + Math.floor(head / kvHeads);
  const rowOf = (index: number) => place(Math.floor(index / headDim)) * headDim + (index % headDim);
  return { q: reorderRows(layer.q, rowOf), o: reorderColumns(layer.o, rowOf) };
}

function reorderRows(linear: DenseLinear, to: (row: number) => number): DenseLinear {
  const weight = new Float64Array(linear.weight.length);
  const bias = linear.bias && new Float64Array(linear.out);
  for (let row = 0; row < linear.out; row++) {
    weight.set(linear.weight.subarray(row * linear.in, (row + 1) * linear.in), to(row) * linear.in);
    if (bias) bias[to(row)] = linear.bias![row]!;
  }
  return { ...linear, weight, bias };
}

function reorderColumns(linear: DenseLinear, to: (column: number) => number): DenseLinear {
  const weight = new Float64Array(linear.weight.length);
  for (let i = 0; i < weight.length; i++) {
    const [row, column] = [Math.floor(i / linear.in), i % linear.in];
    weight[row * linear.in + to(column)] = linear.weight[i]!;
  }
  return { ...linear, weight };
}
