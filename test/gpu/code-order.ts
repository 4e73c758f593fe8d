// code_order() of kernels/code_order.cuh, for contents that are compared on the host.

/** Where input `k` lies in the order of codes: within its own 32, also of rows of whole 32s one behind the other. */
export function codeOrder(k: number): number {
  return (k - (k % 32)) | ((k & 4) << 2) | ((k & 2) << 2) | ((k & 24) >> 2) | (k & 1);
}
