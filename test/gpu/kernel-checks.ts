// Repacking, expanding and the plain reference kernels against arithmetic on the host, on random data of
// awkward shapes. The fast kernels are held against those references by decode-checks.ts,
// prefill-checks.ts and attention-checks.ts.

import { writeParameters } from "../../src/backend/cuda/launch/parameter-layout.js";
import { EXPAND, HALF_LINEAR, LINEAR } from "../../src/backend/cuda/linears/linear-layouts.js";
import { CHUNK, type KernelGroup, paddedInputs, TILE_ROWS, tileBytes } from "../../src/backend/cuda/weights/quantized-layout.js";
import { REPACK_CODES, REPACK_GROUPS } from "../../src/backend/cuda/weights/weight-layouts.js";
import { fromHalfBits, toHalfBits } from "../support/element-types.js";
import { Random } from "../support/random.js";
import type { KernelBench } from "./kernel-bench.js";

type Bits = 2 | 3 | 4 | 8;

const GEMM_SHARED = 65536;

/** Counts in `bench` what disagrees. */
export function checkKernels(bench: KernelBench): void {
  for (const bits of [2, 3, 4, 8] as const) for (const group of [32, 64, 128] as const) checkLinear(bench, bits, group);
}

function checkLinear(bench: KernelBench, bits: Bits, group: KernelGroup): void {
  const { gpu } = bench;
  for (const [inputs, outputs, permuted] of [
    [1024 + 192, 96, false],
    [2048 + 64, 80, true],
    [group, 16, false],
    [11008, 48, true],
  ] as const) {
    if (inputs % group !== 0 || (inputs * bits) % 32 !== 0 || (outputs * bits) % 32 !== 0) continue; // no such checkpoint
    const random = new Random(inputs * 7 + bits * 131 + group);
    const groups = inputs / group;
    const codes = Uint8Array.from({ length: inputs * outputs }, () => Math.floor(random.uniform() * 2 ** bits));
    const zeros = Uint8Array.from({ length: groups * outputs }, () => Math.floor(random.uniform() * 2 ** bits));
    const scales = Float32Array.from({ length: groups * outputs }, () =>
      fromHalfBits(toHalfBits(0.002 + 0.02 * random.uniform())),
    );
    // perm[k'] = source row of packed row k'; rows of one group stay together, groups are shuffled row by row.
    const perm = permuted ? random.permutation(inputs) : Int32Array.from({ length: inputs }, (_, i) => i);
    const inverse = new Int32Array(inputs);
    perm.forEach((source, place) => {
      inverse[source] = place;
    });
    const zeroOffset = bits === 4 ? 1 : 0;

    const k = paddedInputs(inputs);
    const weightBytes = (outputs / TILE_ROWS) * tileBytes(bits, group, inputs);
    const weights = gpu.allocate(weightBytes);
    gpu.fill(weights, 0, weightBytes);
    const source = bench.upload(packRows(codes, inputs, outputs, bits));
    const zerosIn = bench.upload(packColumns(zeros, groups, outputs, bits));
    const scalesIn = bench.upload(Uint16Array.from(scales, toHalfBits));
    const inverseIn = bench.upload(inverse);
    const permIn = bench.upload(perm);
    const bad = bench.upload(new Uint32Array(1));
    bench.launch({
      family: "repack",
      name: `repack_codes_q${bits}_g${group}`,
      grid: [Math.ceil(outputs / 256), inputs / 32],
      block: 256,
      parameters: writeParameters(REPACK_CODES, {
        source,
        destination: weights,
        inverse: permuted ? inverseIn : 0n,
        firstRow: 0,
        rows: inputs,
        n: outputs,
        k,
      }),
    });
    bench.launch({
      family: "repack",
      name: `repack_groups_q${bits}_g${group}`,
      grid: [Math.ceil(outputs / 256), groups],
      block: 256,
      parameters: writeParameters(REPACK_GROUPS, {
        scales: scalesIn,
        zeros: zerosIn,
        destination: weights,
        bad,
        groups,
        repeat: 1,
        n: outputs,
        k,
        scalesAreF32: 0,
        firstGroup: 0,
        zeroOffset,
        unused: 0,
      }),
    });

    for (const m of [1, 19]) {
      const x = Float32Array.from({ length: m * inputs }, () => fromHalfBits(toHalfBits(random.uniform() * 2 - 1)));
      const bias = Float32Array.from({ length: outputs }, () => fromHalfBits(toHalfBits(random.uniform() - 0.5)));
      const residual = Float32Array.from({ length: m * outputs }, () => random.uniform() - 0.5);
      const truth = new Float64Array(m * outputs);
      let norm = 0;
      for (let t = 0; t < m; t++)
        for (let n = 0; n < outputs; n++) {
          let sum = (bias[n] as number) + (residual[t * outputs + n] as number);
          for (let source = 0; source < inputs; source++) {
            const g = Math.floor((inverse[source] as number) / group);
            const w =
              ((codes[source * outputs + n] as number) - (((zeros[g * outputs + n] as number) + zeroOffset) % 2 ** bits)) *
              (scales[g * outputs + n] as number);
            sum += w * (x[t * inputs + source] as number);
            norm += w * w;
          }
          truth[t * outputs + n] = sum;
        }
      norm = Math.sqrt(norm / (m * outputs)) * Math.sqrt(inputs / 3); // |w| |x|
      const xIn = bench.upload(Uint16Array.from(x, toHalfBits));
      const biasIn = bench.upload(Uint16Array.from(bias, toHalfBits));
      const residualIn = bench.upload(residual);
      const y = gpu.allocate(m * outputs * 4);
      const parameters = writeParameters(LINEAR, {
        weights,
        x: xIn,
        permutation: permuted ? permIn : 0n,
        bias: biasIn,
        residual: residualIn,
        y,
        m,
        n: outputs,
        k,
        kValid: inputs,
        ldx: inputs,
        ldy: outputs,
        zeroOffset: 0,
        yIsF32: 1,
      });
      gpu.fill(y, 0xff, m * outputs * 4);
      bench.launch({
        family: "linear_quantized",
        name: `linear_q${bits}_g${group}_ref`,
        grid: [Math.ceil(outputs / 256), m],
        block: 256,
        parameters,
      });
      bench.compare(
        `q${bits} g${group} ${inputs}x${outputs} m ${m} reference`,
        bench.download(y, m * outputs),
        truth,
        1e-5 * norm,
      );

      if (m === 19 && !permuted) {
        const expanded = gpu.allocate(outputs * inputs * 2);
        gpu.fill(expanded, 0xff, outputs * inputs * 2);
        bench.launch({
          family: "linear_half",
          name: `expand_q${bits}_g${group}`,
          grid: [Math.ceil(k / (CHUNK * 8)), outputs / TILE_ROWS],
          block: 256,
          parameters: writeParameters(EXPAND, {
            weights,
            expanded,
            firstTile: 0,
            tiles: outputs / TILE_ROWS,
            k,
            ld: inputs,
            zeroOffset: 0,
            unused: 0,
          }),
        });
        gpu.fill(y, 0xff, m * outputs * 4);
        bench.launch({
          family: "linear_half",
          name: "linear_half_gemm",
          grid: [Math.ceil(outputs / 128), Math.ceil(m / 128)],
          block: 256,
          parameters: writeParameters(HALF_LINEAR, {
            weights: expanded,
            x: xIn,
            bias: biasIn,
            residual: residualIn,
            y,
            m,
            n: outputs,
            k: inputs,
            ldx: inputs,
            ldy: outputs,
            yIsF32: 1,
          }),
          shared: GEMM_SHARED,
        });
        bench.compare(`q${bits} g${group} ${inputs}x${outputs} expanded`, bench.download(y, m * outputs), truth, 1e-3 * norm);
        gpu.free(expanded);
      }
      bench.free(xIn, biasIn, residualIn, y);
    }
    bench.free(weights, source, zerosIn, scalesIn, inverseIn, permIn, bad);
  }
}

