// The cards that CUDA sees, in its order and under its visibility rules, with what NVML tells of
// each. No context is created: asking takes no device memory.

import { DEVICE_RESERVE, TABLE_BASELINE } from "../../../memory/devices.js";
import type { PlanDevice } from "../../../memory/plan.js";
import { formatBytes, MiB } from "../../../memory/size.js";
import type { CudaDriver } from "../driver/driver.js";
import { CudaError, CudaUnavailableError, LEAST_DRIVER } from "../driver/errors.js";
import { Calibrations } from "./calibration.js";
import { type Nvml, textOf } from "./nvml.js";

/** Kernels are built for compute capability 7.5 and later. */
const LEAST_CAPABILITY = [7, 5] as const;
/** CUDA version that the kernels are built with, as the driver counts: 13.0. */
const LEAST_CUDA = 13000;
/** Kept free beside automatic caps on the card that drives a display. */
const DISPLAY_RESERVE = 512 * MiB;

const ATTRIBUTE = { major: 75, minor: 76, computeMode: 20 } as const;
const COMPUTE_PROHIBITED = 2;

export interface Card {
  /** CUDA's number under the present CUDA_VISIBLE_DEVICES. */
  readonly ordinal: number;
  readonly uuid: string;
  readonly name: string;
  readonly capability: string;
  readonly total: number;
  readonly free: number;
  readonly display: boolean;
  /** Ordinals of the cards whose memory it can reach directly. */
  readonly peers: readonly number[];
  readonly driver: string;
  readonly baseline: number;
  readonly baselineSource: "table" | "calibrated";
  /** Why models cannot be loaded on it, or `null`. */
  readonly unusable: CudaUnavailableError | null;
}

export interface CardSources {
  readonly driver: CudaDriver;
  readonly nvml: Nvml;
  readonly calibrations?: Calibrations;
}

/**
 * All cards, usable or not.
 *
 * @throws {CudaUnavailableError} when the driver has none, or cannot run this program's kernels
 */
export function listCards({ driver, nvml, calibrations = new Calibrations() }: CardSources): Card[] {
  const version = nvml.driverVersion();
  startCuda(driver, version);
  const count = driver.i32("cuDeviceGetCount", []);
  if (count === 0) throw noDevice("the NVIDIA driver shows no device");
  const ordinals = Array.from({ length: count }, (_, ordinal) => ordinal);
  return ordinals.map((ordinal) => {
    const known = describeCard(driver, ordinal);
    const handle = nvml.find(known.uuid);
    const memory = handle === null ? { total: 0, free: 0 } : nvml.memory(handle);
    const measured = calibrations.find({ name: known.name, driver: version });
    const card = {
      ...known,
      ...memory,
      display: handle !== null && nvml.drivesDisplay(handle),
      peers: ordinals.filter((other) => other !== ordinal && driver.i32("cuDeviceCanAccessPeer", [ordinal, other]) === 1),
      driver: version,
      baseline: measured ?? TABLE_BASELINE,
      baselineSource: measured === null ? ("table" as const) : ("calibrated" as const),
    };
    const partitioned = handle === null || nvml.isPartitioned(handle) || known.name.includes(" MIG ");
    return { ...card, unusable: whyUnusable(driver, card, partitioned) };
  });
}

/** Cards as the planner sees them. */
export function planDevice(card: Card): PlanDevice {
  const { ordinal, uuid, total, free, display, baseline, baselineSource } = card;
  return {
    id: `cuda:${ordinal}`,
    card: uuid,
    total,
    usedByOthers: total - free,
    baseline,
    baselineSource,
    reserve: display ? DISPLAY_RESERVE : DEVICE_RESERVE,
  };
}

