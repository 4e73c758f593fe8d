// The paths of other cards, run on a Hopper: scripts/build-other-images.js makes their code for it, and launches
// are chosen as for such a card, with its compute capability and its shared memory.

import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { KernelImage } from "../../src/backend/cuda/cards/device-context.js";
import { packageRoot } from "../../src/paths.js";

/** The cards whose paths they are. */
const CARDS: Readonly<Record<string, KernelImage["card"]>> = {
  sm_75: { major: 7, minor: 5, sharedPerBlock: 64 * 1024 },
  sm_80: { major: 8, minor: 0, sharedPerBlock: 163 * 1024 },
  sm_86: { major: 8, minor: 6, sharedPerBlock: 99 * 1024 },
  sm_89: { major: 8, minor: 9, sharedPerBlock: 99 * 1024 },
  sm_100: { major: 10, minor: 0, sharedPerBlock: 227 * 1024 },
  sm_120: { major: 12, minor: 0, sharedPerBlock: 99 * 1024 },
  // A card that is newer than all images: the oldest one's code, in what shared memory there is.
  ptx: { major: 7, minor: 5, sharedPerBlock: 227 * 1024 },
};

/** @throws when there is no such image, or one of other sources than the kernels of this package */
export function otherImage(name: string): KernelImage {
  const card = CARDS[name];
  if (!card) throw new Error(`there is no image ${name}: ${Object.keys(CARDS).join(", ")}`);
  const folder = join(packageRoot, "dist", "gpu", "kernels", name);
  const manifest = join(folder, "manifest.json");
  if (!existsSync(manifest)) throw new Error(`${folder} is not there: node scripts/build-other-images.js makes it`);
  const sourcesOf = (file: string): unknown => (JSON.parse(readFileSync(file, "utf8")) as { sources: unknown }).sources;
  if (sourcesOf(manifest) !== sourcesOf(join(packageRoot, "kernels", "built", "manifest.json")))
    throw new Error(`${folder} was made from other sources: node scripts/build-other-images.js makes it anew`);
  return { folder, card };
}
