// How configs say which layers see only a sliding window.

import { type ConfigValues, describe } from "../config-values.js";
import { ModelConfigError, UnsupportedModelError } from "../errors.js";

const WINDOW = { min: 1, max: 2 ** 31 - 1 };

/** No layer has a window; a config that asks for one by `layer_types` is refused. */
export function noWindows(config: ConfigValues, layerCount: number): (number | null)[] {
  const types = layerTypes(config, layerCount);
  if (types?.includes("sliding_attention"))
    throw new UnsupportedModelError(
      `${config.where}: layer_types asks for sliding_attention, which ${config.raw("model_type")} models do not have`,
    );
  return new Array<null>(layerCount).fill(null);
}

/** Every layer has the window `sliding_window`, which may be null; `fallback` where the key is missing. */
export function sameWindow(fallback: number | null) {
  return (config: ConfigValues, layerCount: number): (number | null)[] => {
    const types = layerTypes(config, layerCount);
    // `has` cannot tell an explicit null, which means "no window", from a missing key, which means the default.
    const window = config.isNull("sliding_window") ? null : config.integer("sliding_window", WINDOW, fallback);
    const expected = window === null ? "full_attention" : "sliding_attention";
    if (types?.some((type) => type !== expected))
      throw new UnsupportedModelError(
        `${config.where}: layer_types mixes kinds of attention, sliding_window is one for all layers`,
      );
    return new Array<number | null>(layerCount).fill(window);
  };
}

/**
 * Qwen2 and Qwen3: windows only if `use_sliding_window`; then in the layers that `layer_types`
 * calls sliding or, without it, from layer `max_window_layers` on.
 */
export function upperWindows(config: ConfigValues, layerCount: number): (number | null)[] {
  const types = layerTypes(config, layerCount);
  const used = config.boolean("use_sliding_window", false) && !config.isNull("sliding_window");
  if (!used) {
    if (types?.includes("sliding_attention"))
      throw new ModelConfigError(`${config.where}: layer_types asks for sliding_attention, but use_sliding_window is not true`);
    return new Array<null>(layerCount).fill(null);
  }
  const window = config.integer("sliding_window", WINDOW, 4096);
  const from = config.integer("max_window_layers", { min: 0, max: 1e6 }, 28);
  return Array.from({ length: layerCount }, (_, index) =>
    (types ? types[index] === "sliding_attention" : index >= from) ? window : null,
  );
}

function layerTypes(config: ConfigValues, layerCount: number): ("full_attention" | "sliding_attention")[] | null {
  const types = config.raw("layer_types");
  if (types === undefined) return null;
  if (!Array.isArray(types) || types.length !== layerCount)
    throw new ModelConfigError(`${config.where}: layer_types is ${describe(types)}; a list of ${layerCount} names is needed`);
  for (const type of types)
    if (type !== "full_attention" && type !== "sliding_attention")
      throw new UnsupportedModelError(`${config.where}: layer_types has ${describe(type)}, which this program does not know`);
  return types;
}
