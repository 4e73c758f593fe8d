// What the config says of quantisation. It lies in config.json as `quantization_config`, or,
// with older GPTQ checkpoints, in quantize_config.json. Which linears are quantised, and how
// they are packed, the tensors show; what only the config knows is how zeros are stored and,
// where groups do not divide the input evenly, how large they are.

import { ConfigValues, describe } from "./config-values.js";
import { ModelConfigError, UnsupportedModelError } from "./errors.js";
import type { GptqFormat } from "./spec.js";

/** One way a linear may be quantised. */
export interface GptqChoice {
  readonly bits: GptqFormat["bits"];
  /** −1: one group. */
  readonly groupSize: number;
}

export interface GptqConfig {
  /** The general choice first, then those of single modules (GPTQModel's `dynamic`). */
  readonly choices: readonly GptqChoice[];
  readonly zeros: GptqFormat["zeros"];
  /** Rows are ordered by importance somewhere: groups mean nothing without g_idx. */
  readonly descAct: boolean;
}

const OTHER_METHODS: Readonly<Record<string, string>> = {
  awq: "AWQ packs its weights in another order",
  bitsandbytes: "bitsandbytes weights need its own data types",
  fp8: "8-bit floating-point weights",
  "compressed-tensors": "a family of formats of its own",
  "auto-round": "AutoRound's own packing",
  exl2: "ExLlamaV2's format",
  exl3: "ExLlamaV3's format",
  aqlm: "additive codebooks",
  hqq: "HQQ's own packing",
  eetq: "EETQ's own packing",
  quanto: "Quanto's own packing",
  torchao: "torchao's tensor classes",
  mxfp4: "4-bit floating-point weights",
  bitnet: "ternary weights",
};

/**
 * @param config config.json
 * @param quantize quantize_config.json, or `null`
 * @returns `null` when nothing says that the checkpoint is quantised
 * @throws {UnsupportedModelError} any method or packing but GPTQ's own
 * @throws {ModelConfigError} values that GPTQ cannot have
 */
export function readQuantization(config: ConfigValues, quantize: unknown): GptqConfig | null {
  const values =
    config.object("quantization_config") ?? (quantize === null ? null : new ConfigValues(quantize, "quantize_config.json"));
  if (!values) return null;
  checkMethod(values);
  refuseAdditions(values);
  const general = readChoice(values, null);
  return {
    choices: [general, ...readDynamic(values, general)],
    zeros: readZeros(values),
    descAct: values.boolean("desc_act", false),
  };
}

function checkMethod(values: ConfigValues): void {
  // AutoGPTQ's quantize_config.json names no method.
  const method = values.string("quant_method", values.has("bits") ? "gptq" : null);
  if (method?.toLowerCase() === "gptq") return;
  const reason =
    method === null ? undefined : OTHER_METHODS[Object.keys(OTHER_METHODS).find((key) => method.includes(key)) ?? ""];
  throw new UnsupportedModelError(
    method === null
      ? `${values.where} names no quant_method`
      : `the quantisation method ${describe(method)} is not supported${reason ? `: ${reason}` : ""}`,
    { hint: "Look for a GPTQ or an unquantised (float16) version of the model.", details: { method: describe(method) } },
  );
}

/** What GPTQModel can add to a checkpoint and this program does not apply. */
function refuseAdditions(values: ConfigValues): void {
  if (values.has("pack_dtype") && values.raw("pack_dtype") !== "int32")
    throw new UnsupportedModelError(
      `${values.where}: pack_dtype is ${describe(values.raw("pack_dtype"))}; only int32 can be read`,
    );
  if (values.has("rotation") && values.raw("rotation") !== false)
    throw new UnsupportedModelError(
      `${values.where}: rotation is ${describe(values.raw("rotation"))}; rotated weights may need their inputs rotated, too`,
    );
  if (values.has("adapter"))
    throw new UnsupportedModelError(`${values.where} has an adapter, which belongs to the weights and is not applied`);
}

function readZeros(values: ConfigValues): GptqFormat["zeros"] {
  // GPTQModel writes both, with one value.
  const [format, other] = [values.string("checkpoint_format", null), values.string("format", null)].filter(
    (value) => value !== null,
  );
  if (other !== undefined && other !== format)
    throw new ModelConfigError(
      `${values.where} has two formats: checkpoint_format ${describe(format)} and format ${describe(other)}`,
      {
        hint: "Keep the one that says how its zeros are stored.",
      },
    );
  if (values.boolean("is_marlin_format", false) || (format !== undefined && format !== "gptq" && format !== "gptq_v2"))
    throw new UnsupportedModelError(
      `${values.where}: checkpoint_format ${describe(values.boolean("is_marlin_format", false) ? "marlin" : format)} is not supported`,
      { hint: 'Supported are "gptq" and "gptq_v2".' },
    );
  return format === "gptq_v2" ? "v2" : "v1";
}

function readChoice(values: ConfigValues, general: GptqChoice | null): GptqChoice {
  const bits = values.integer("bits", { min: 1, max: 64 }, ...(general ? [general.bits] : []));
  if (bits !== 2 && bits !== 3 && bits !== 4 && bits !== 8)
    throw new UnsupportedModelError(`${values.where}: ${bits}-bit weights are not supported`, {
      hint: "Supported are 2, 3, 4 and 8 bits.",
    });
  const groupSize = values.integer("group_size", { min: -1, max: 2 ** 24 }, ...(general ? [general.groupSize] : []));
  if (groupSize === 0) throw new ModelConfigError(`${values.where}: group_size is 0; −1 or a positive number is needed`);
  return { bits, groupSize };
}

/**
 * GPTQModel's `dynamic`: `{"+:pattern": {bits, group_size, …}}` changes the choice for some
 * modules, `"-:pattern"` leaves them unquantised. Which modules a pattern means is not asked:
 * each linear's tensors show which of the choices it is.
 */
function readDynamic(values: ConfigValues, general: GptqChoice): GptqChoice[] {
  const dynamic = values.raw("dynamic");
  if (dynamic === undefined || dynamic === false) return [];
  const rules = new ConfigValues(dynamic, `${values.where}: dynamic`);
  return rules
    .keys()
    .filter((pattern) => !pattern.startsWith("-:"))
    .map((pattern) => readChoice(new ConfigValues(rules.raw(pattern), `${rules.where}: ${describe(pattern)}`), general));
}
