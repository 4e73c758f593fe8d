// One step, as every worker runs it: the same phases in the same order, each phase a number of
// items that are claimed from the team's counter, a barrier between phases. A phase writes
// only what no other item of it reads; what an item computes never depends on who computes it.

import { RegionIndex } from "../../memory/regions.js";
import type { AdapterGroup } from "./adapter-group.js";
import type { Attention } from "./attention.js";
import { type FloatKernels, ValueKind } from "./kernels.js";
import { type LayerProgram, layerProgram, type ProgramParts } from "./layer-program.js";
import { LinearGroup } from "./linear-group.js";
import { NextWeights } from "./next-weights.js";
import { partOfRow } from "./part-of-row.js";
import { logitRows, OUTPUT_ROW_BYTES } from "./scratch.js";
import { Step } from "./step.js";
import { stepWords, Task } from "./step-message.js";

/** team_take() answers first << TAKEN_BITS | number. */
const TAKEN_BITS = 6;
const TAKEN_MASK = 63;
/** Most tiles taken at a time where rows are many. */
const MOST_TILES = 16;
/**
 * Tiles of which a kernel for one row reads sixteen or eight side by side (wasm/nibble-rows.ts, wasm/byte-rows.ts): sixteen are a
 * twentieth faster, fewer than eight go one by one.
 */
const TILES_TOGETHER = { most: 16, least: 8 };

/** Offsets of the buffers that every arena has. */
interface Buffers {
  readonly kernels: FloatKernels;
  readonly hidden: number;
  readonly normed: number;
  readonly delta: number;
}

export class StepProgram {
  readonly #parts: ProgramParts;
  readonly #step: Step;
  readonly #control: number;
  readonly #team: FloatKernels;
  readonly #buffers: Buffers[];
  readonly #layers: LayerProgram[];
  readonly #head: { arena: number; norm: number; linear: LinearGroup; logits: readonly number[]; outputs: number };
  readonly #embeddingArena: number;
  readonly #next = new NextWeights();

