// Which of the loaded adapters a request uses: their names and weights, checked, as the backends
// number them.

import type { AdapterSpec, AdapterUse } from "../model/adapter.js";
import { nearestName } from "../sampling/nearest-name.js";
import { GenerationOptionError } from "./errors.js";

/** An adapter that a request asks for. */
export interface AdapterChoice {
  /** As it was named when the model was loaded. */
  readonly name: string;
  /** How much of it is added; default 1, 0: nothing, below 0: taken away. */
  readonly weight?: number;
}

/** More would only be noise in f16. */
const MOST_WEIGHT = 100;

export const ADAPTER_CHOICES = `a list such as [{ name: "pirate", weight: 0.7 }], weights from -${MOST_WEIGHT} to ${MOST_WEIGHT}`;

export function areAdapterChoices(value: unknown): value is readonly AdapterChoice[] {
  return (
    Array.isArray(value) &&
    value.every((choice: unknown) => {
      if (typeof choice !== "object" || choice === null) return false;
      const { name, weight = 1, ...rest } = choice as Partial<AdapterChoice>;
      return (
        typeof name === "string" &&
        typeof weight === "number" &&
        Math.abs(weight) <= MOST_WEIGHT &&
        Object.keys(rest).length === 0
      );
    })
  );
}

/**
 * Adapters that take part, in the order of their indices; those of weight 0 do not.
 *
 * @throws {GenerationOptionError} for a name that is none of the loaded, or that stands twice
 */
export function resolveAdapters(choices: readonly AdapterChoice[], loaded: readonly AdapterSpec[] = []): AdapterUse[] {
  if (!areAdapterChoices(choices))
    throw new GenerationOptionError("the adapters cannot be read", {
      expected: ADAPTER_CHOICES,
      details: { option: "adapters" },
    });
  const names = loaded.map(({ name }) => name);
  const uses = choices.map(({ name, weight = 1 }) => {
    const index = names.indexOf(name);
    if (index < 0) throw unknownAdapter(name, names);
    return { index, weight };
  });
  const twice = choices.find(({ name }, i) => choices.findIndex((other) => other.name === name) !== i);
  if (twice)
    throw new GenerationOptionError(`adapter "${twice.name}" is asked for twice`, {
      hint: "Name each adapter once, with the sum of its weights.",
      details: { option: "adapters" },
    });
  return uses.filter(({ weight }) => weight !== 0).sort((a, b) => a.index - b.index);
}

/** What KV depends on beside its ids: equal for equal adapters, empty where there are none. */
export function adapterCondition(uses: readonly AdapterUse[]): string {
  return uses.map(({ index, weight }) => `${index}*${weight}`).join("+");
}

function unknownAdapter(name: string, names: readonly string[]): GenerationOptionError {
  const nearest = nearestName(name, names);
  const hint =
    names.length === 0
      ? "No adapter is loaded: name it when loading, as in adapters: { name: folder } or --adapter name=folder."
      : nearest
        ? `Did you mean ${nearest}?`
        : `Loaded are ${names.join(", ")}.`;
  return new GenerationOptionError(`there is no adapter "${name}"`, { hint, details: { option: "adapters", nearest } });
}
