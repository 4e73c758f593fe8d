// exllama devices: what models can be loaded on, and what is free there.

import type { Command } from "commander";
import { calibrateDevices, type DeviceReport, listDevices } from "../../engine/devices.js";
import { formatBytes } from "../../memory/size.js";
import { note, printJson, printTable } from "../output.js";

interface Flags {
  calibrate?: boolean;
  json?: boolean;
}

const EXAMPLES = `
Examples:
  exllama devices
  exllama devices --calibrate      measure what the driver takes on each GPU, and plan with that`;

export function addDevices(program: Command): void {
  program
    .command("devices")
    .description("what models can be loaded on")
    .option("--calibrate", "measure what the driver itself takes on each GPU; loads a small model there")
    .option("--json", "print one JSON line")
    .addHelpText("after", EXAMPLES)
    .action(async (flags: Flags) => {
      if (flags.calibrate) await calibrateDevices((id) => note(`measuring on ${id}`));
      const list = listDevices();
      if (flags.json) {
        printJson(list);
        return;
      }
      for (const device of list.devices) print(device);
      if (list.problem) note(`no GPU can be used: ${list.problem.message}${list.problem.hint ? ` (${list.problem.hint})` : ""}`);
    });
}

function print(device: DeviceReport): void {
  const rows: [string, string][] = [
    [device.id, device.uuid === null ? device.name : `${device.name}, ${device.uuid}`],
    [
      "  memory",
      `${formatBytes(device.total)}, ${formatBytes(device.free)} free, ${formatBytes(device.usedByOthers)} used by others`,
    ],
    ["  baseline", `${formatBytes(device.baseline)} (${SOURCE[device.baselineSource]})`],
  ];
  if (device.capability !== null) {
    const display = device.display ? ", drives a display" : "";
    rows.push(["  driver", `${device.driver}, compute capability ${device.capability}${display}`]);
    rows.push(["  peers", device.peers.length > 0 ? device.peers.join(", ") : "none"]);
  }
  if (device.unusable !== null) rows.push(["  unusable", device.unusable]);
  printTable(rows);
}

const SOURCE = {
  table: "from a table: exllama devices --calibrate measures it",
  calibrated: "measured before",
  measured: "measured now",
};
