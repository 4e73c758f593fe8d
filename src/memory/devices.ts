// Devices that exist only on the command line: `--devices 24GiB,24GiB` plans for machines
// that are not here. `cuda:3=24GiB:2GiB` gives one a name and says what others use of it.

import { UsageError } from "../errors.js";
import type { PlanDevice } from "./plan.js";
import { formatBytes, MiB, parseSize } from "./size.js";

/**
 * What a CUDA context with this program's modules takes before anything is allocated, for a
 * card that was never calibrated: 527 MiB were measured on an H100, 529 MiB on an H200.
 */
export const TABLE_BASELINE = 530 * MiB;

/** Kept free beside automatic caps on a device that drives no display. */
export const DEVICE_RESERVE = 256 * MiB;

const EXPECTED = "[id=]SIZE[:USED] such as 24GiB, cuda:1=24GiB or cuda:1=24GiB:2GiB";

/** True where the list describes devices by size, false where it names real ones (`cpu`, `cuda:0`, `GPU-…`). */
export function describesDevices(list: string): boolean {
  return list.split(",").some((entry) => !/^(cpu|cuda(:\d+)?|GPU-[\w-]+)$/.test(entry.trim()));
}

/**
 * Reads `[id=]SIZE[:USED],…`. Entries without an id are called `cuda:N` by their place in the
 * list; the same id twice is one card listed twice, and must say the same twice.
 *
 * @throws {UsageError} naming the entry that cannot be read
 */
export function parseDevices(list: string): PlanDevice[] {
  const entries = list.split(",").map(parseEntry);
  const taken = new Set(entries.map((entry) => entry.id));
  const devices = entries.map((entry, index) => describe(entry.id ?? freeName(index, taken), entry.total, entry.used));
  for (const device of devices) {
    const first = devices.find((other) => other.card === device.card)!;
    if (first.total !== device.total || first.usedByOthers !== device.usedByOthers)
      throw new UsageError(
        `"${device.id}" is described twice: ${formatBytes(first.total)} with ${formatBytes(first.usedByOthers)} used, then ` +
          `${formatBytes(device.total)} with ${formatBytes(device.usedByOthers)} used`,
        { hint: "the same id is the same card: give two cards two ids" },
      );
  }
  return devices;
}

function parseEntry(text: string): { id: string | null; total: number; used: number } {
  const equals = text.indexOf("=");
  const id = equals < 0 ? null : text.slice(0, equals).trim();
  const [size, used, ...rest] = text.slice(equals + 1).split(":");
  if (id === "" || rest.length > 0) throw new UsageError(`device "${text}" cannot be read`, { expected: EXPECTED });
  const total = readPart(text, size!);
  const usedBytes = used === undefined ? 0 : readPart(text, used);
  if (total === 0) throw new UsageError(`device "${text}" has no memory`, { expected: EXPECTED });
  if (usedBytes > total)
    throw new UsageError(`device "${text}": ${formatBytes(usedBytes)} used of ${formatBytes(total)}`, { expected: EXPECTED });
  return { id, total, used: usedBytes };
}

function readPart(entry: string, part: string): number {
  try {
    return parseSize(part);
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    throw new UsageError(`device "${entry}": "${part}" is not a size`, {
      expected: EXPECTED,
      ...(error.hint ? { hint: error.hint } : {}),
    });
  }
}

/** `cuda:N` for the N-th entry; a named entry that already has this name moves it to the next free one. */
function freeName(index: number, taken: Set<string | null>): string {
  let number = index;
  while (taken.has(`cuda:${number}`)) number++;
  taken.add(`cuda:${number}`);
  return `cuda:${number}`;
}

function describe(id: string, total: number, used: number): PlanDevice {
  return {
    id,
    card: id,
    total,
    usedByOthers: used,
    baseline: TABLE_BASELINE,
    baselineSource: "table",
    reserve: DEVICE_RESERVE,
  };
}
