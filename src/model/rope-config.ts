// Config → RopeSpec and the context that the model is made for. transformers 5 keeps all of
// it in `rope_parameters`; transformers 4 has `rope_theta` beside `rope_scaling`, whose type
// is called `rope_type` or, older, `type`. A key that the type does not use is refused: it
// was meant to do something, and would do nothing.

import { UsageError } from "../errors.js";
import { type ConfigValues, describe } from "./config-values.js";
import { ModelConfigError, UnsupportedModelError } from "./errors.js";
import { stretchedTheta } from "./rope.js";
import type { RopeSpec } from "./spec.js";

/** What a user may ask for over the model's own RoPE. */
export interface RopeOverrides {
  /** Positions are divided by this (ExLlama's `-cpe`); replaces the model's own scaling. */
  readonly ropeScale?: number;
  /** NTK alpha (ExLlama's `-a`); replaces the model's own scaling. */
  readonly ropeAlpha?: number;
  /** RoPE base; the model's own scaling stays. */
  readonly ropeTheta?: number;
}

export interface RopeConfig {
  readonly rope: RopeSpec;
  /** As `ModelSpec.contextLimit`. */
  readonly contextLimit: number | null;
}

const THETA = { min: 1.001, max: 1e15 };
const FACTOR = { min: 1e-3, max: 1e5 };
const CONTEXT = { min: 1, max: 2 ** 31 - 1 };

/** Keys that say which rope it is, or change no frequency. */
const NEUTRAL_KEYS = [
  "type",
  "rope_type",
  "rope_theta",
  "partial_rotary_factor",
  "original_max_position_embeddings",
  "finetuned",
];
const KEYS: Readonly<Record<string, readonly string[]>> = {
  default: [],
  linear: ["factor"],
  dynamic: ["factor"],
  llama3: ["factor", "low_freq_factor", "high_freq_factor"],
  yarn: ["factor", "attention_factor", "beta_fast", "beta_slow", "mscale", "mscale_all_dim", "truncate"],
};

/**
 * @throws {UnsupportedModelError} a rope this program does not compute
 * @throws {ModelConfigError} values that are missing, contradictory or out of range
 * @throws {UsageError} overrides that are no usable numbers
 */
export function readRope(config: ConfigValues, headDim: number, defaultTheta: number, overrides: RopeOverrides): RopeConfig {
  const section = ropeSection(config);
  const trained = config.integer("max_position_embeddings", CONTEXT, null);
  const theta = readTheta(config, section, defaultTheta);
  checkRotatesWholeHeads(config);
  const own = section
    ? readScaling(config, section, theta, trained)
    : { rope: { kind: "default" as const, theta }, original: null };
  const scaled = override(own.rope, headDim, overrides);
  if ((scaled.kind === "ntk" || scaled.kind === "dynamic") && headDim < 4)
    throw new ModelConfigError(`${config.where}: heads of ${headDim} are too small for ${scaled.kind} RoPE scaling`);
  return { rope: scaled, contextLimit: contextLimit(own, trained, overrides) };
}

function ropeSection(config: ConfigValues): ConfigValues | null {
  const [newer, older] = [config.object("rope_parameters"), config.object("rope_scaling")];
  if (newer && older && JSON.stringify(config.raw("rope_parameters")) !== JSON.stringify(config.raw("rope_scaling")))
    throw new ModelConfigError(`${config.where} has both rope_parameters and rope_scaling, and they differ`, {
      hint: "Keep the one that is right.",
    });
  return newer ?? older;
}

function readTheta(config: ConfigValues, section: ConfigValues | null, fallback: number): number {
  const outer = config.number("rope_theta", THETA, null);
  const inner = section?.number("rope_theta", THETA, null) ?? null;
  if (outer !== null && inner !== null && outer !== inner)
    throw new ModelConfigError(`${config.where} has two RoPE bases: rope_theta ${outer}, and ${inner} inside ${section?.where}`);
  return inner ?? outer ?? fallback;
}

function checkRotatesWholeHeads(config: ConfigValues): void {
  for (const values of [config, config.object("rope_parameters"), config.object("rope_scaling")])
    for (const key of ["partial_rotary_factor", "rotary_pct"])
      if (values?.has(key) && values.raw(key) !== 1)
        throw new UnsupportedModelError(
          `${values.where}: ${key} is ${describe(values.raw(key))}; only whole heads can be rotated (1)`,
        );
}

/** `original`: the context before scaling, where the config names it. */
interface Scaling {
  readonly rope: RopeSpec;
  readonly original: number | null;
}

