// Options of answers that are more than one token after the other: guidance, beams.

import { type Command, Option } from "commander";
import { UsageError } from "../errors.js";
import type { GenerateOptions, LoadOptions } from "../index.js";
import { PAGE_TOKENS } from "../memory/plan.js";
import { count, decimal } from "./flag-values.js";

/** As commander hands them over. */
export interface StrategyFlags {
  negativePrompt?: string;
  guidance?: number;
  beams?: number;
  beamLength?: number;
}

const BEAM_LENGTH = 8;

export function addStrategyOptions(command: Command): Command {
  for (const option of [
    new Option(
      "--negative-prompt <text>",
      "what the answer is led away from; with --chat the system message that it is not to follow",
    ),
    new Option("--guidance <scale>", "how far: 1 = not at all; goes with --negative-prompt").argParser(decimal),
    new Option("--beams <n>", "beam search with so many beams; nothing is drawn").argParser(count),
    new Option("--beam-length <n>", `tokens that beams grow ahead of the answer (default: ${BEAM_LENGTH})`).argParser(count),
  ])
    command.addOption(option.helpGroup("Guidance and beams:"));
  return command;
}

/** @throws {UsageError} for one without the other */
export function strategyOptionsOf(flags: StrategyFlags): Pick<GenerateOptions, "guidance" | "beams"> {
  const { negativePrompt: negative, guidance: scale, beams, beamLength } = flags;
  if ((negative === undefined) !== (scale === undefined))
    throw new UsageError(`${negative === undefined ? "--guidance" : "--negative-prompt"} stands alone`, {
      expected: '--negative-prompt "…" --guidance 1.5',
    });
  if (beamLength !== undefined && beams === undefined) throw new UsageError("--beam-length goes with --beams only");
  return {
    ...(negative !== undefined && scale !== undefined ? { guidance: { scale, negative } } : {}),
    ...(beams === undefined ? {} : { beams: { count: beams, length: beamLength ?? BEAM_LENGTH } }),
  };
}

/** Places and, where the context is known, a KV pool for what is asked, where nobody says how many. */
export function placesFor(flags: StrategyFlags, ctx: LoadOptions["ctx"]): LoadOptions {
  const { guidance, beams } = strategyOptionsOf(flags);
  const places = beams?.count ?? (guidance ? 2 : 1);
  if (places === 1) return {};
  const own = beams ? (Math.ceil(beams.length / PAGE_TOKENS) + 1) * PAGE_TOKENS : Number.POSITIVE_INFINITY;
  const pool = typeof ctx === "number" ? { cacheTokens: ctx + (places - 1) * Math.min(ctx, own) } : {};
  return { maxSequences: places, ...pool };
}
