// Which of the kernels' images the driver runs on a card, and so what its code was compiled for: launches
// are made for that, since a kernel's blocks and shared memory follow from what its code is. A card that
// came after the images runs the PTX of an old one, compiled anew by the driver, and none of the newer paths.
//
// The rules are those of the CUDA C++ Programming Guide, "Compute Capability": code of sm_86 runs on 8.6
// and later minors of 8, of sm_90a on 9.0 alone, of the family sm_100f on 10.0 and later minors of 10.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { packageRoot } from "../../../paths.js";

export interface Capability {
  readonly major: number;
  readonly minor: number;
}

/**
 * @param targets of a fatbin, as nvcc calls them: `sm_86`, `sm_90a`, `sm_100f`, `compute_75` for PTX
 * @returns the compute capability that the code was compiled for
 * @throws {RangeError} where none of them runs on such a card
 */
export function compiledFor(card: Capability, targets: readonly string[]): Capability {
  const images = targets.map(parseTarget).filter((image) => runsOn(card, image));
  // Code before PTX, then the newest.
  const [best] = images.sort((a, b) => Number(a.ptx) - Number(b.ptx) || b.major - a.major || b.minor - a.minor);
  if (!best) throw new RangeError(`no kernels were built for compute capability ${card.major}.${card.minor}`);
  return { major: best.major, minor: best.minor };
}

interface Image extends Capability {
  readonly ptx: boolean;
  /** No other minor runs it. */
  readonly exact: boolean;
}

function parseTarget(target: string): Image {
  const [, kind, major, minor, suffix] = /^(sm|compute)_(\d+)(\d)([af]?)$/.exec(target) ?? [];
  if (!kind) throw new RangeError(`${target} is no target of nvcc`);
  return { major: Number(major), minor: Number(minor), ptx: kind === "compute", exact: suffix === "a" };
}

function runsOn({ major, minor }: Capability, image: Image): boolean {
  if (image.ptx && major > image.major) return true;
  return major === image.major && (image.exact ? minor === image.minor : minor >= image.minor);
}

let built: readonly string[] | undefined;

/** Targets of the kernels that come with the package. */
export function builtTargets(): readonly string[] {
  built ??= (JSON.parse(readFileSync(join(packageRoot, "kernels", "built", "manifest.json"), "utf8")) as { targets: string[] })
    .targets;
  return built;
}
