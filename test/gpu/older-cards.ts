// The paths of cards before Hopper, run on one: scripts/build-older-kernels.js makes their code for it, and
// launches are chosen as for such a card, with its compute capability and its shared memory.

import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { KernelImage } from "../../src/backend/cuda/cards/device-context.js";
import { packageRoot } from "../../src/paths.js";

/** By the card whose path it is: what its code is compiled for, and what the card is. */
const OLDER: Readonly<Record<string, { readonly target: string; readonly card: KernelImage["card"] }>> = {
  sm_75: { target: "compute_75", card: { major: 7, minor: 5, sharedPerBlock: 64 * 1024 } },
  sm_80: { target: "compute_80", card: { major: 8, minor: 0, sharedPerBlock: 163 * 1024 } },
  sm_86: { target: "compute_80", card: { major: 8, minor: 6, sharedPerBlock: 99 * 1024 } },
};

/** @throws when there is no such image, or one of other sources than the kernels of this package */
export function olderImage(name: string): KernelImage {
  const older = OLDER[name];
  if (!older) throw new Error(`there is no image ${name}: ${Object.keys(OLDER).join(", ")}`);
  const folder = join(packageRoot, "dist", "gpu", "kernels", older.target);
  const manifest = join(folder, "manifest.json");
  if (!existsSync(manifest)) throw new Error(`${folder} is not there: node scripts/build-older-kernels.js makes it`);
  const sourcesOf = (file: string): unknown => (JSON.parse(readFileSync(file, "utf8")) as { sources: unknown }).sources;
  if (sourcesOf(manifest) !== sourcesOf(join(packageRoot, "kernels", "built", "manifest.json")))
    throw new Error(`${folder} was made from other sources: node scripts/build-older-kernels.js makes it anew`);
  return { folder, card: older.card };
}
