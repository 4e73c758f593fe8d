// The CUDA driver functions that this program calls: one table of names and argument kinds,
// from which the typed bindings are made. The versioned names (`_v2`) are bound on purpose:
// the unsuffixed ones are legacy ABIs. Every function answers with a CUresult.
//
// Source: CUDA Driver API reference, CUDA 13.0.

/**
 * How an argument crosses:
 * - `i32`, `u32`, `u8`: numbers
 * - `u64`: device pointers and opaque handles, as bigint
 * - `size`: byte counts, as number
 * - `memory`: host memory, as a typed array (also for results: the driver writes into it), or as
 *   the bigint address of pinned memory
 * - `text`: a C string
 */
export type ArgumentKind = "i32" | "u32" | "u8" | "u64" | "size" | "memory" | "text";

export interface ArgumentValue {
  i32: number;
  u32: number;
  u8: number;
  u64: bigint;
  size: number;
  memory: NodeJS.ArrayBufferView | bigint | null;
  text: string;
}

export const CUDA_FUNCTIONS = {
  cuInit: ["u32"],
  cuDriverGetVersion: ["memory"],

  cuDeviceGetCount: ["memory"],
  cuDeviceGet: ["memory", "i32"],
  cuDeviceGetName: ["memory", "i32", "i32"],
  cuDeviceGetUuid_v2: ["memory", "i32"],
  cuDeviceGetPCIBusId: ["memory", "i32", "i32"],
  cuDeviceTotalMem_v2: ["memory", "i32"],
  cuDeviceGetAttribute: ["memory", "i32", "i32"],
  cuDeviceCanAccessPeer: ["memory", "i32", "i32"],

  cuDevicePrimaryCtxRetain: ["memory", "i32"],
  cuDevicePrimaryCtxRelease_v2: ["i32"],
  cuDevicePrimaryCtxSetFlags_v2: ["i32", "u32"],
  cuCtxSetCurrent: ["u64"],
  cuCtxSynchronize: [],
  cuCtxEnablePeerAccess: ["u64", "u32"],
  cuMemGetInfo_v2: ["memory", "memory"],

  cuMemAlloc_v2: ["memory", "size"],
  cuMemFree_v2: ["u64"],
  cuMemHostAlloc: ["memory", "size", "u32"],
  cuMemHostGetDevicePointer_v2: ["memory", "u64", "u32"],
  cuMemFreeHost: ["u64"],
  cuMemcpyHtoDAsync_v2: ["u64", "memory", "size", "u64"],
  cuMemcpyDtoHAsync_v2: ["memory", "u64", "size", "u64"],
  cuMemcpyDtoDAsync_v2: ["u64", "u64", "size", "u64"],
  cuMemcpyPeerAsync: ["u64", "u64", "u64", "u64", "size", "u64"],
  cuMemsetD8Async: ["u64", "u8", "size", "u64"],

  cuModuleLoadData: ["memory", "memory"],
  cuModuleUnload: ["u64"],
  cuModuleGetFunction: ["memory", "u64", "text"],
  cuFuncGetAttribute: ["memory", "i32", "u64"],
  cuFuncSetAttribute: ["u64", "i32", "i32"],
  cuFuncLoad: ["u64"],
  cuLaunchKernelEx: ["memory", "u64", "memory", "memory"],
  cuOccupancyMaxActiveClusters: ["memory", "u64", "memory"],
  cuTensorMapEncodeTiled: ["memory", "i32", "u32", "u64", "memory", "memory", "memory", "memory", "i32", "i32", "i32", "i32"],

  cuStreamCreate: ["memory", "u32"],
  cuStreamDestroy_v2: ["u64"],
  cuStreamSynchronize: ["u64"],
  cuStreamWaitEvent: ["u64", "u64", "u32"],
  cuStreamBeginCapture_v2: ["u64", "i32"],
  cuStreamEndCapture: ["u64", "memory"],
  cuGraphInstantiateWithFlags: ["memory", "u64", "u64"],
  cuGraphUpload: ["u64", "u64"],
  cuGraphLaunch: ["u64", "u64"],
  cuGraphExecDestroy: ["u64"],
  cuGraphDestroy: ["u64"],

  cuEventCreate: ["memory", "u32"],
  cuEventRecord: ["u64", "u64"],
  cuEventQuery: ["u64"],
  cuEventSynchronize: ["u64"],
  cuEventElapsedTime_v2: ["memory", "u64", "u64"],
  cuEventDestroy_v2: ["u64"],
} as const satisfies Record<string, readonly ArgumentKind[]>;

/** NVIDIA Management Library: sizes and occupants of devices without creating a context on them. */
export const NVML_FUNCTIONS = {
  nvmlInit_v2: [],
  nvmlShutdown: [],
  nvmlSystemGetDriverVersion: ["memory", "u32"],
  nvmlDeviceGetCount_v2: ["memory"],
  nvmlDeviceGetHandleByUUID: ["text", "memory"],
  nvmlDeviceGetMemoryInfo: ["u64", "memory"],
  nvmlDeviceGetDisplayActive: ["u64", "memory"],
  nvmlDeviceGetMigMode: ["u64", "memory", "memory"],
  nvmlDeviceGetTotalEnergyConsumption: ["u64", "memory"],
} as const satisfies Record<string, readonly ArgumentKind[]>;

type Arguments<Kinds extends readonly ArgumentKind[]> = { -readonly [Index in keyof Kinds]: ArgumentValue[Kinds[Index]] };
export type FunctionTable<Table extends Record<string, readonly ArgumentKind[]>> = {
  [Name in keyof Table]: (...values: Arguments<Table[Name]>) => number;
};

/** The driver as plain functions; the real one is bound by `load.ts`, tests bring their own. */
export type CudaFunctions = FunctionTable<typeof CUDA_FUNCTIONS>;
export type NvmlFunctions = FunctionTable<typeof NVML_FUNCTIONS>;
