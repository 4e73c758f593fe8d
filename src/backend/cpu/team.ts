// The compute threads, seen from the engine: started together, given loading jobs by message
// and steps by a word in shared memory, and ended together. The first failure of any of them
// ends all: a step of which one thread is missing can never finish.

import { Worker } from "node:worker_threads";
import { distFile } from "../../paths.js";
import { CpuRuntimeEndedError } from "./errors.js";
import { COMMAND_BYTE } from "./step-message.js";
import type { FromWorker, LinearFacts, LoadJob, ToWorker, WorkerStart } from "./worker-messages.js";

interface Waiting {
  missing: number;
  results: number[];
  resolve: (results: number[]) => void;
  reject: (error: unknown) => void;
}

export class Team {
  readonly #workers: Worker[] = [];
  /** Words of the control block in the first arena. */
  readonly #control: Int32Array;
  #waiting: Waiting | null = null;
  #failure: CpuRuntimeEndedError | null = null;
  #ended: Promise<void> | null = null;

  private constructor(control: Int32Array) {
    this.#control = control;
  }

  /**
   * Starts the threads and waits until all are there.
   *
   * @param control words of the control block
   * @throws {CpuRuntimeEndedError} when one cannot start; none is left then
   */
  static async start(start: Omit<WorkerStart, "index">, control: Int32Array): Promise<Team> {
    const team = new Team(control);
    const ready = team.#wait(start.threads);
    for (let index = 0; index < start.threads; index++) team.#spawn({ ...start, index });
    try {
      await ready;
    } catch (error) {
      await team.end();
      throw error;
    }
    return team;
  }

  /** All workers do their share of a loading job. */
  job(job: LoadJob): Promise<number[]> {
    return this.#all({ kind: "job", job });
  }

  /** From now on the workers take steps instead of jobs. */
  async serve(facts: LinearFacts): Promise<void> {
    await this.#all({ kind: "serve", facts });
  }

  /** Runs what the control block says, and resolves when every thread has done it. */
  async step(): Promise<void> {
    const done = this.#wait(1);
    this.#command();
    await done;
  }

  /** Ends the threads. Idempotent; never rejects. */
  end(): Promise<void> {
    this.#failure ??= new CpuRuntimeEndedError("the model has been given back");
    this.#waiting?.reject(this.#failure);
    this.#waiting = null;
    this.#ended ??= Promise.all(this.#workers.map((worker) => worker.terminate())).then(() => {});
    return this.#ended;
  }

  #command(): void {
    const word = COMMAND_BYTE / 4;
    Atomics.add(this.#control, word, 1);
    Atomics.notify(this.#control, word);
  }

  #all(message: ToWorker): Promise<number[]> {
    const done = this.#wait(this.#workers.length);
    for (const worker of this.#workers) worker.postMessage(message);
    return done;
  }

  #wait(answers: number): Promise<number[]> {
    if (this.#failure) return Promise.reject(this.#failure);
    return new Promise((resolve, reject) => {
      this.#waiting = { missing: answers, results: [], resolve, reject };
    });
  }

  #spawn(start: WorkerStart): void {
    const worker = new Worker(distFile("backend/cpu/worker.js"), { workerData: start, name: `exllama cpu ${start.index}` });
    this.#workers.push(worker);
    worker.on("message", (message: FromWorker) => this.#hear(message));
    worker.on("error", (error) => this.#fail(error.message, error));
    worker.on("exit", (code) => this.#fail(`a compute thread ended with code ${code}`));
  }

  #hear(message: FromWorker): void {
    if (message.kind === "failed") {
      this.#fail(message.message, Object.assign(new Error(message.message), { stack: message.stack }));
      return;
    }
    const waiting = this.#waiting;
    if (!waiting) return;
    if (message.kind === "jobDone") waiting.results.push(message.result);
    waiting.missing -= 1;
    if (waiting.missing > 0) return;
    this.#waiting = null;
    waiting.resolve(waiting.results);
  }

  #fail(message: string, cause?: unknown): void {
    if (this.#failure) return;
    this.#failure = new CpuRuntimeEndedError(`a compute thread failed: ${message}`, cause);
    void this.end();
  }
}
