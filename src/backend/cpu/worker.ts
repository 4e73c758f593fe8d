// A compute thread. First it helps to load, job by job; then it serves steps: it waits for the
// command word, runs the step program with its fellows, and waits again.

import { availableParallelism } from "node:os";
import { parentPort, workerData } from "node:worker_threads";
import { RegionIndex } from "../../memory/regions.js";
import type { LinearSpec } from "../../model/spec.js";
import { instantiate, ValueKind } from "./kernels.js";
import type { ArenaAccess } from "./layer-program.js";
import { ExactLinear, type LinearKernel } from "./linear-kernel.js";
import { runLoadJob } from "./load-jobs.js";
import { QuantizedLinear } from "./quantized-linear.js";
import { StepProgram } from "./step-program.js";
import { meetingTurns, turnsBetweenSteps } from "./wait-turns.js";
import type { FromWorker, LinearFacts, ToWorker, WorkerStart } from "./worker-messages.js";

const port = parentPort;
if (!port) throw new Error("the CPU backend starts this file as a worker thread");
const start = workerData as WorkerStart;
const arenas: ArenaAccess[] = start.memories.map((memory) => ({ memory, kernels: instantiate(start.modules, memory) }));
const regions = new RegionIndex(start.stage);

const cores = availableParallelism();
const idleTurns = turnsBetweenSteps(start.threads, cores, start.index);

const say = (message: FromWorker) => port.postMessage(message);

port.on("message", (message: ToWorker) => {
  try {
    if (message.kind === "job") say({ kind: "jobDone", result: runLoadJob(message.job, start, arenas) });
    else serve(message.facts);
  } catch (error) {
    fail(error);
  }
});
say({ kind: "ready" });

/** Runs steps until the thread is ended from outside. It sleeps between steps and hears no messages. */
function serve(facts: LinearFacts): never {
  const program = new StepProgram({
    ...start,
    arenas,
    waitTurns: meetingTurns(start.threads, cores),
    linear: (name, spec, arena) => linear(name, spec, arena, facts),
    embed: embedder(facts),
  });
  say({ kind: "jobDone", result: 0 });
  const control = regions.get("scratch.control", 0).offset;
  for (let command = 0; ; ) {
    command = arenas[0]!.kernels.team_await(control, command, idleTurns);
    program.execute();
    if (start.index === 0) say({ kind: "stepDone" });
  }
}

function linear(name: string, spec: LinearSpec, arena: number, facts: LinearFacts): LinearKernel {
  const { kernels, memory } = arenas[arena]!;
  const weights = regions.get(`${name}.weights`, arena).offset;
  const bias = regions.find(`${name}.bias`, arena)?.offset ?? 0;
  const found = facts.get(name);
  if (!found) return new ExactLinear(kernels, spec, { weights, bias });
  const permutation = regions.find(`${name}.permutation`, arena)?.offset ?? 0;
  return new QuantizedLinear(kernels, memory, spec, { weights, permutation, bias }, found);
}

/** Embedding rows: as the checkpoint has them, or, tied, from the head's weights. */
function embedder(facts: LinearFacts): (id: number, to: number) => void {
  const { spec } = start;
  const size = spec.hiddenSize;
  const rows = regions.find("embedding.rows");
  if (rows) {
    const { kernels } = arenas[rows.arena]!;
    const kind = ValueKind[spec.embedding.dtype];
    const bytes = size * (kind === ValueKind.f32 ? 4 : 2);
    return (id, to) => kernels.widen_row(rows.offset + id * bytes, to, size, kind);
  }
  const weights = regions.get("embedding.weights");
  const found = facts.get("embedding");
  const { kernels, memory } = arenas[weights.arena]!;
  if (!found) return (id, to) => kernels.widen_row(weights.offset + id * size * 4, to, size, ValueKind.f32);
  const head = new QuantizedLinear(kernels, memory, spec.head, { weights: weights.offset, permutation: 0, bias: 0 }, found);
  return (id, to) => head.gatherRow(id, to);
}

function fail(error: unknown): void {
  const { message, stack } = error instanceof Error ? error : new Error(String(error));
  say({ kind: "failed", message, stack });
}
