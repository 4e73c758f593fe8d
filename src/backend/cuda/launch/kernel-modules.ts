// The compiled kernels of one device: every family's fatbin is loaded once, every function looked
// up by name. The driver keeps what fits the card; what a function needs of registers and
// local memory is checked here, where a wrong build would otherwise take memory unseen.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { packageRoot } from "../../../paths.js";
import type { CudaDriver } from "../driver/driver.js";
import { CudaError, CudaUnavailableError, LEAST_DRIVER } from "../driver/errors.js";

export const KERNEL_FAMILIES = [
  "attention",
  "attention_quantized",
  "attention_wgmma",
  "chain_layers",
  "expand_irregular",
  "kv_cache",
  "linear_batch",
  "linear_batch_cluster",
  "linear_batch_wgmma",
  "linear_chain",
  "linear_chain_rows",
  "linear_half",
  "linear_half_gemv",
  "linear_half_ring",
  "linear_head",
  "linear_prompt",
  "linear_quantized",
  "linear_stream",
  "lora",
  "pointwise",
  "repack",
  "sample",
] as const;
export type KernelFamily = (typeof KERNEL_FAMILIES)[number];

const LOCAL_SIZE_BYTES = 3; // CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES
const MAX_DYNAMIC_SHARED = 8; // CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
/** Dynamic shared memory above which a function must be told. */
const DEFAULT_SHARED = 48 * 1024;
/** "The image is for another toolchain or card": an old driver. */
const IMAGE_ERRORS = new Set([200, 209, 218, 222]);

export class KernelModules {
  readonly #driver: CudaDriver;
  readonly #device: string;
  readonly #folder: string;
  readonly #modules = new Map<KernelFamily, bigint>();
  readonly #functions = new Map<string, { readonly kernel: bigint; shared: number }>();

  /**
   * The device's context must be current.
   *
   * @param folder with an image of each family; default: the one that comes with the package
   */
  constructor(driver: CudaDriver, device: string, folder = join(packageRoot, "kernels", "built")) {
    this.#driver = driver;
    this.#device = device;
    this.#folder = folder;
  }

  /**
   * A function by family and name; loads the family on first use.
   *
   * @param shared dynamic shared memory that it is to be launched with, bytes
   */
  get(family: KernelFamily, name: string, shared = 0): bigint {
    const known = this.#functions.get(name) ?? this.#find(family, name);
    if (shared > known.shared) {
      this.#driver.call("cuFuncSetAttribute", [known.kernel, MAX_DYNAMIC_SHARED, shared], { device: this.#device });
      known.shared = shared;
    }
    return known.kernel;
  }

  #find(family: KernelFamily, name: string): { readonly kernel: bigint; shared: number } {
    const site = { device: this.#device };
    const kernel = this.#driver.u64("cuModuleGetFunction", [this.#module(family), name], site);
    const local = this.#driver.i32("cuFuncGetAttribute", [LOCAL_SIZE_BYTES, kernel], site);
    if (local > 0)
      throw new Error(`kernel ${name} uses ${local} bytes of local memory on ${this.#device}; the plan knows of none`);
    const found = { kernel, shared: DEFAULT_SHARED };
    this.#functions.set(name, found);
    return found;
  }

  unload(): void {
    for (const module of this.#modules.values()) this.#driver.invoke("cuModuleUnload", [module]);
    this.#modules.clear();
    this.#functions.clear();
  }

  #module(family: KernelFamily): bigint {
    const known = this.#modules.get(family);
    if (known !== undefined) return known;
    const image = readFileSync(join(this.#folder, `${family}.fatbin`));
    try {
      const module = this.#driver.u64("cuModuleLoadData", [image], { device: this.#device });
      this.#modules.set(family, module);
      return module;
    } catch (cause) {
      if (!(cause instanceof CudaError) || !IMAGE_ERRORS.has(cause.status)) throw cause;
      throw new CudaUnavailableError(
        "CUDA_DRIVER_TOO_OLD",
        `the NVIDIA driver cannot load this program's kernels on ${this.#device} (${cause.message})`,
        `install a driver of version ${LEAST_DRIVER.linux} or newer, or use --backend cpu`,
      );
    }
  }
}
