// `exllama serve` as a process: its address, its signals, and what it does when its engine is killed.

import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import OpenAI from "openai";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { distFile } from "../../src/paths.js";
import { childrenOf, isRunning } from "../support/processes.js";
import { runHere } from "../support/run-here.js";
import { metric, post, until } from "./demo-server.js";

interface Served {
  readonly child: ChildProcess;
  readonly url: string;
  readonly client: OpenAI;
  readonly exit: Promise<{ code: number | null; signal: NodeJS.Signals | null }>;
  /** What it wrote to its standard error so far. */
  readonly log: () => string;
}

const folder = mkdtempSync(join(tmpdir(), "exllama-serve-"));
const started: ChildProcess[] = [];
afterAll(() => {
  for (const child of started) child.kill("SIGKILL");
  rmSync(folder, { recursive: true });
});

async function serve(...args: string[]): Promise<Served> {
  return serveWith({}, ...args);
}

async function serveWith(variables: Record<string, string>, ...args: string[]): Promise<Served> {
  const env = { ...process.env, XDG_CONFIG_HOME: folder, XDG_STATE_HOME: folder, ...variables };
  // A pool of a given size needs no second process that looks how much fits.
  const size = ["--max-sequences", "4", "--cache-tokens", "8192"];
  const all = [distFile("cli/main.js"), "serve", "--port", "0", "--json", "--threads", "1", ...size, ...args];
  const child = spawn(process.execPath, all, { env, stdio: ["ignore", "pipe", "pipe"] });
  started.push(child);
  let log = "";
  child.stderr.on("data", (data) => {
    log += String(data);
  });
  const exit = new Promise<{ code: number | null; signal: NodeJS.Signals | null }>((resolve) =>
    child.on("exit", (code, signal) => resolve({ code, signal })),
  );
  const line = await new Promise<string>((resolve, reject) => {
    child.stdout.once("data", (data) => resolve(String(data)));
    void exit.then(() => reject(new Error(`it ended: ${log}`)));
  });
  const { url } = JSON.parse(line) as { url: string };
  return { child, url, client: new OpenAI({ baseURL: `${url}/v1`, apiKey: "none", maxRetries: 0 }), exit, log: () => log };
}

const STORY = { model: "demo", temperature: 0, messages: [{ role: "user" as const, content: "Tell me a story" }] };
const endless = { ...STORY, max_tokens: 1900, ignore_eos: true } as const;