/** @throws {CudaUnavailableError} */
function startCuda(driver: CudaDriver, version: string): void {
  try {
    driver.call("cuInit", [0]);
  } catch (cause) {
    if (!(cause instanceof CudaError)) throw cause;
    if (TOO_OLD.has(cause.status)) throw tooOld(version, cause.message);
    throw noDevice(`the NVIDIA driver (${version}) cannot be started: ${cause.message}`);
  }
  const cuda = driver.i32("cuDriverGetVersion", []);
  if (cuda < LEAST_CUDA)
    throw tooOld(version, `it runs CUDA ${cudaName(cuda)}, the kernels are made with ${cudaName(LEAST_CUDA)}`);
}

/** "Driver and library do not match", "not supported on this device". */
const TOO_OLD = new Set([803, 804]);

function cudaName(version: number): string {
  return `${Math.floor(version / 1000)}.${Math.floor((version % 1000) / 10)}`;
}

function tooOld(version: string, why: string): CudaUnavailableError {
  return new CudaUnavailableError(
    "CUDA_DRIVER_TOO_OLD",
    `the NVIDIA driver ${version} is too old for this program: ${why}`,
    `install a driver of version ${LEAST_DRIVER.linux} or newer, or use --backend cpu`,
    { driver: version },
  );
}

function noDevice(message: string): CudaUnavailableError {
  const visible = process.env.CUDA_VISIBLE_DEVICES;
  return new CudaUnavailableError(
    "CUDA_NO_DEVICE",
    visible === undefined ? message : `${message}; CUDA_VISIBLE_DEVICES is "${visible}"`,
    "look whether nvidia-smi shows the device, or use --backend cpu",
  );
}

function describeCard(driver: CudaDriver, ordinal: number): Pick<Card, "ordinal" | "uuid" | "name" | "capability"> {
  const device = driver.i32("cuDeviceGet", [ordinal]);
  const name = new Uint8Array(256);
  driver.call("cuDeviceGetName", [name, name.length, device]);
  const uuid = new Uint8Array(16);
  driver.call("cuDeviceGetUuid_v2", [uuid, device]);
  const [major, minor] = [ATTRIBUTE.major, ATTRIBUTE.minor].map((which) => driver.i32("cuDeviceGetAttribute", [which, device]));
  return { ordinal, uuid: uuidText(uuid), name: textOf(name), capability: `${major}.${minor}` };
}

/** As nvidia-smi writes it. */
function uuidText(bytes: Uint8Array): string {
  const hex = Buffer.from(bytes).toString("hex");
  return `GPU-${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
}

function whyUnusable(driver: CudaDriver, card: Omit<Card, "unusable">, partitioned: boolean): CudaUnavailableError | null {
  const who = `cuda:${card.ordinal} (${card.name})`;
  const [major, minor] = card.capability.split(".").map(Number) as [number, number];
  if (major < LEAST_CAPABILITY[0] || (major === LEAST_CAPABILITY[0] && minor < LEAST_CAPABILITY[1]))
    return new CudaUnavailableError(
      "CUDA_DEVICE_TOO_OLD",
      `${who} has compute capability ${card.capability}, the kernels need ${LEAST_CAPABILITY.join(".")}`,
      "use a newer card, or --backend cpu",
    );
  if (partitioned)
    return new CudaUnavailableError(
      "CUDA_MIG",
      `${who} is cut into instances (MIG), whose memory cannot be told before a context takes some of it`,
      "switch MIG off for this card, or use --backend cpu",
    );
  const mode = driver.i32("cuDeviceGetAttribute", [ATTRIBUTE.computeMode, card.ordinal]);
  if (mode === COMPUTE_PROHIBITED || card.free <= card.baseline)
    return new CudaUnavailableError(
      "CUDA_DEVICES_BUSY",
      mode === COMPUTE_PROHIBITED
        ? `${who} is set to refuse compute work`
        : `${who} has ${formatBytes(card.free)} free, the driver alone takes ${formatBytes(card.baseline)}`,
      "end what uses it (see nvidia-smi), or use --backend cpu",
    );
  return null;
}
