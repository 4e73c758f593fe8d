// Which cards a list such as `cuda:0,cuda:0,GPU-5e8d…` means: by number, by UUID, or all of them
// (`cuda`). A card may be named several times: each is an entry of its own in the plan.

import { UsageError } from "../../../errors.js";
import { CudaUnavailableError } from "../driver/errors.js";
import type { Card } from "./cards.js";

/**
 * @param list as on the command line; `undefined`: every card that can be used
 * @throws {UsageError} for a name that is no card's
 * @throws {CudaUnavailableError} for a named card that cannot be used, or when none can
 */
export function selectCards(cards: readonly Card[], list: string | undefined): Card[] {
  const usable = cards.filter(({ unusable }) => unusable === null);
  const named = list === undefined ? null : list.split(",").flatMap((name) => cardsNamed(cards, usable, name.trim()));
  const unusable = named?.find((card) => card.unusable !== null)?.unusable;
  if (unusable) throw unusable;
  const selected = named ?? usable;
  if (selected.length > 0) return selected;
  throw cards[0]?.unusable ?? new CudaUnavailableError("CUDA_NO_DEVICE", "there is no GPU", "use --backend cpu");
}

function cardsNamed(cards: readonly Card[], usable: readonly Card[], name: string): readonly Card[] {
  if (name === "cuda") return usable;
  if (name === "cpu")
    throw new UsageError("the CPU and GPUs cannot share a model", {
      hint: "name GPUs only, or cpu alone",
      expected: "cuda:0,cuda:1",
    });
  const found = cards.find(({ ordinal, uuid }) => name === `cuda:${ordinal}` || (name.length > 4 && uuid.startsWith(name)));
  if (found) return [found];
  throw new UsageError(`there is no device ${name}`, {
    expected: cards.map(({ ordinal, uuid }) => `cuda:${ordinal} (${uuid})`).join(", "),
  });
}