  constructor(parts: ProgramParts) {
    const { spec, stage, run, arenas } = parts;
    const regions = new RegionIndex(stage);
    this.#parts = parts;
    this.#control = regions.get("scratch.control", 0).offset;
    this.#team = arenas[0]!.kernels;
    this.#step = new Step(new Int32Array(arenas[0]!.memory.buffer, this.#control), stepWords(spec, run));
    this.#buffers = arenas.map(({ kernels }, arena) => ({
      kernels,
      hidden: regions.get("scratch.hidden", arena).offset,
      normed: regions.get("scratch.normed", arena).offset,
      delta: regions.get("scratch.delta", arena).offset,
    }));
    this.#layers = spec.layers.map((layer) => layerProgram(parts, regions, layer));
    const head = regions.get("finalNorm").arena;
    const tied = regions.find("embedding.weights", head) !== null;
    this.#head = {
      arena: head,
      norm: regions.get("finalNorm", head).offset,
      linear: new LinearGroup(
        [parts.linear(tied ? "embedding" : "head", spec.head, head)],
        regions.find("scratch.activations", head)?.offset ?? 0,
        logitRows(run),
      ),
      logits: [regions.get("scratch.logits", head).offset],
      outputs: regions.get("scratch.outputs", head).offset,
    };
    this.#embeddingArena = (regions.find("embedding.rows") ?? regions.get("embedding.weights")).arena;
  }

  /** Runs the present command. All workers must call it; it returns when all have finished. */
  execute(): void {
    this.#step.begin();
    if (this.#step.task === Task.layers) this.#forward();
    this.#outputs();
  }

  #barrier(): void {
    const ticket = this.#team.team_arrive(this.#control, this.#parts.threads);
    if (ticket === 0) return;
    while (this.#next.read()) if (this.#team.team_open(this.#control, ticket)) return;
    this.#team.team_wait(this.#control, ticket, this.#parts.waitTurns);
  }

  /** The next linears to run: their first weights are read while waiting. Where rows are many, arithmetic takes the time. */
  #awaits(arena: number, linears: LinearGroup): void {
    if (this.#step.rows > 1) {
      this.#next.clear();
      return;
    }
    const { from, to } = linears.weightsFrom(this.#firstTile(linears.tiles));
    this.#next.aim(this.#buffers[arena]!.kernels, from, to);
  }

  #awaitsFirst(): void {
    const first = this.#layers[0];
    if (first) this.#awaits(first.arena, first.qkv);
  }

  /** The first tile that team_take() gives this thread. */
  #firstTile(tiles: number): number {
    const { threads, index } = this.#parts;
    return Math.floor((tiles * index) / threads);
  }

  #claim(count: number): number {
    return this.#team.team_claim(this.#control, count);
  }

  #forward(): void {
    this.#awaitsFirst();
    this.#embed();
    let arena = this.#embeddingArena;
    let pending = false;
    for (const [i, layer] of this.#layers.entries()) {
      if (layer.arena !== arena) this.#move(arena, layer.arena, pending);
      arena = layer.arena;
      this.#layer(layer, pending, this.#layers[i + 1]);
      pending = true;
    }
    if (this.#head.arena !== arena) this.#move(arena, this.#head.arena, pending);
    if (!this.#addsInNorm()) this.#addDelta(this.#head.arena);
  }

  #embed(): void {
    const { rows } = this.#step;
    const { hidden } = this.#buffers[this.#embeddingArena]!;
    const bytes = this.#parts.spec.hiddenSize * 4;
    for (let row = this.#claim(1); row < rows; row = this.#claim(1)) this.#parts.embed(this.#step.id(row), hidden + row * bytes);
    this.#barrier();
  }

  /** Carries the hidden state, and what is still to be added to it, to the next arena. */
  #move(from: number, to: number, pending: boolean): void {
    const bytes = this.#parts.spec.hiddenSize * 4;
    const copy = (source: number, target: number, row: number) =>
      new Uint8Array(this.#parts.arenas[to]!.memory.buffer, target + row * bytes, bytes).set(
        new Uint8Array(this.#parts.arenas[from]!.memory.buffer, source + row * bytes, bytes),
      );
    const a = this.#buffers[from]!;
    const b = this.#buffers[to]!;
    for (let row = this.#claim(1); row < this.#step.rows; row = this.#claim(1)) {
      copy(a.hidden, b.hidden, row);
      if (pending) copy(a.delta, b.delta, row);
    }
    this.#barrier();
  }

  #layer(layer: LayerProgram, pending: boolean, following: LayerProgram | undefined): void {
    const { attention, projections } = layer;
    const { rows } = this.#step;
    const { normed } = this.#buffers[layer.arena]!;
    const adapters = this.#step.adapted ? layer.adapters : null;
    this.#normAndPrepare(layer.arena, layer.inputNorm, layer.spec.inputNorm.eps, pending, layer.qkv);
    this.#awaits(layer.arena, layer.o);
    this.#shrink(adapters?.qkv, normed);
    this.#linears(layer.qkv, normed, layer.qkvOut, rows, adapters?.qkv);

    if (attention.byHead(this.#step, this.#parts.threads)) this.#attendByHead(layer);
    else this.#attendByPage(layer);
    this.#awaits(layer.arena, layer.gateUp);
    this.#shrink(adapters?.o, projections.q);
    this.#linears(layer.o, projections.q, layer.deltaOut, rows, adapters?.o);

    this.#normAndPrepare(layer.arena, layer.postNorm, layer.spec.postAttentionNorm.eps, true, layer.gateUp);
    this.#awaits(layer.arena, layer.down);
    this.#shrink(adapters?.gateUp, normed);
    this.#linears(layer.gateUp, normed, layer.gateUpOut, rows, adapters?.gateUp);
    this.#activate(layer);
    this.#awaits(following?.arena ?? this.#head.arena, following?.qkv ?? this.#head.linear);
    this.#shrink(adapters?.down, projections.gate);
    this.#linears(layer.down, projections.gate, layer.deltaOut, rows, adapters?.down);
  }

  /** Attention in one phase, and what o reads of it. */
  #attendByHead({ attention, o, spec, projections }: LayerProgram): void {
    const { rows } = this.#step;
    const { kvHeads } = spec.attention;
    const together = o.unit !== null && attention.outputOf(1) % o.unit === 0;
    for (let item = this.#claim(1); item < rows * kvHeads; item = this.#claim(1)) {
      const row = Math.floor(item / kvHeads);
      const head = item % kvHeads;
      attention.runHead(this.#step, row, head);
      if (together) o.prepareInputs(projections.q, rows, row, attention.outputOf(head), attention.outputOf(head + 1));
    }
    this.#barrier();
    if (!together) this.#prepareRows(o, projections.q);
  }

  /** Attention of whole prompts, or of few heads with many pages, which are spread over the threads. */
  #attendByPage({ attention, o, projections }: LayerProgram): void {
    const { rows } = this.#step;
    for (let row = this.#claim(1); row < rows; row = this.#claim(1)) attention.storeRow(this.#step, row);
    this.#barrier();
    const spread = attention.spreads(this.#step);
    const items = attention.items(this.#step, spread);
    for (let item = this.#claim(1); item < items; item = this.#claim(1)) attention.runItem(this.#step, spread, item);
    this.#barrier();
    if (spread || o.prepares) this.#prepareRows(o, projections.q, spread ? attention : null);
  }

  /** What the linears read of x, whose rows `spread` attention finishes first. */
  #prepareRows(linears: LinearGroup, x: number, spread: Attention | null = null): void {
    const { rows } = this.#step;
    const chunk = this.#rowChunk();
    for (let from = this.#claim(chunk); from < rows; from = this.#claim(chunk)) {
      const to = Math.min(rows, from + chunk);
      if (spread) for (let row = from; row < to; row++) spread.finishRow(this.#step, row);
      linears.prepare(x, rows, from, to);
    }
    this.#barrier();
  }

  /** What the adapters of these linears make of x, before it is added to their outputs. */
  #shrink(adapters: AdapterGroup | undefined, x: number): void {
    if (!adapters || adapters.empty) return;
    const { rows } = this.#step;
    // Where rows are few, a row is divided among the threads.
    const pieces = rows < this.#parts.threads * 4 ? adapters.pieces : 1;
    for (let item = this.#claim(1); item < rows * pieces; item = this.#claim(1))
      adapters.shrink(this.#step, Math.floor(item / pieces), x, item % pieces, pieces);
    this.#barrier();
  }

  /** hidden += delta where it is pending; normed = norm(hidden); normed → what the linears read. */
  #normAndPrepare(arena: number, norm: number, eps: number, pending: boolean, linears: LinearGroup): void {
    const { kernels, hidden, delta, normed } = this.#buffers[arena]!;
    const { rows } = this.#step;
    const size = this.#parts.spec.hiddenSize;
    if (this.#inParts(linears)) {
      this.#normInParts(arena, norm, eps, pending, linears);
      return;
    }
    const chunk = this.#rowChunk();
    for (let from = this.#claim(chunk); from < rows; from = this.#claim(chunk)) {
      const to = Math.min(rows, from + chunk);
      kernels.rms_norm(hidden, pending ? delta : 0, norm, normed, size, eps, from, to);
      linears.prepare(normed, rows, from, to);
    }
    this.#barrier();
  }

  /** Whether the threads make one row together. */
  #inParts(linears: LinearGroup): boolean {
    return this.#step.rows === 1 && this.#parts.threads > 1 && linears.unit !== null;
  }

  /** normAndPrepare() of one row: every thread sums all squares, and makes its own part of the rest. */
  #normInParts(arena: number, norm: number, eps: number, pending: boolean, linears: LinearGroup): void {
    const { kernels, hidden, delta, normed } = this.#buffers[arena]!;
    const { threads, index } = this.#parts;
    const size = this.#parts.spec.hiddenSize;
    const { from, to } = partOfRow(size, linears.unit ?? size, threads, index);
    const added = pending ? delta : 0;
    const factor = kernels.norm_factor(hidden, added, size, eps);
    if (from < to) {
      kernels.norm_columns(hidden, added, norm, normed, factor, from, to);
      linears.prepareInputs(normed, 1, 0, from, to);
    }
    this.#barrier();
    // Only now, for everybody has been reading it; delta is written again behind the next barrier.
    if (pending && from < to) kernels.add_columns(hidden, delta, from, to);
  }

  /** gate = silu(gate) · up, and what down reads of it. */
  #activate({ arena, gateUp, down, projections: { gate, up } }: LayerProgram): void {
    const { kernels } = this.#buffers[arena]!;
    const { rows } = this.#step;
    const { threads } = this.#parts;
    const { out } = gateUp.linears[0]!;
    // Where rows are few, a row is divided among the threads. (silu_mul wants fours.)
    const parts = rows < threads && down.unit !== null ? threads : 1;
    const chunk = parts > 1 ? 1 : this.#rowChunk();
    for (let item = this.#claim(chunk); item < rows * parts; item = this.#claim(chunk)) {
      const from = Math.floor(item / parts);
      const to = Math.min(rows, from + chunk);
      const at = from * out * 4;
      if (parts === 1) {
        kernels.silu_mul(gate + at, up + at, out, to - from, 0, out);
        down.prepare(gate, rows, from, to);
        continue;
      }
      const columns = partOfRow(out, down.unit ?? 4, parts, item % parts);
      kernels.silu_mul(gate + at, up + at, out, 1, columns.from, columns.to);
      down.prepareInputs(gate, rows, from, columns.from, columns.to);
    }
    this.#barrier();
  }

  /** Several linears over the same input, their tiles one long row of items. */
  #linears(linears: LinearGroup, x: number, outputs: readonly number[], rows: number, adapters?: AdapterGroup): void {
    const { tiles } = linears;
    const { most, least } = rows === 1 ? TILES_TOGETHER : this.#portion(tiles);
    for (let taken = this.#take(tiles, most, least); taken !== 0; taken = this.#take(tiles, most, least)) {
      const from = taken >>> TAKEN_BITS;
      linears.apply(x, rows, outputs, from, from + (taken & TAKEN_MASK));
      adapters?.expand(this.#step, outputs, from, from + (taken & TAKEN_MASK));
    }
    this.#barrier();
  }

  /** Whether the last layer's delta is added by the norm of the only output. */
  #addsInNorm(): boolean {
    const { task, outputs } = this.#step;
    return task === Task.layers && outputs === 1 && this.#layers.length > 0 && this.#inParts(this.#head.linear);
  }

  #addDelta(arena: number): void {
    const { kernels, hidden, delta } = this.#buffers[arena]!;
    const { rows } = this.#step;
    if (this.#layers.length === 0) return;
    for (let row = this.#claim(1); row < rows; row = this.#claim(1))
      kernels.rms_norm(hidden, delta, 0, hidden, this.#parts.spec.hiddenSize, 0, row, row + 1);
    this.#barrier();
  }

  /** Logits of the wanted rows, a few at a time, and what is taken from them before the next ones overwrite them. */
  #outputs(): void {
    const { outputs } = this.#step;
    const most = logitRows(this.#parts.run);
    for (let first = 0; first < outputs; first += most) this.#outputRound(first, Math.min(most, outputs - first));
  }

  #outputRound(first: number, count: number): void {
    const { spec } = this.#parts;
    const { arena, norm, linear, logits, outputs } = this.#head;
    const { kernels, hidden, normed } = this.#buffers[arena]!;
    const bytes = spec.hiddenSize * 4;
    // Read before the round's last barrier: behind it the host may already be writing the next step.
    let wanted = false;
    for (let i = 0; i < count; i++) wanted ||= this.#step.outputSums(first + i);
    if (this.#addsInNorm()) this.#normInParts(arena, norm, spec.finalNorm.eps, true, linear);
    else {
      for (let i = this.#claim(1); i < count; i = this.#claim(1)) {
        const x = hidden + this.#step.outputRow(first + i) * bytes;
        kernels.rms_norm(x, 0, norm, normed + i * bytes, spec.hiddenSize, spec.finalNorm.eps, 0, 1);
        linear.prepare(normed, count, i, i + 1);
      }
      this.#barrier();
    }
    this.#awaitsFirst();
    this.#linears(linear, normed, logits, count);
    if (!wanted) return;
    for (let i = this.#claim(1); i < count; i = this.#claim(1)) {
      if (!this.#step.outputSums(first + i)) continue;
      const row = logits[0]! + i * spec.vocabSize * 4;
      const out = outputs + (first + i) * OUTPUT_ROW_BYTES;
      kernels.log_softmax_sums(row, spec.vocabSize, out);
      const target = this.#step.outputTarget(first + i);
      if (target >= 0) kernels.widen_row(row + target * 4, out + 16, 1, ValueKind.f32);
    }
    this.#barrier();
  }

  /** Rows are claimed two at a time at least: prepared inputs lie in pairs of rows. */
  #rowChunk(): number {
    const share = this.#step.rows / (this.#parts.threads * 4);
    return Math.min(8, Math.max(2, 2 * Math.floor(share / 2)));
  }

  /** Tiles to take at a time: small portions, for a thread's own lie one behind the other anyway. */
  #portion(tiles: number): { most: number; least: number } {
    const eighth = Math.floor((tiles * MOST_TILES) / (this.#parts.threads * 128));
    const most = Math.min(MOST_TILES, Math.max(1, eighth));
    return { most, least: most };
  }

  /** Some tiles of a linear, or 0. */
  #take(tiles: number, most: number, least: number): number {
    const { threads, index } = this.#parts;
    return this.#team.team_take(this.#control, threads, index, tiles, most, least);
  }
}
