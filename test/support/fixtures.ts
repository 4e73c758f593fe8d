// Where test checkpoints lie: in the tree (test/fixtures, demo), or, for the larger ones, in a
// fixtures folder beside the checkout. `EXLLAMA_FIXTURES` names another one.

import { existsSync } from "node:fs";
import { join } from "node:path";
import { packageRoot } from "../../src/paths.js";

const PLACES = [
  process.env.EXLLAMA_FIXTURES ?? "",
  join(packageRoot, "test/fixtures"),
  join(packageRoot, "../shared/fixtures"),
].filter(Boolean);

/** Path of a fixture (`tiny/llama-mha`, `demo-fp16`, `reference.json`), or `null` where it is not on this machine. */
export function findFixture(name: string): string | null {
  if (name === "demo-gptq-4bit-g128") return join(packageRoot, "demo");
  for (const place of PLACES) if (existsSync(join(place, name))) return join(place, name);
  return null;
}

/** A fixture that is in the tree. */
export function fixture(name: string): string {
  const path = findFixture(name);
  if (!path) throw new Error(`fixture ${name} is missing`);
  return path;
}
