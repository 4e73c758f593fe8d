// The server's figures for Prometheus: what it counts itself (requests, tokens, times), and what
// the engine says of its queue, its pages and its memory when somebody asks.

import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from "prom-client";
import type { EngineStatus, Model } from "../engine/model.js";
import type { AnswerWatcher } from "./answer-feed.js";
import { Rate } from "./rate.js";

const PREFIX = "exllama_";
/** Seconds; from a cached prompt on a fast card to a long one on a CPU. */
const FIRST_TOKEN_BUCKETS = [0.01, 0.025, 0.05, 0.1, 0.15, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60];
const BETWEEN_TOKENS_BUCKETS = [0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.25, 0.5, 1];

export type RequestOutcome = "ok" | "error" | "cancelled";

/** Figures of the server alone, as plain data. */
export interface ServerFigures {
  readonly promptTokens: number;
  readonly generatedTokens: number;
  readonly firstToken: { readonly count: number; readonly seconds: number };
  readonly betweenTokens: { readonly count: number; readonly seconds: number };
}

export class ServerMetrics implements AnswerWatcher {
  readonly registry = new Registry();
  readonly #requests = counter(this.registry, "requests_total", "Requests by route and outcome", ["route", "outcome"]);
  readonly #errors = counter(this.registry, "errors_total", "Requests refused or failed before their answer began", ["code"]);
  readonly #promptTokens = counter(this.registry, "prompt_tokens_total", "Tokens of prompts, those found in the cache included");
  readonly #generatedTokens = counter(this.registry, "generated_tokens_total", "Tokens generated");
  readonly #firstToken = histogram(
    this.registry,
    "time_to_first_token_seconds",
    "From the request to its first token, waiting included",
    FIRST_TOKEN_BUCKETS,
  );
  readonly #betweenTokens = histogram(
    this.registry,
    "inter_token_seconds",
    "Between tokens of one answer",
    BETWEEN_TOKENS_BUCKETS,
  );
  readonly #rate = new Rate();
  readonly #tokensPerSecond = gauge(this.registry, "tokens_per_second", "Tokens generated per second, over the last ten");
  readonly #engine = engineGauges(this.registry);
  readonly #figures = { promptTokens: 0, generatedTokens: 0, firstToken: sum(), betweenTokens: sum() };

  constructor() {
    collectDefaultMetrics({ register: this.registry, eventLoopMonitoringPrecision: 5 });
  }

  request(route: string, outcome: RequestOutcome): void {
    this.#requests.inc({ route, outcome });
  }

  /** @param code as the client sees it */
  error(code: string): void {
    this.#errors.inc({ code });
  }

  prompt(tokens: number): void {
    this.#promptTokens.inc(tokens);
    this.#figures.promptTokens += tokens;
  }

  first(count: number, milliseconds: number): void {
    this.#generated(count);
    this.#firstToken.observe(milliseconds / 1000);
    add(this.#figures.firstToken, 1, milliseconds / 1000);
  }

  next(count: number, milliseconds: number): void {
    this.#generated(count);
    for (let i = 0; i < count; i++) this.#betweenTokens.observe(milliseconds / 1000 / count);
    add(this.#figures.betweenTokens, count, milliseconds / 1000);
  }

  #generated(count: number): void {
    this.#rate.add(count);
    this.#generatedTokens.inc(count);
    this.#figures.generatedTokens += count;
  }

  get figures(): ServerFigures {
    return structuredClone(this.#figures);
  }

  /**
   * The text that Prometheus reads.
   *
   * @param model asked for its state; `null` while there is none
   */
  async text(model: Model | null): Promise<string> {
    this.#tokensPerSecond.set(this.#rate.perSecond());
    this.#engine.set(model, model && (await model.status()));
    return this.registry.metrics();
  }

  dispose(): void {
    this.registry.clear();
  }
}

function engineGauges(registry: Registry) {
  const up = gauge(registry, "model_up", "1 while a model is loaded");
  const running = gauge(registry, "sequences_running", "Sequences that share the engine's steps");
  const waiting = gauge(registry, "sequences_waiting", "Sequences that wait for a place or for pages");
  const idle = gauge(registry, "sequences_idle", "Finished sequences whose KV is kept for reuse");
  const most = gauge(registry, "sequences_max", "Sequences that may run at once");
  const free = gauge(registry, "kv_pages_free", "KV pages that nobody holds", ["group"]);
  const total = gauge(registry, "kv_pages_total", "KV pages", ["group"]);
  const kept = gauge(registry, "kv_pages_idle", "KV pages of finished sequences, which give way when pages are needed", [
    "group",
  ]);
  const reserved = gauge(registry, "kv_pages_reserved", "KV pages reserved by running sequences", ["group"]);
  const planned = gauge(registry, "device_memory_planned_bytes", "Memory by the plan", ["device"]);
  const measured = gauge(registry, "device_memory_measured_bytes", "Memory taken now", ["device"]);
  // Of the engine that is loaded now: they begin anew with a new one, as counters may.
  const steps = counter(registry, "steps_total", "Steps of the engine");
  const computed = counter(registry, "prompt_tokens_computed_total", "Prompt tokens computed; those computed again count again");
  const reused = counter(registry, "prompt_tokens_reused_total", "Prompt tokens whose KV was there already");
  const preemptions = counter(registry, "preemptions_total", "Times that a running sequence gave its pages back to others");
  const proposed = counter(registry, "guesses_proposed_total", "Tokens guessed ahead of answers");
  const accepted = counter(registry, "guesses_accepted_total", "Tokens guessed ahead that stood");
  return {
    set(model: Model | null, status: EngineStatus | null): void {
      up.set(model ? 1 : 0);
      for (const one of [free, total, kept, reserved, planned, measured]) one.reset();
      if (!model || !status) return;
      const { scheduler, devices } = status;
      const set = (one: Counter, value: number) => {
        one.reset();
        one.inc(value);
      };
      running.set(scheduler.running);
      waiting.set(scheduler.waiting);
      idle.set(scheduler.idle);
      most.set(model.plan.run.maxSequences);
      scheduler.freePages.forEach((pages, group) => void free.set({ group }, pages));
      scheduler.idlePages.forEach((pages, group) => void kept.set({ group }, pages));
      scheduler.reservedPages.forEach((pages, group) => void reserved.set({ group }, pages));
      model.plan.cacheGroups.forEach(({ pages }, group) => void total.set({ group }, pages));
      for (const device of devices) {
        planned.set({ device: device.id }, device.planned);
        if (device.measured !== null) measured.set({ device: device.id }, device.measured);
      }
      set(steps, status.counters.steps);
      set(computed, status.counters.promptTokens);
      set(reused, status.counters.reusedTokens);
      set(preemptions, status.counters.preemptions);
      set(proposed, status.guesses.proposed);
      set(accepted, status.guesses.accepted);
    },
  };
}

function counter<L extends string>(registry: Registry, name: string, help: string, labelNames: L[] = []): Counter<L> {
  return new Counter({ name: PREFIX + name, help, labelNames, registers: [registry] });
}

function gauge<L extends string>(registry: Registry, name: string, help: string, labelNames: L[] = []): Gauge<L> {
  return new Gauge({ name: PREFIX + name, help, labelNames, registers: [registry] });
}

function histogram(registry: Registry, name: string, help: string, buckets: number[]): Histogram {
  return new Histogram({ name: PREFIX + name, help, buckets, registers: [registry] });
}

interface Sum {
  count: number;
  seconds: number;
}

function sum(): Sum {
  return { count: 0, seconds: 0 };
}

function add(to: Sum, count: number, seconds: number): void {
  to.count += count;
  to.seconds += seconds;
}
