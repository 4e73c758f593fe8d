// Which model a request means. One model is loaded; it answers to each of its names, and to
// `name:adapter` for each LoRA adapter that was loaded with it.

import { z } from "zod";
import type { GenerateOptions } from "../engine/model.js";
import { InvalidRequestError, UnknownModelError } from "./errors.js";
import type { ModelSource } from "./model-source.js";

type AdapterChoices = NonNullable<GenerateOptions["adapters"]>;

export const modelShape = {
  model: z.string().nullish(),
  adapters: z.array(z.strictObject({ name: z.string(), weight: z.number().optional() })).nullish(),
};

export interface ServedModel {
  /** As the answer says it: what the client wrote, or the model's first name. */
  readonly name: string;
  /** Adapters to answer with; `undefined`: none. */
  readonly adapters: AdapterChoices | undefined;
}

/** Every name that requests may use, the model's own first. */
export function servedNames(models: ModelSource): string[] {
  const { adapters } = models.current().info;
  return models.names.flatMap((name) => [name, ...adapters.map((adapter) => `${name}:${adapter.name}`)]);
}

/** @throws {UnknownModelError | InvalidRequestError} */
export function servedModel(models: ModelSource, request: z.output<z.ZodObject<typeof modelShape>>): ServedModel {
  const { model: asked, adapters } = request;
  const given = adapters?.length ? adapters : undefined;
  if (asked === undefined || asked === null || models.names.includes(asked))
    return { name: asked ?? models.names[0], adapters: given };
  const names = servedNames(models);
  if (!names.includes(asked)) throw new UnknownModelError(asked, names);
  if (given)
    throw new InvalidRequestError(`the model ${JSON.stringify(asked)} and 'adapters' both name adapters`, {
      param: "adapters",
      hint: `Ask for ${JSON.stringify(models.names[0])} and name all of them in 'adapters'.`,
    });
  const own = models.names.find((name) => asked.startsWith(`${name}:`)) ?? "";
  return { name: asked, adapters: [{ name: asked.slice(own.length + 1) }] };
}
