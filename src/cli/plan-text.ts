// A loaded model's memory plan in a few lines.

import type { Plan } from "../index.js";
import { formatBytes } from "../memory/size.js";
import { grouped } from "./output.js";

export function planText(plan: Plan): string {
  const lines = plan.devices.map((device) =>
    device.excluded === null
      ? `${device.id}: ${formatBytes(device.weights)} weights + ${formatBytes(device.kvCache)} KV cache + ${formatBytes(device.scratch)} scratch + ${formatBytes(device.baseline)} baseline = ${formatBytes(device.total)} of ${formatBytes(device.cap)}`
      : `${device.id}: not used, ${device.excluded}`,
  );
  return [...lines, `context ${grouped(plan.context)}, limited by ${plan.binding}`].join("\n");
}
