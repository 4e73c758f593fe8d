// Speaks the engine's protocol without being one, in a process or a thread: does what the
// path of its `load` call says, so that tests can watch what its caller makes of it.

import { parentPort } from "node:worker_threads";

const send = (message) => (parentPort ? parentPort.postMessage(message) : process.send(message));

const DEEDS = {
  exit: () => {
    process.stderr.write("it was time\n");
    // What was written must be out before the end; in a thread it travels as messages.
    setTimeout(() => process.exit(3), 50);
  },
  throw: () =>
    setTimeout(() => {
      throw new Error("a bug in the engine");
    }),
  hang: () => {},
  shout: (id) => {
    for (let line = 0; line < 10_000; line++) {
      console.log(`out ${line}`);
      console.error(`error ${line}`);
    }
    send({ type: "done", id, value: { info: { source: "stand-in" }, plan: {} } });
  },
};

const receive = (message) => {
  if (message.type === "call") DEEDS[message.call.path](message.id);
};
if (parentPort) parentPort.on("message", receive);
else {
  process.on("message", receive);
  process.once("disconnect", () => process.exit(0));
}
