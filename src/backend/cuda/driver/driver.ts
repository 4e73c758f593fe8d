// The driver with results as values and failures as errors: one `check(status)` behind every
// call, and out-parameters read from small typed arrays. It keeps no state but the two tables,
// so a test can stand a fake driver, or one that fails at the n-th call, in its place.

import { CudaError, NOT_READY } from "./errors.js";
import type { CudaFunctions } from "./functions.js";

/** Where a call is made, for the error's message. */
export interface CallSite {
  readonly device?: string;
  readonly bytes?: number;
  readonly free?: number;
}

export class CudaDriver {
  readonly functions: CudaFunctions;

  constructor(functions: CudaFunctions) {
    this.functions = functions;
  }

  /** Calls a function and throws unless it succeeds. */
  call<Name extends keyof CudaFunctions>(name: Name, values: Parameters<CudaFunctions[Name]>, site: CallSite = {}): void {
    const status = this.invoke(name, values);
    if (status !== 0) throw this.error(name, status, site);
  }

  /** For functions whose first parameter receives a handle, pointer or 64-bit size. */
  u64<Name extends keyof CudaFunctions>(name: Name, rest: TailOf<Parameters<CudaFunctions[Name]>>, site: CallSite = {}): bigint {
    const out = new BigUint64Array(1);
    this.call(name, [out, ...rest] as unknown as Parameters<CudaFunctions[Name]>, site);
    return out[0] as bigint;
  }

  /** For functions whose first parameter receives an int. */
  i32<Name extends keyof CudaFunctions>(name: Name, rest: TailOf<Parameters<CudaFunctions[Name]>>, site: CallSite = {}): number {
    const out = new Int32Array(1);
    this.call(name, [out, ...rest] as unknown as Parameters<CudaFunctions[Name]>, site);
    return out[0] as number;
  }

  /** Free and total bytes of the current context's device. */
  memoryInfo(site: CallSite = {}): { free: number; total: number } {
    const out = new BigUint64Array(2);
    this.call("cuMemGetInfo_v2", [out.subarray(0, 1), out.subarray(1, 2)], site);
    return { free: Number(out[0]), total: Number(out[1]) };
  }

  /** Whether everything recorded before the event has completed. */
  eventDone(event: bigint, site: CallSite = {}): boolean {
    const status = this.functions.cuEventQuery(event);
    if (status === NOT_READY) return false;
    if (status !== 0) throw this.error("cuEventQuery", status, site);
    return true;
  }

  error(name: string, status: number, site: CallSite): CudaError {
    return new CudaError({ function: name, status, name: this.#errorName(status), device: site.device ?? null, ...pick(site) });
  }

  invoke<Name extends keyof CudaFunctions>(name: Name, values: Parameters<CudaFunctions[Name]>): number {
    return (this.functions[name] as (...args: Parameters<CudaFunctions[Name]>) => number)(...values);
  }

  /** `CUDA_ERROR_…` as the driver spells it. The name is a static C string whose address the driver returns. */
  #errorName(status: number): string {
    const known = ERROR_NAMES[status];
    return known ?? `CUDA_ERROR_${status}`;
  }
}

type TailOf<Values extends readonly unknown[]> = Values extends readonly [unknown, ...infer Rest] ? Rest : never;

function pick(site: CallSite): { bytes?: number; free?: number } {
  return { ...(site.bytes === undefined ? {} : { bytes: site.bytes }), ...(site.free === undefined ? {} : { free: site.free }) };
}

/** The driver's names for its codes (cuda.h, enum cudaError_enum), so that a message needs no working driver. */
const ERROR_NAMES: Readonly<Record<number, string>> = {
  1: "CUDA_ERROR_INVALID_VALUE",
  2: "CUDA_ERROR_OUT_OF_MEMORY",
  3: "CUDA_ERROR_NOT_INITIALIZED",
  4: "CUDA_ERROR_DEINITIALIZED",
  34: "CUDA_ERROR_STUB_LIBRARY",
  46: "CUDA_ERROR_DEVICE_UNAVAILABLE",
  100: "CUDA_ERROR_NO_DEVICE",
  101: "CUDA_ERROR_INVALID_DEVICE",
  200: "CUDA_ERROR_INVALID_IMAGE",
  201: "CUDA_ERROR_INVALID_CONTEXT",
  205: "CUDA_ERROR_MAP_FAILED",
  208: "CUDA_ERROR_ALREADY_MAPPED",
  209: "CUDA_ERROR_NO_BINARY_FOR_GPU",
  214: "CUDA_ERROR_ECC_UNCORRECTABLE",
  216: "CUDA_ERROR_CONTEXT_ALREADY_IN_USE",
  217: "CUDA_ERROR_PEER_ACCESS_UNSUPPORTED",
  218: "CUDA_ERROR_INVALID_PTX",
  222: "CUDA_ERROR_UNSUPPORTED_PTX_VERSION",
  300: "CUDA_ERROR_INVALID_SOURCE",
  304: "CUDA_ERROR_OPERATING_SYSTEM",
  400: "CUDA_ERROR_INVALID_HANDLE",
  401: "CUDA_ERROR_ILLEGAL_STATE",
  500: "CUDA_ERROR_NOT_FOUND",
  600: "CUDA_ERROR_NOT_READY",
  700: "CUDA_ERROR_ILLEGAL_ADDRESS",
  701: "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES",
  702: "CUDA_ERROR_LAUNCH_TIMEOUT",
  704: "CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED",
  709: "CUDA_ERROR_CONTEXT_IS_DESTROYED",
  710: "CUDA_ERROR_ASSERT",
  712: "CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED",
  714: "CUDA_ERROR_HARDWARE_STACK_ERROR",
  715: "CUDA_ERROR_ILLEGAL_INSTRUCTION",
  716: "CUDA_ERROR_MISALIGNED_ADDRESS",
  717: "CUDA_ERROR_INVALID_ADDRESS_SPACE",
  718: "CUDA_ERROR_INVALID_PC",
  719: "CUDA_ERROR_LAUNCH_FAILED",
  800: "CUDA_ERROR_NOT_PERMITTED",
  801: "CUDA_ERROR_NOT_SUPPORTED",
  802: "CUDA_ERROR_SYSTEM_NOT_READY",
  803: "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH",
  804: "CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE",
  999: "CUDA_ERROR_UNKNOWN",
};
