// What headers, configs and file names can show is refused before any memory is taken: the
// planner, which takes none, refuses it with the same error as the loader.

import { afterAll, describe, expect, it } from "vitest";
import { ExllamaError, loadModel, plan } from "../../src/index.js";
import { AskedEngine } from "../support/asked-engine.js";
import { encodeFloats } from "../support/element-types.js";
import { safetensorsBytes } from "../support/safetensors-writer.js";
import { SpoiledCheckpoint } from "./spoiled-checkpoint.js";

type Fault = [name: string, code: string, message: RegExp, spoil: (checkpoint: SpoiledCheckpoint) => void];

const WEIGHTS = "model.safetensors";
const NORM = "model.norm.weight";
const Q = "model.layers.0.self_attn.q_proj";

function withLength(length: bigint): Uint8Array {
  const bytes = new Uint8Array(64);
  new DataView(bytes.buffer).setBigUint64(0, length, true);
  return bytes;
}

function withHeaderText(json: string): Uint8Array {
  const text = new TextEncoder().encode(json);
  const bytes = new Uint8Array(8 + text.length);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(text.length), true);
  bytes.set(text, 8);
  return bytes;
}

const files: Fault[] = [
  ["weights that end early", "SAFETENSORS_TRUNCATED", /model\.safetensors/, (c) => c.cut(WEIGHTS, -100)],
  ["weights that end within the header", "SAFETENSORS_TRUNCATED", /header/, (c) => c.cut(WEIGHTS, 300)],
  ["weights of no bytes", "SAFETENSORS_TRUNCATED", /0 bytes|empty/, (c) => c.cut(WEIGHTS, 0)],
  [
    "weights with bytes too many",
    "SAFETENSORS_GAP",
    /bytes/,
    (c) => {
      c.tensors((tensors) => tensors);
      c.header((header) => {
        delete header[NORM];
      });
    },
  ],
  ["a header longer than its file", "SAFETENSORS_TRUNCATED", /header/, (c) => c.write(WEIGHTS, withLength(1000n))],
  ["a header of 2^63 bytes", "SAFETENSORS_HEADER_TOO_LARGE", /header/, (c) => c.write(WEIGHTS, withLength(2n ** 63n))],
  ["a header of a gigabyte", "SAFETENSORS_HEADER_TOO_LARGE", /header/, (c) => c.write(WEIGHTS, withLength(2n ** 30n))],
  ["a header that is not JSON", "SAFETENSORS_HEADER_SYNTAX", /JSON/, (c) => c.write(WEIGHTS, withHeaderText('{"a": nonsense}'))],
  ["a header that is a list", "SAFETENSORS_HEADER_SYNTAX", /header/, (c) => c.write(WEIGHTS, withHeaderText("[1, 2]"))],
  [
    "a header nested without end",
    "SAFETENSORS_HEADER_SYNTAX",
    /deep|nest/,
    (c) => c.write(WEIGHTS, withHeaderText(`${'{"a":'.repeat(100_000)}1${"}".repeat(100_000)}`)),
  ],
  [
    "a tensor described twice",
    "SAFETENSORS_DUPLICATE_KEY",
    /twice|again/,
    (c) => c.write(WEIGHTS, withHeaderText('{"a":{"dtype":"F16","shape":[],"data_offsets":[0,2]},"a":{}}')),
  ],
  [
    "tensors that overlap",
    "SAFETENSORS_OVERLAP",
    /share|overlap/,
    (c) =>
      c.header((header) => {
        const [begin, end] = header[`${Q}.scales`]!.data_offsets;
        header[`${Q}.scales`]!.data_offsets = [begin - 2, end - 2];
      }),
  ],
  [
    "offsets beyond the file",
    "SAFETENSORS_TRUNCATED",
    /bytes/,
    (c) =>
      c.header((header) => {
        const [begin] = header["lm_head.weight"]!.data_offsets;
        header["lm_head.weight"] = { dtype: "F16", shape: [2 ** 40], data_offsets: [begin, begin + 2 ** 41] };
      }),
  ],
  [
    "offsets that run backwards",
    "SAFETENSORS_OFFSETS",
    /data_offsets/,
    (c) =>
      c.header((header) => {
        header[NORM]!.data_offsets.reverse();
      }),
  ],
  [
    "a shape that does not fill its bytes",
    "SAFETENSORS_OFFSETS",
    /bytes/,
    (c) =>
      c.header((header) => {
        header[NORM]!.shape = [32];
      }),
  ],
  [
    "a negative size",
    "SAFETENSORS_SHAPE",
    /shape/,
    (c) =>
      c.header((header) => {
        header[NORM]!.shape = [-64];
      }),
  ],
  [
    "a shape whose product overflows",
    "SAFETENSORS_SHAPE",
    /shape/,
    (c) =>
      c.header((header) => {
        header[NORM]!.shape = [2 ** 32, 2 ** 32, 2 ** 32];
      }),
  ],
  [
    "an unknown dtype",
    "SAFETENSORS_UNKNOWN_DTYPE",
    /F7_E9M9/,
    (c) =>
      c.header((header) => {
        header[NORM]!.dtype = "F7_E9M9";
      }),
  ],
  [
    "an entry without a shape",
    "SAFETENSORS_SHAPE",
    /model\.norm/,
    (c) =>
      c.header((header) => {
        delete (header[NORM] as Partial<(typeof header)[string]>).shape;
      }),
  ],
  [
    "an entry that is text",
    "SAFETENSORS_ENTRY",
    /model\.norm/,
    (c) =>
      c.header((header) => {
        (header as Record<string, unknown>)[NORM] = "F16";
      }),
  ],
  ["no weights", "CHECKPOINT_NOT_FOUND", /safetensors/, (c) => c.remove(WEIGHTS)],
  [
    "weights as a pickle only",
    "CHECKPOINT_NOT_FOUND",
    /safetensors/,
    (c) => {
      c.remove(WEIGHTS);
      c.write("pytorch_model.bin", "PK");
    },
  ],
  [
    "an index that names a missing file",
    "CHECKPOINT_INDEX",
    /model-00002/,
    (c) => {
      c.remove(WEIGHTS);
      c.write("model.safetensors.index.json", JSON.stringify({ weight_map: { [NORM]: "model-00002-of-00002.safetensors" } }));
    },
  ],
  [
    "an index that leaves the folder",
    "CHECKPOINT_INDEX",
    /\.\.\//,
    (c) => {
      c.remove(WEIGHTS);
      c.write("model.safetensors.index.json", JSON.stringify({ weight_map: { [NORM]: "../outside.safetensors" } }));
    },
  ],
  [
    "an index that its files contradict",
    "CHECKPOINT_INDEX",
    /model\.norm/,
    (c) => {
      c.write("model-00001-of-00001.safetensors", safetensorsBytes([]));
      c.remove(WEIGHTS);
      c.write("model.safetensors.index.json", JSON.stringify({ weight_map: { [NORM]: "model-00001-of-00001.safetensors" } }));
    },
  ],
  ["no config.json", "CHECKPOINT_CONFIG", /config\.json/, (c) => c.remove("config.json")],
  ["a config.json cut short", "CHECKPOINT_CONFIG", /config\.json/, (c) => c.cut("config.json", 50)],
  [
    "a config.json that is not text",
    "CHECKPOINT_CONFIG",
    /config\.json/,
    (c) => c.write("config.json", Uint8Array.of(0xff, 0xfe, 0x80)),
  ],
  [
    "a generation_config.json that is not JSON",
    "CHECKPOINT_CONFIG",
    /generation_config\.json/,
    (c) => c.write("generation_config.json", "{"),
  ],
];