function readScaling(config: ConfigValues, section: ConfigValues, theta: number, trained: number | null): Scaling {
  const type = ropeType(section);
  const unused = section.keys().filter((key) => !NEUTRAL_KEYS.includes(key) && !KEYS[type]!.includes(key));
  if (unused.length > 0)
    throw new UnsupportedModelError(`${section.where}: RoPE of type ${type} has no ${unused.join(", ")}`, {
      hint: `It can have ${KEYS[type]!.join(", ") || "no further keys"}.`,
    });
  // As in transformers, a key beside `rope_scaling` wins over the one inside.
  const original =
    config.integer("original_max_position_embeddings", CONTEXT, null) ??
    section.integer("original_max_position_embeddings", CONTEXT, null);
  const needContext = (value: number | null): number => {
    if (value !== null) return value;
    throw new ModelConfigError(`${config.where} has no max_position_embeddings; RoPE of type ${type} needs it`);
  };
  switch (type) {
    case "linear":
      return { rope: { kind: "linear", theta, factor: section.number("factor", FACTOR) }, original };
    case "dynamic":
      // transformers measures from max_position_embeddings here, whatever the original context.
      return {
        rope: {
          kind: "dynamic",
          theta,
          factor: section.number("factor", { min: 1, max: 1e5 }),
          originalContext: needContext(trained),
        },
        original: needContext(trained),
      };
    case "llama3": {
      const originalContext = needContext(original ?? trained);
      const [lowFreqFactor, highFreqFactor] = [
        section.number("low_freq_factor", FACTOR),
        section.number("high_freq_factor", FACTOR),
      ];
      if (highFreqFactor <= lowFreqFactor)
        throw new ModelConfigError(
          `${section.where}: high_freq_factor ${highFreqFactor} is not above low_freq_factor ${lowFreqFactor}`,
        );
      return {
        rope: { kind: "llama3", theta, factor: section.number("factor", FACTOR), lowFreqFactor, highFreqFactor, originalContext },
        original: originalContext,
      };
    }
    case "yarn": {
      const originalContext = needContext(original ?? trained);
      return { rope: readYarn(section, theta, originalContext, trained), original: originalContext };
    }
    default:
      return { rope: { kind: "default", theta }, original: null };
  }
}

function ropeType(section: ConfigValues): string {
  const [newer, older] = [section.string("rope_type", null), section.string("type", null)];
  if (newer !== null && older !== null && newer !== older)
    throw new ModelConfigError(`${section.where} has two types: rope_type ${describe(newer)} and type ${describe(older)}`);
  const type = newer ?? older;
  if (type === null) {
    // `rope_parameters: {rope_theta}` alone is plain RoPE; a factor without a type says nothing usable.
    if (!section.has("factor")) return "default";
    throw new ModelConfigError(`${section.where} has a factor, but no rope_type`);
  }
  if (!Object.hasOwn(KEYS, type))
    throw new UnsupportedModelError(`${section.where}: RoPE of type ${describe(type)} is not supported`, {
      hint: `Supported are ${Object.keys(KEYS).join(", ")}.`,
      details: { ropeType: describe(type) },
    });
  return type;
}

function readYarn(section: ConfigValues, theta: number, originalContext: number, trained: number | null): RopeSpec {
  const factor = section.has("factor") ? section.number("factor", FACTOR) : (trained ?? originalContext) / originalContext;
  const mscale = section.number("mscale", { min: 0, max: 1e3 }, 0);
  const mscaleAllDim = section.number("mscale_all_dim", { min: 0, max: 1e3 }, 0);
  const sharpened = (weight: number) => (factor <= 1 ? 1 : 0.1 * weight * Math.log(factor) + 1);
  const derived = mscale > 0 && mscaleAllDim > 0 ? sharpened(mscale) / sharpened(mscaleAllDim) : sharpened(1);
  // Zero means "not given" for these two, as in transformers.
  const betaFast = section.number("beta_fast", { min: 0, max: 1e6 }, 0) || 32;
  const betaSlow = section.number("beta_slow", { min: 0, max: 1e6 }, 0) || 1;
  if (betaFast < betaSlow)
    throw new ModelConfigError(`${section.where}: beta_fast ${betaFast} is less than beta_slow ${betaSlow}`);
  return {
    kind: "yarn",
    theta,
    factor,
    originalContext,
    betaFast,
    betaSlow,
    attentionFactor: section.number("attention_factor", { min: 1e-3, max: 1e3 }, derived),
    truncate: section.boolean("truncate", true),
  };
}

function override(own: RopeSpec, headDim: number, overrides: RopeOverrides): RopeSpec {
  const theta = checked("ropeTheta", overrides.ropeTheta, THETA) ?? own.theta;
  const factor = checked("ropeScale", overrides.ropeScale, FACTOR);
  const alpha = checked("ropeAlpha", overrides.ropeAlpha, FACTOR);
  if (factor !== null)
    // Both at once, as ExLlama allows: alpha only changes the base.
    return { kind: "linear", factor, theta: alpha === null ? theta : stretchedTheta(theta, alpha, headDim) };
  if (alpha !== null) return { kind: "ntk", theta, alpha };
  return { ...own, theta };
}

function checked(name: keyof RopeOverrides, value: number | undefined, range: { min: number; max: number }): number | null {
  if (value === undefined) return null;
  if (!(value >= range.min && value <= range.max))
    throw new UsageError(`${name} is ${value}`, { expected: `a number from ${range.min} to ${range.max}` });
  return value;
}

function contextLimit(own: Scaling, trained: number | null, overrides: RopeOverrides): number | null {
  const asked = (overrides.ropeScale ?? 1) * (overrides.ropeAlpha ?? 1);
  const replaced = overrides.ropeScale !== undefined || overrides.ropeAlpha !== undefined;
  const original = own.original ?? trained;
  if (original === null) return null;
  if (replaced) return Math.max(1, Math.floor(original * Math.max(asked, 1)));
  const factor = "factor" in own.rope ? own.rope.factor : 1;
  // The config's own word, or the scaled original context where that is more.
  return Math.max(trained ?? 0, own.original === null ? 0 : Math.floor(own.original * factor)) || null;
}
