// The processes that are compared, and the rounds they are asked for in turn.

import { fork } from "node:child_process";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const here = fileURLToPath(new URL(".", import.meta.url));

export const KINDS = ["decode", "prompt"];

/**
 * Starts one side and waits until its model is loaded.
 *
 * @param {string} script its file in this folder
 * @param {unknown[]} args
 * @param {string} node the path of the Node that runs it
 */
export async function startSide(script, args, node = process.execPath) {
  const child = fork(join(here, script), args.map(String), { execPath: node });
  const answer = () =>
    new Promise((resolve, reject) => {
      const ended = (code) => reject(new Error(`${script} under ${node} ended with ${code}`));
      child.once("exit", ended);
      child.once("message", (message) => {
        child.off("exit", ended);
        if (message.error) reject(new Error(message.error));
        else resolve(message);
      });
    });
  const { ready } = await answer();
  return {
    /** Engine, version, Node. */
    about: ready,
    stop: () => child.disconnect(),
    /** Tokens per second of one round. */
    measure: async (kind) => {
      const measured = answer();
      child.send(kind);
      return (await measured).tokensPerSecond;
    },
  };
}

/**
 * Each round begins with another side, and every other one goes the other way round, so that no side
 * always follows the same neighbour.
 *
 * @param {string[]} names
 * @param {number} round
 */
export function orderOf(names, round) {
  const step = round % 2 ? names.length - 1 : 1;
  return names.map((_, turn) => names[(round + turn * step) % names.length]);
}

/** Tokens per second of all rounds, by side and kind. Round 0 warms up. */
export async function measureAll(sides, rounds) {
  const names = Object.keys(sides);
  const rates = Object.fromEntries(names.map((name) => [name, { decode: [], prompt: [] }]));
  for (let round = 0; round <= rounds; round++) {
    for (const kind of KINDS)
      for (const name of orderOf(names, round)) {
        const rate = await sides[name].measure(kind);
        if (round > 0) rates[name][kind].push(rate);
      }
    console.error(`round ${round} of ${rounds}${round === 0 ? " (warm-up)" : ""}`);
  }
  return rates;
}
