// Binds the driver's libraries, which come with every NVIDIA driver: nothing else is needed on
// the user's machine. Calls are synchronous (an asynchronous koffi call costs 26 µs and runs on
// a thread without a current context), so they belong in the engine, never in a caller's thread.

import { createRequire } from "node:module";
import { DriverBindingError, DriverMissingError } from "./errors.js";
import {
  type ArgumentKind,
  CUDA_FUNCTIONS,
  type CudaFunctions,
  type FunctionTable,
  NVML_FUNCTIONS,
  type NvmlFunctions,
} from "./functions.js";

type Koffi = typeof import("koffi");

const CUDA_LIBRARY = process.platform === "win32" ? ["nvcuda.dll"] : ["libcuda.so.1"];
const NVML_LIBRARY = process.platform === "win32" ? ["nvml.dll"] : ["libnvidia-ml.so.1"];

const C_TYPE: Record<ArgumentKind, string> = {
  i32: "int",
  u32: "unsigned int",
  u8: "uint8_t",
  u64: "uint64_t",
  size: "size_t",
  memory: "void *",
  text: "const char *",
};

/**
 * @param require a test's own, in place of Node's
 * @throws {DriverMissingError} where there is no NVIDIA driver, or one too old to have every function
 * @throws {DriverBindingError} where koffi cannot be loaded
 */
export function loadCuda(require?: Require): CudaFunctions {
  return bind(CUDA_LIBRARY, CUDA_FUNCTIONS, loadKoffi(require));
}

/** @throws {DriverMissingError}, {@link DriverBindingError} */
export function loadNvml(require?: Require): NvmlFunctions {
  return bind(NVML_LIBRARY, NVML_FUNCTIONS, loadKoffi(require));
}

/** Address of host memory that a typed array covers, for structures that hold pointers. The array must outlive the call. */
export function addressOf(memory: NodeJS.ArrayBufferView): bigint {
  return BigInt(loadKoffi().address(memory));
}

/** Pinned memory as an ArrayBuffer that shares it; the buffer must not be used after the memory is freed. */
export function viewOf(address: bigint, bytes: number): ArrayBuffer {
  return loadKoffi().view(address, bytes);
}

function bind<Table extends Record<string, readonly ArgumentKind[]>>(
  names: readonly string[],
  table: Table,
  koffi: Koffi,
): FunctionTable<Table> {
  const library = open(names, koffi);
  const bound: Record<string, unknown> = {};
  for (const [name, kinds] of Object.entries(table)) {
    try {
      bound[name] = library.func(
        name,
        "int",
        kinds.map((kind) => C_TYPE[kind]),
      );
    } catch (cause) {
      throw new DriverMissingError(`${names[0]} has no function ${name}: the NVIDIA driver is too old`, cause);
    }
  }
  return bound as FunctionTable<Table>;
}

function open(names: readonly string[], koffi: Koffi): ReturnType<Koffi["load"]> {
  let last: unknown;
  for (const name of names) {
    try {
      return koffi.load(name);
    } catch (cause) {
      last = cause;
    }
  }
  throw new DriverMissingError(`no NVIDIA driver on this machine (${names.join(", ")} cannot be loaded)`, last);
}

type Require = (name: string) => unknown;

let loaded: Koffi | undefined;

/** koffi is loaded on first use: planning and the CPU backend work without it. */
function loadKoffi(require?: Require): Koffi {
  if (loaded && !require) return loaded;
  try {
    const koffi = (require ?? createRequire(import.meta.url))("koffi") as Koffi;
    if (!require) loaded = koffi;
    return koffi;
  } catch (cause) {
    throw new DriverBindingError(cause);
  }
}
