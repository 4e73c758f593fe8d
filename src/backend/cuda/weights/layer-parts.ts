// What a layer consists of, under the names of its regions.

import type { LayerSpec, LinearSpec, NormSpec } from "../../../model/spec.js";

/** A layer's linears under the names of their regions: `layers.3.attention.q`. */
export function layerLinears(layer: LayerSpec): [name: string, linear: LinearSpec][] {
  const at = `layers.${layer.index}`;
  const { q, k, v, o } = layer.attention;
  const { mlp } = layer;
  const linears: [string, LinearSpec][] = [
    [`${at}.attention.q`, q],
    [`${at}.attention.k`, k],
    [`${at}.attention.v`, v],
    [`${at}.attention.o`, o],
  ];
  if (mlp.kind === "moe") {
    linears.push([`${at}.mlp.router`, mlp.router]);
    if (mlp.sharedGate) linears.push([`${at}.mlp.sharedGate`, mlp.sharedGate]);
  }
  (mlp.kind === "gated" ? [mlp] : mlp.experts).forEach(({ gate, up, down }, expert) => {
    const name = mlp.kind === "gated" ? `${at}.mlp` : `${at}.mlp.experts.${expert}`;
    linears.push([`${name}.gate`, gate], [`${name}.up`, up], [`${name}.down`, down]);
  });
  return linears;
}

/** A layer's norms under the names of their regions. */
export function layerNorms({ index, inputNorm, postAttentionNorm, attention }: LayerSpec): [name: string, norm: NormSpec][] {
  const at = `layers.${index}`;
  const norms: [string, NormSpec | null][] = [
    [`${at}.inputNorm`, inputNorm],
    [`${at}.attention.qNorm`, attention.qNorm],
    [`${at}.attention.kNorm`, attention.kNorm],
    [`${at}.postAttentionNorm`, postAttentionNorm],
  ];
  return norms.filter((entry): entry is [string, NormSpec] => entry[1] !== null);
}
