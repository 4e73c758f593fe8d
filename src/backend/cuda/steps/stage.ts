// A device's part of the model in place: its arena, and where everything lies in it.

import type { DevicePlan, StageLayout } from "../../../memory/plan.js";
import { RegionIndex } from "../../../memory/regions.js";
import type { LayerSpec, LinearSpec, ModelSpec } from "../../../model/spec.js";
import type { DeviceContext } from "../cards/device-context.js";
import { paddedRank } from "../weights/adapter-layout.js";
import { layerLinears, layerNorms } from "../weights/layer-parts.js";
import { type LinearStorage, storageOf } from "../weights/linear-storage.js";

/** A linear whose regions have addresses. */
export interface PlacedLinear {
  readonly spec: LinearSpec;
  readonly storage: LinearStorage;
  readonly weights: bigint;
  readonly weightBytes: number;
  /** i32 [in], or 0n: inputs are stored as they come. The loader sets it to 0n when contents show that. */
  permutation: bigint;
  /** i32 [in] in the permutation's place where groups have unequal lengths, else 0n: the kernel group of each input. Set by the loader. */
  groupOf: bigint;
  readonly bias: bigint;
  /** Factors of the adapters that change it, or `null`: adapter-layout.ts. */
  readonly adapters: PlacedAdapters | null;
}

export interface PlacedAdapters {
  /** Of all adapters, filled up to octets. */
  readonly ranks: number;
  readonly a: bigint;
  readonly b: bigint;
  readonly owners: bigint;
}

export interface PlacedLayer {
  readonly spec: LayerSpec;
  /** Index of its cache group: which page table it uses. */
  readonly group: number;
  readonly norms: { readonly input: bigint; readonly postAttention: bigint; readonly q: bigint; readonly k: bigint };
  readonly q: PlacedLinear;
  readonly k: PlacedLinear;
  readonly v: PlacedLinear;
  readonly o: PlacedLinear;
  readonly gate: PlacedLinear;
  readonly up: PlacedLinear;
  readonly down: PlacedLinear;
  readonly keys: bigint;
  readonly values: bigint;
}

export class Stage {
  readonly context: DeviceContext;
  readonly layout: StageLayout;
  readonly arena: bigint;
  /** Holds the first layer: it looks embeddings up. */
  readonly first: boolean;
  readonly layers: readonly PlacedLayer[];
  /** Final norm and head, on the last stage. */
  readonly head: { readonly norm: bigint; readonly linear: PlacedLinear } | null;
  readonly #regions: RegionIndex;

  /** @param arena address of memory as large as the layout's one arena */
  constructor(
    context: DeviceContext,
    device: DevicePlan & { stage: StageLayout },
    spec: ModelSpec,
    groupOf: readonly number[],
    arena: bigint,
  ) {
    const { first, count } = device.layers;
    this.context = context;
    this.layout = device.stage;
    this.arena = arena;
    this.first = first === 0;
    this.#regions = new RegionIndex(device.stage);
    this.layers = spec.layers.slice(first, first + count).map((layer) => this.#placeLayer(layer, groupOf[layer.index]!));
    this.head = this.#regions.find("finalNorm")
      ? { norm: this.at("finalNorm"), linear: this.#placeLinear("head", spec.head) }
      : null;
  }

  get bytes(): number {
    return this.layout.arenas[0]!.bytes;
  }

  /** Address of a region. */
  at(name: string): bigint {
    return this.arena + BigInt(this.#regions.get(name).offset);
  }

  size(name: string): number {
    return this.#regions.get(name).bytes;
  }

  has(name: string): boolean {
    return this.#regions.find(name) !== null;
  }

  /** Everything that is loaded: placed linears by the name of their regions, norms by theirs. */
  linears(): [name: string, linear: PlacedLinear][] {
    const all: [string, PlacedLinear][] = this.layers.flatMap((layer) => {
      const placed = [layer.q, layer.k, layer.v, layer.o, layer.gate, layer.up, layer.down];
      return layerLinears(layer.spec).map(([name], i): [string, PlacedLinear] => [name, placed[i]!]);
    });
    if (this.head) all.push(["head", this.head.linear]);
    return all;
  }

  norms(spec: ModelSpec): { tensor: string; size: number; to: bigint }[] {
    const all = this.layers.flatMap((layer) => layerNorms(layer.spec));
    if (this.head) all.push(["finalNorm", spec.finalNorm]);
    return all.map(([name, { tensor, size }]) => ({ tensor, size, to: this.at(name) }));
  }

  #placeLayer(layer: LayerSpec, group: number): PlacedLayer {
    const { attention, mlp, index } = layer;
    if (mlp.kind !== "gated") throw new Error("mixtures of experts are refused before anything is placed");
    const at = `layers.${index}`;
    const linear = (name: string, spec: LinearSpec) => this.#placeLinear(`${at}.${name}`, spec);
    return {
      spec: layer,
      group,
      norms: {
        input: this.at(`${at}.inputNorm`),
        postAttention: this.at(`${at}.postAttentionNorm`),
        q: attention.qNorm ? this.at(`${at}.attention.qNorm`) : 0n,
        k: attention.kNorm ? this.at(`${at}.attention.kNorm`) : 0n,
      },
      q: linear("attention.q", attention.q),
      k: linear("attention.k", attention.k),
      v: linear("attention.v", attention.v),
      o: linear("attention.o", attention.o),
      gate: linear("mlp.gate", mlp.gate),
      up: linear("mlp.up", mlp.up),
      down: linear("mlp.down", mlp.down),
      keys: this.at(`${at}.kv.keys`),
      values: this.at(`${at}.kv.values`),
    };
  }

  #placeLinear(name: string, spec: LinearSpec): PlacedLinear {
    const optional = (part: string) => (this.has(`${name}.${part}`) ? this.at(`${name}.${part}`) : 0n);
    return {
      spec,
      storage: storageOf(spec),
      weights: this.at(`${name}.weights`),
      weightBytes: this.size(`${name}.weights`),
      permutation: optional("permutation"),
      groupOf: 0n,
      bias: optional("bias"),
      adapters: this.has(`${name}.adapters.a`)
        ? { ranks: paddedRank(spec), a: optional("adapters.a"), b: optional("adapters.b"), owners: optional("adapters.owners") }
        : null,
    };
  }
}
