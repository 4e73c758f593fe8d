// A program that loads, generates and counts how long its own event loop is ever held.
// Prints JSON: the longest hold of each phase, ms, and that of two deliberate ones.

import { readFileSync } from "node:fs";
import { loadModel, plan } from "../../../dist/index.js";
import { watchEventLoop } from "../../support/event-loop-probe.mjs";

const [engine] = process.argv.slice(2);
const longText = "Once there was a brave little fox. ".repeat(20_000);

const held = {};
held.idle = await during(() => new Promise((resolve) => setTimeout(resolve, 200)));
held.busyLoop = await during(() => later(() => busy(30)));
held.sleep = await during(() => later(() => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 30)));
held.plan = await during(() => plan());
let model;
held.load = await during(async () => {
  model = await loadModel(undefined, { engine, threads: 1 });
});
held.generate = await during(async () => {
  for await (const _ of model.generate("Once upon a time", { maxTokens: 200, ignoreEos: true }));
});
held.tokenize = await during(() => model.tokenize(longText));
held.logits = await during(async () =>
  model.logits((await model.tokenize(longText.slice(0, 1000))).slice(0, 200), { last: 100 }),
);
held.dispose = await during(() => model.dispose());
console.log(JSON.stringify(held));

async function during(work) {
  // The loop must have turned once: before, its activity is not counted.
  await new Promise((resolve) => setTimeout(resolve, 5));
  const watch = watchEventLoop();
  await work();
  await new Promise((resolve) => setTimeout(resolve, 5));
  return watch.stop();
}

function later(work) {
  return new Promise((resolve) =>
    setTimeout(() => {
      work();
      resolve();
    }, 10),
  );
}

/** Uses the processor for so long, however much of it this thread is given meanwhile. */
function busy(ms) {
  const end = usedByThread() + ms;
  while (usedByThread() < end);
}

/** Processor time of this thread, ms; where Linux does not tell, of the process: the threads of V8 are counted too. */
function usedByThread() {
  try {
    return Number(readFileSync("/proc/thread-self/schedstat", "utf8").split(" ")[0]) / 1e6;
  } catch {
    const { user, system } = process.cpuUsage();
    return (user + system) / 1000;
  }
}