/** GPTQ's packing down the rows: a bit stream per column, lowest bits first. */
function packRows(codes: Uint8Array, rows: number, columns: number, bits: number): Uint32Array<ArrayBuffer> {
  const packed = new Uint32Array(((rows * bits) / 32) * columns);
  for (let row = 0; row < rows; row++)
    for (let column = 0; column < columns; column++)
      for (let bit = 0; bit < bits; bit++)
        if (((codes[row * columns + column] as number) >> bit) & 1) {
          const at = row * bits + bit;
          const word = Math.floor(at / 32) * columns + column;
          packed[word] = ((packed[word] as number) | (1 << (at % 32))) >>> 0;
        }
  return packed;
}

function packColumns(values: Uint8Array, rows: number, columns: number, bits: number): Uint32Array<ArrayBuffer> {
  const packed = new Uint32Array((rows * columns * bits) / 32);
  for (let row = 0; row < rows; row++)
    for (let column = 0; column < columns; column++)
      for (let bit = 0; bit < bits; bit++)
        if (((values[row * columns + column] as number) >> bit) & 1) {
          const at = column * bits + bit;
          const word = row * ((columns * bits) / 32) + Math.floor(at / 32);
          packed[word] = ((packed[word] as number) | (1 << (at % 32))) >>> 0;
        }
  return packed;
}
