// What the host does in a decode step, without a card: scheduler, runtime, messages, with a driver that only takes
// its time. `node dist/gpu/host-steps.js [µs of a step] [sequences,…] [tokens]`.

import { deserialize, serialize } from "node:v8";
import { listCards, planDevice } from "../../src/backend/cuda/cards/cards.js";
import { createCudaBackend } from "../../src/backend/cuda/index.js";
import { openSynthetic } from "../../src/checkpoint/synthetic.js";
import { loadOver } from "../../src/engine/client.js";
import { Host } from "../../src/engine/host.js";
import type { EngineLink } from "../../src/engine/link.js";
import { LoadedEngine } from "../../src/engine/loaded-engine.js";
import { ModelText } from "../../src/engine/model-text.js";
import { EXLLAMA_DEFAULTS } from "../../src/generate/defaults.js";
import { planModel } from "../../src/memory/plan-model.js";
import { readModel } from "../../src/model/read.js";
import { GREEDY } from "../../src/sampling/parameters.js";
import { StillCuda } from "../support/still-driver.js";

const [step = "0", sequences = "1,8,32,128", tokens = "200"] = process.argv.slice(2);
const MODEL = "synthetic:llama-7b";
const PROMPT = 240;

const card = new StillCuda();
const sources = card.sources();

for (const count of sequences.split(",").map(Number)) {
  card.stepMicroseconds = 0;
  const engine = await openEngine(count);
  card.stepMicroseconds = Number(step);
  const link = inProcess(engine);
  const model = await loadOver(link, MODEL, {} as never);
  for (const [name, sampling] of [
    ["greedy", GREEDY],
    ["ExLlama's defaults", EXLLAMA_DEFAULTS],
  ] as const) {
    const times: number[] = [];
    for (let round = 0; round < 3; round++) {
      let [begun, ended, arrived] = [0, 0, 0];
      const answers = Array.from({ length: count }, async (_, index) => {
        const prompt = Array.from({ length: PROMPT }, (_, i) => (i * 7919 + index * 31 + round) % 32000);
        const options = { ...sampling, maxTokens: Number(tokens), ignoreEos: true };
        for await (const { ids } of model.generate(prompt, options).events()) {
          if (index < count - 1) continue; // the last one begins when all do
          ended = performance.now();
          if (begun === 0) begun = ended;
          else arrived += ids.length;
        }
      });
      await Promise.all(answers);
      times.push(((ended - begun) * 1e3) / arrived);
    }
    const median = times.sort((a, b) => a - b)[1]!;
    console.log(
      `${String(count).padStart(4)} sequences, ${name.padEnd(18)}: ${median.toFixed(0)} µs per step, ${((count * 1e6) / median).toFixed(0)} tokens/s`,
    );
  }
  await engine.dispose();
}
process.exit(0);

async function openEngine(maxSequences: number): Promise<LoadedEngine> {
  const backend = createCudaBackend({ sources });
  const checkpoint = openSynthetic(MODEL);
  const spec = readModel(checkpoint);
  const plan = planModel({
    ...{ spec, packing: backend.packing, devices: [planDevice(listCards(sources)[0]!)], caps: "auto", context: 1024 },
    ...{ cacheType: "f16", maxSequences, cacheTokens: maxSequences * 1024, prefillChunk: 2048 },
  });
  if (!plan.ok) throw new Error(plan.message);
  const quick = { ...checkpoint, read: async () => {} };
  const runtime = await backend.load({ plan, spec, checkpoint: quick });
  const info = { source: MODEL, vocabSize: spec.vocabSize, sampling: { parameters: GREEDY, source: "ExLlama", invalid: [] } };
  return new LoadedEngine({
    ...{ info: info as never, planning: {} as never, runtime, text: new ModelText(MODEL, null, null) },
    ...{ pressure: {}, speculate: null, measureDevices: () => [] },
  });
}

/** Both sides in this process, with every message written and read as a process's channel does. */
function inProcess(engine: LoadedEngine): EngineLink {
  const cross = <T>(message: T): T => deserialize(serialize(message)) as T;
  const link: EngineLink = {
    onMessage: () => {},
    send: (message) => {
      const crossed = cross(message);
      setImmediate(() => host.receive(crossed));
    },
    ended: new Promise(() => {}),
    holdEventLoop: () => {},
    kill: () => {},
  };
  const host = new Host(
    { load: async () => engine, plan: async () => engine.plan },
    {
      send: async (message) => {
        const crossed = cross(message);
        setImmediate(() => link.onMessage(crossed));
      },
      finish: () => {},
    },
  );
  return link;
}
