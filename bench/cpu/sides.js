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
    /** Until its memory is free again. */
    stop: () =>
      new Promise((resolve) => {
        if (child.exitCode !== null || child.signalCode !== null) return resolve();
        child.once("exit", () => resolve());
        if (child.connected) child.disconnect();
      }),
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

/**
 * Whoever is started first decodes some percent slower, whichever side it is (bench/NOTES.md). So half of the rounds are measured with the
 * sides started in the order of their names, and half of them in the other, by processes of their own.
 *
 * @param {number} rounds
 * @param {Record<string, () => Promise<object>>} starts by the names of the sides
 * @returns {Promise<{ sides: Record<string, object>, rates: Record<string, { decode: number[], prompt: number[] }> }>} for summarise()
 */
export async function measureInTurns(rounds, starts) {
  const names = Object.keys(starts);
  const rates = Object.fromEntries(names.map((name) => [name, { decode: [], prompt: [] }]));
  const sides = {};
  for (const [turn, [order, count]] of startOrders(names, rounds).entries()) {
    const running = {};
    try {
      for (const name of order) running[name] = await starts[name]();
      const measured = await measureAll(running, names, count, turn);
      for (const name of names) for (const kind of KINDS) rates[name][kind].push(...measured[name][kind]);
      Object.assign(sides, running);
    } finally {
      await Promise.all(Object.values(running).map((side) => side.stop()));
    }
  }
  return { sides: Object.fromEntries(names.map((name) => [name, sides[name]])), rates };
}

/** Orders in which sides are started, and how many rounds each is for. */
export function startOrders(names, rounds) {
  const orders = [
    [names, Math.ceil(rounds / 2)],
    [names.toReversed(), Math.floor(rounds / 2)],
  ];
  return orders.filter(([, count]) => count > 0);
}

/** Tokens per second of some rounds, by side and kind. Round 0 warms up. */
async function measureAll(sides, names, rounds, turn) {
  const rates = Object.fromEntries(names.map((name) => [name, { decode: [], prompt: [] }]));
  for (let round = 0; round <= rounds; round++) {
    for (const kind of KINDS)
      for (const name of orderOf(names, round)) {
        const rate = await sides[name].measure(kind);
        if (round > 0) rates[name][kind].push(rate);
      }
    console.error(
      `${turn === 0 ? "" : "started the other way round: "}round ${round} of ${rounds}${round === 0 ? " (warm-up)" : ""}`,
    );
  }
  return rates;
}
