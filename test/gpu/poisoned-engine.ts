// An engine one of whose kernels reads where nobody may, in the first answer that is asked of it: what a real error
// of that kind does to a process, the driver decides. Started by lost-engine.ts.

import { Launcher } from "../../src/backend/cuda/launch/launch.js";
import { serveParent } from "../../src/engine/serve-parent.js";

let armed = false;
process.on("message", (message: { type?: string; call?: { op?: string } }) => {
  armed ||= message.type === "call" && message.call?.op === "generate";
});

const launch = Launcher.prototype.launch;
Launcher.prototype.launch = function (stream, call) {
  // The second pointer of EmbedParams: the ids.
  if (armed && call.name === "embed") new DataView(call.parameters.buffer, call.parameters.byteOffset).setBigUint64(8, 16n, true);
  launch.call(this, stream, call);
};

serveParent();
