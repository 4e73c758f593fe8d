// adapter_config.json as PEFT writes it, read without belief: which kind of adapter this is, and
// by which factor each of its pairs counts. What changes the arithmetic in a way that this
// program does not compute is refused by name; what only concerned training is left alone.

import { AdapterConfigError, UnsupportedAdapterError } from "./errors.js";

/** Largest rank that is accepted: published adapters stay below 512. */
export const MOST_RANK = 1024;

export interface AdapterConfig {
  /** What B (A x) of a module is multiplied by. @param rank of its tensors */
  scale(module: string, rank: number): number;
  /** Rank that the config gives a module. */
  rank(module: string): number;
  /** Module names that must have tensors; `null` where the config only gives a pattern. */
  readonly targets: readonly string[] | null;
}

/** Fields that must be absent, null, false or empty; what each would mean. */
const REFUSED: Readonly<Record<string, string>> = {
  use_dora: "is DoRA: it rescales whole weight columns, which is not applied here",
  use_qalora: "is QA-LoRA, which pools its inputs; that is not applied here",
  use_bdlora: "is block-diagonal LoRA, which is not applied here",
  fan_in_fan_out: "has transposed factors (fan_in_fan_out)",
  modules_to_save: "replaces whole modules (modules_to_save)",
  layer_replication: "repeats layers (layer_replication)",
  trainable_token_indices: "changes token embeddings (trainable_token_indices)",
  alora_invocation_tokens: "is switched on by tokens (alora_invocation_tokens)",
  target_parameters: "changes parameters that are no linear layers (target_parameters)",
  arrow_config: "routes between adapters (arrow_config)",
};

/** How factors may have been initialised without the base weights having been changed with them. */
const PLAIN_INITS: ReadonlySet<unknown> = new Set([undefined, null, true, false, "gaussian", "eva", "orthogonal"]);

type Fields = Readonly<Record<string, unknown>>;

/**
 * @param value the parsed file
 * @param where its name, for messages
 * @throws {AdapterConfigError | UnsupportedAdapterError}
 */
export function readAdapterConfig(value: unknown, where: string): AdapterConfig {
  if (!isObject(value)) throw new AdapterConfigError(`${where} is not a JSON object`);
  refuseOtherKinds(value, where);
  const rank = readRank(value.r, "r", where);
  const alpha = readAlpha(value.lora_alpha ?? 8, "lora_alpha", where); // PEFT's default
  const ranks = readPattern(value.rank_pattern, "rank_pattern", where, readRank);
  const alphas = readPattern(value.alpha_pattern, "alpha_pattern", where, readAlpha);
  const root = readFlag(value.use_rslora, "use_rslora", where);
  return {
    rank: (module) => ranks(module) ?? rank,
    scale: (module, of) => (alphas(module) ?? alpha) / (root ? Math.sqrt(of) : of),
    targets: readTargets(value.target_modules, where),
  };
}

function refuseOtherKinds(fields: Fields, where: string): void {
  const { peft_type: kind, init_lora_weights: init } = fields;
  if (kind !== "LORA")
    throw new UnsupportedAdapterError(
      `${where}: the adapter is ${kind === undefined ? "of no named kind" : show(kind)}, not LORA`,
    );
  for (const [name, meaning] of Object.entries(REFUSED))
    if (!isOff(fields[name])) throw new UnsupportedAdapterError(`${where}: the adapter ${meaning}`, { details: { field: name } });
  if (!PLAIN_INITS.has(init))
    throw new UnsupportedAdapterError(
      `${where}: the adapter was made with init_lora_weights ${show(init)}, which changed the base weights too`,
      { hint: "Convert it to plain LoRA (PEFT: path_initial_model_for_weight_conversion), or merge it into the model." },
    );
}

/** Module names, lists only: a pattern as text is PEFT's own business, and the tensors show what it matched. */
function readTargets(value: unknown, where: string): string[] | null {
  if (value === undefined || value === null || typeof value === "string") return null;
  if (!Array.isArray(value) || value.some((name) => typeof name !== "string"))
    throw new AdapterConfigError(`${where}: target_modules is ${show(value)}, not a list of names`);
  return value as string[];
}

/**
 * PEFT's patterns are regular expressions from the file; those that it writes itself are names,
 * and a stranger's expression is not run.
 */
function readPattern(
  value: unknown,
  field: string,
  where: string,
  read: (value: unknown, name: string, where: string) => number,
): (module: string) => number | undefined {
  if (value === undefined || value === null) return () => undefined;
  if (!isObject(value)) throw new AdapterConfigError(`${where}: ${field} is ${show(value)}, not an object`);
  const entries = Object.entries(value).map(([name, number]): [name: string, number: number] => {
    if (!/^\^?[\w.]+$/.test(name))
      throw new UnsupportedAdapterError(`${where}: ${field} has the expression ${show(name)}; only names of modules are read`);
    return [name.replace(/^\^/, ""), read(number, `${field}[${show(name)}]`, where)];
  });
  // The first that fits counts, whole or behind a dot.
  return (module) => entries.find(([name]) => module === name || module.endsWith(`.${name}`))?.[1];
}

function readRank(value: unknown, name: string, where: string): number {
  if (Number.isInteger(value) && (value as number) >= 1 && (value as number) <= MOST_RANK) return value as number;
  throw new AdapterConfigError(`${where}: ${name} is ${show(value)}; a rank is a whole number from 1 to ${MOST_RANK}`);
}

function readAlpha(value: unknown, name: string, where: string): number {
  if (typeof value === "number" && Number.isFinite(value) && Math.abs(value) <= 1e6) return value;
  throw new AdapterConfigError(`${where}: ${name} is ${show(value)}, not a number of reasonable size`);
}

function readFlag(value: unknown, name: string, where: string): boolean {
  if (value === undefined || value === null) return false;
  if (typeof value === "boolean") return value;
  throw new AdapterConfigError(`${where}: ${name} is ${show(value)}, not true or false`);
}

function isOff(value: unknown): boolean {
  if (value === undefined || value === null || value === false) return true;
  return Array.isArray(value) ? value.length === 0 : isObject(value) && Object.keys(value).length === 0;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** A value from the file in a message: never longer than a line. */
function show(value: unknown): string {
  const text = JSON.stringify(value) ?? "missing";
  return text.length > 80 ? `${text.slice(0, 79)}…` : text;
}