const meanings: Fault[] = [
  ["a config.json that is a list", "MODEL_CONFIG", /config\.json/, (c) => c.write("config.json", "[]")],
  [
    "an unknown model type",
    "MODEL_UNSUPPORTED",
    /mamba/,
    (c) => c.config({ model_type: "mamba", architectures: ["MambaForCausalLM"] }),
  ],
  ["another activation", "MODEL_UNSUPPORTED", /gelu/, (c) => c.config({ hidden_act: "gelu" })],
  [
    "an unknown RoPE",
    "MODEL_UNSUPPORTED",
    /longrope/,
    (c) => c.config({ rope_parameters: { rope_type: "longrope", rope_theta: 1e4 } }),
  ],
  ["another quantiser", "MODEL_UNSUPPORTED", /bitsandbytes/, (c) => c.quantization({ quant_method: "bitsandbytes" })],
  ["5-bit weights", "MODEL_UNSUPPORTED", /5-bit/, (c) => c.quantization({ bits: 5 })],
  ["a group size of 0", "MODEL_CONFIG", /group_size/, (c) => c.quantization({ group_size: 0 })],
  ["no layers", "MODEL_CONFIG", /num_hidden_layers/, (c) => c.config({ num_hidden_layers: 0 })],
  ["half a layer", "MODEL_CONFIG", /num_hidden_layers/, (c) => c.config({ num_hidden_layers: 1.5 })],
  ["a size that is text", "MODEL_CONFIG", /hidden_size/, (c) => c.config({ hidden_size: "64" })],
  [
    "heads that cannot share kv heads",
    "MODEL_CONFIG",
    /heads/,
    (c) => c.config({ num_attention_heads: 5, num_key_value_heads: 2 }),
  ],
  ["another hidden size", "TENSOR_SHAPE", /needs \[/, (c) => c.config({ hidden_size: 128, head_dim: 32 })],
  ["another vocabulary", "TENSOR_SHAPE", /embed_tokens|lm_head/, (c) => c.config({ vocab_size: 321 })],
  ["other bits than the tensors", "TENSOR_SHAPE", /qweight/, (c) => c.quantization({ bits: 8 })],
  ["another group size than the tensors", "TENSOR_SHAPE", /scales|qzeros/, (c) => c.quantization({ group_size: 16 })],
  ["more layers than the tensors", "TENSOR_MISSING", /layers\.1/, (c) => c.config({ num_hidden_layers: 2 })],
  [
    "a tensor left out",
    "TENSOR_MISSING",
    /q_proj/,
    (c) => c.tensors((tensors) => tensors.filter(({ name }) => name !== `${Q}.qzeros`)),
  ],
  [
    "a tensor that has no place",
    "TENSOR_UNEXPECTED",
    /layers\.7/,
    (c) =>
      c.tensors((tensors) => [
        ...tensors,
        { name: "model.layers.7.mlp.up_proj.weight", dtype: "F16", shape: [1], data: encodeFloats([1], "f16") },
      ]),
  ],
  [
    "a norm of whole numbers",
    "TENSOR_DTYPE",
    /model\.norm.*I32/,
    (c) =>
      c.tensors((tensors) =>
        tensors.map((tensor) => (tensor.name === NORM ? { ...tensor, dtype: "I32", data: new Uint8Array(64 * 4) } : tensor)),
      ),
  ],
  [
    "quantised weights of another element type",
    "TENSOR_DTYPE",
    /qweight/,
    (c) =>
      c.header((header) => {
        header[`${Q}.qweight`]!.dtype = "F32";
      }),
  ],
];

/** The error that `ask` ends with; it must be one of ours. */
async function errorOf(ask: () => Promise<unknown>): Promise<ExllamaError> {
  const error = await ask().then(
    () => "no error at all",
    (thrown: unknown) => thrown,
  );
  expect(error).toBeInstanceOf(ExllamaError);
  return error as ExllamaError;
}

describe("refused from headers alone", () => {
  const engine = new AskedEngine();
  afterAll(() => engine.end());

  it.each([...files, ...meanings])("%s: %s", async (_, code, message, spoil) => {
    using checkpoint = new SpoiledCheckpoint();
    spoil(checkpoint);
    for (const asked of ["plan", "load"] as const) {
      const error = await errorOf(() => engine[asked](checkpoint.folder, { ctx: 256 }));
      expect(error.code).toBe(code);
      expect(error.message).toMatch(message);
    }
  });

  it.each([
    ["a folder that is not there", "no/such/folder", /no folder/],
    ["a file in place of a folder", "config.json", /is a file/],
  ])("%s, of engines of their own, too", async (_, name, message) => {
    using checkpoint = new SpoiledCheckpoint();
    for (const ask of [plan, loadModel]) {
      const error = await errorOf(() => ask(checkpoint.path(name)));
      expect(error.code).toBe("CHECKPOINT_NOT_FOUND");
      expect(error.message).toMatch(message);
    }
  });

  it("the unspoiled checkpoint is not refused", async () => {
    using checkpoint = new SpoiledCheckpoint();
    expect((await plan(checkpoint.folder, { ctx: 256 })).context).toBe(256);
  });
});