describe("exllama serve", () => {
  it("finishes what runs when it is told to end, takes nothing new, and leaves nothing behind", async () => {
    const { child, url, client, exit, log } = await serve("--grace", "50");
    const engine = childrenOf(child.pid!);
    expect(engine).toHaveLength(1);
    const stream = await client.chat.completions.create({ ...endless, max_tokens: 200, stream: true });
    let tokens = 0;
    let finish: string | null = null;
    for await (const chunk of stream) {
      if (tokens++ === 5) {
        child.kill("SIGTERM");
        await until(() => log().includes("shutting down"));
        await expect(post(`${url}/v1/chat/completions`, STORY)).rejects.toThrow(); // nothing listens any more
      }
      finish = chunk.choices[0]?.finish_reason ?? finish;
    }
    expect(finish).toBe("length");
    expect(await exit).toEqual({ code: 0, signal: null });
    expect(engine.some(isRunning)).toBe(false);
    expect(log()).not.toContain("Tell me");
  });

  it("fails what is not finished in time, with an error that the client sees", async () => {
    const { child, url, client, exit } = await serve("--grace", "0");
    const stream = await client.chat.completions.create({ ...endless, stream: true });
    const whole = client.chat.completions.create(endless).catch((error: unknown) => error);
    await until(async () => (await metric(url, "exllama_sequences_running")) === 2);
    child.kill("SIGINT");
    const reading = (async () => {
      for await (const _ of stream);
    })();
    await expect(reading).rejects.toMatchObject({ code: "shutting_down", type: "server_error" });
    expect(await whole).toMatchObject({ status: 503, code: "shutting_down" });
    expect(await exit).toEqual({ code: 0, signal: null });
  });

  it("leaves at once at the second signal", async () => {
    const { child, url, client, exit, log } = await serve("--grace", "1000");
    const engine = childrenOf(child.pid!);
    const waiting = client.chat.completions.create(endless).catch(() => {});
    await until(async () => (await metric(url, "exllama_sequences_running")) === 1);
    child.kill("SIGINT");
    await until(() => log().includes("shutting down"));
    child.kill("SIGINT");
    expect(await exit).toEqual({ code: 130, signal: null });
    await waiting;
    await until(() => !engine.some(isRunning));
  });

  it("reads keys from the environment and from a file, with remarks, and listens on other addresses then", async () => {
    const file = join(folder, "keys.txt");
    writeFileSync(file, "# of the team\nkey-of-anna-1\n\n  key-of-bert-2  \n");
    const { url } = await serveWith({ EXLLAMA_API_KEY: "key-of-carl-3" }, "--host", "0.0.0.0", "--api-key-file", file);
    const models = `http://127.0.0.1:${new URL(url).port}/v1/models`;
    const status = async (key: string) => (await fetch(models, { headers: { authorization: `Bearer ${key}` } })).status;
    expect((await fetch(models)).status).toBe(401);
    expect(await status("key-of-anna-1")).toBe(200);
    expect(await status("key-of-bert-2")).toBe(200);
    expect(await status("key-of-carl-3")).toBe(200);
    expect(await status("# of the team")).toBe(401);
  });

  it.each<[string, string[], RegExp]>([
    ["other addresses without a key", ["--host", "0.0.0.0"], /API key.*--insecure/s],
    ["other addresses with an admin key alone", ["--host", "::", "--admin-key", "key-of-admin"], /API key/],
    ["an address that is not here", ["--host", "192.0.2.1", "--insecure"], /cannot listen on 192\.0\.2\.1/],
    ["a short key", ["--api-key", "abc"], /too short/],
    ["a file without keys", ["--api-key-file", "/dev/null"], /has no key/],
    ["two models", ["./a", "--model", "./b"], /named more than once/],
    ["a port that is none", ["--port", "70000"], /0 to 65535/],
    ["a model that is not there", ["/nonexistent"], /nonexistent/],
  ])("refuses %s", async (_what, args, message) => {
    const { code, stderr, stdout } = await runHere(["serve", ...args]);
    expect(stderr).toMatch(message);
    expect(code).toBe(message.source === "nonexistent" ? 1 : 2);
    expect(stdout).toBe("");
  });
});

describe("exllama serve, when its engine is killed", () => {
  let served: Served;
  beforeAll(async () => {
    served = await serve();
  });

  it("loads the model again: the answer under way fails, the next is as before", async () => {
    const { child, url, client } = served;
    const before = await client.chat.completions.create({ ...STORY, max_tokens: 8 });
    const [engine] = childrenOf(child.pid!);
    const stream = await client.chat.completions.create({ ...endless, stream: true });
    const reading = (async () => {
      let killed = false;
      for await (const chunk of stream) {
        if (killed || !chunk.choices[0]?.delta.content) continue;
        killed = true;
        process.kill(engine!, "SIGKILL");
      }
    })();
    await expect(reading).rejects.toMatchObject({ code: "model_reloading", type: "server_error" });
    // The client's own tries, which wait as the server says.
    const patient = new OpenAI({ baseURL: `${url}/v1`, apiKey: "none", maxRetries: 5 });
    const after = await patient.chat.completions.create({ ...STORY, max_tokens: 8 });
    expect(after.choices).toEqual(before.choices);
    expect((await fetch(`${url}/health`)).status).toBe(200);
    expect(childrenOf(child.pid!)).toHaveLength(1);
    expect(childrenOf(child.pid!)).not.toContain(engine);
  });

  it("notices it when idle, too", async () => {
    const { child, url } = served;
    const [engine] = childrenOf(child.pid!);
    process.kill(engine!, "SIGKILL");
    await until(() => childrenOf(child.pid!).some((other) => other !== engine));
    await until(async () => (await fetch(`${url}/health`)).status === 200);
  });
});
