import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, describe, expect, it, vi } from "vitest";
import { fixture } from "../../test/support/fixtures.js";
import { buildSynthetic, smallLlama, writeSynthetic } from "../../test/support/synthetic-checkpoint.js";
import { remoteBases } from "./address.js";
import type { CheckpointHeaders } from "./checkpoint.js";
import { openCheckpoint } from "./local.js";
import { fetchCheckpointHeaders } from "./remote.js";
import { LENGTH_BYTES } from "./safetensors.js";

/** A file server that counts what it sends of safetensors files. */
interface FileServer {
  readonly url: string;
  /** Bytes of safetensors files sent, by file, and the requests for them. */
  readonly sent: Map<string, { bytes: number; requests: number }>;
  readonly seen: IncomingMessage[];
}

type Handler = (request: IncomingMessage, response: ServerResponse) => void;

const servers: Server[] = [];
const folders: string[] = [];
afterEach(async () => {
  vi.unstubAllEnvs();
  await Promise.all(
    servers.splice(0).map((server) => {
      server.closeAllConnections();
      return new Promise((resolve) => server.close(resolve));
    }),
  );
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true, force: true });
});

async function listen(handler: Handler): Promise<string> {
  const server = createServer(handler);
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

/** Serves `folder` below `path`; `missing` is the answer for files that are not there. */
async function serve(folder: string, path: string, options: { missing?: number } = {}): Promise<FileServer> {
  const sent: FileServer["sent"] = new Map();
  const seen: IncomingMessage[] = [];
  const url = await listen((request, response) => {
    seen.push(request);
    const name = decodeURIComponent(request.url!.slice(path.length));
    let file: Buffer;
    try {
      if (!request.url!.startsWith(path) || name.includes("/")) throw new Error("not here");
      file = readFileSync(join(folder, name));
    } catch {
      response.writeHead(options.missing ?? 404).end("nothing here");
      return;
    }
    const range = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? "");
    const count = sent.get(name) ?? { bytes: 0, requests: 0 };
    count.requests++;
    if (range) {
      const [first, last] = [Number(range[1]), Math.min(Number(range[2]), file.length - 1)];
      if (first > last) {
        response.writeHead(416, { "content-range": `bytes */${file.length}` }).end();
        return;
      }
      count.bytes += last - first + 1;
      response.writeHead(206, { "content-range": `bytes ${first}-${last}/${file.length}` }).end(file.subarray(first, last + 1));
    } else {
      response.writeHead(200).end(file);
      count.bytes += file.length;
    }
    if (name.endsWith(".safetensors")) sent.set(name, count);
  });
  return { url, sent, seen };
}

async function localHeaders(folder: string): Promise<Omit<CheckpointHeaders, "source">> {
  const checkpoint = await openCheckpoint(folder);
  await checkpoint.close();
  return { configs: checkpoint.configs, tensors: checkpoint.tensors };
}

function withoutSource({ configs, tensors }: CheckpointHeaders) {
  return { configs, tensors };
}

/** Length of the header of a file, with the field that says it. */
function headerBytes(path: string): number {
  const file = readFileSync(path);
  return LENGTH_BYTES + Number(file.readBigUInt64LE(0));
}

function makeFolder(shards: number): string {
  const folder = mkdtempSync(join(tmpdir(), "exllama-remote-"));
  folders.push(folder);
  const model = { ...smallLlama, shards };
  writeSynthetic(folder, model, buildSynthetic(model));
  return folder;
}

describe("fetchCheckpointHeaders", () => {
  it("reads from a plain folder what openCheckpoint reads, and not one byte of weights", async () => {
    const folder = fixture("demo-gptq-4bit-g128");
    const server = await serve(folder, "/models/demo/v1/");
    const remote = await fetchCheckpointHeaders(`${server.url}/models/demo/v1`);
    expect(withoutSource(remote)).toEqual(await localHeaders(folder));
    expect(remote.source).toBe(`${server.url}/models/demo/v1`);
    expect(Object.fromEntries(server.sent)).toEqual({
      "model.safetensors": { requests: 2, bytes: headerBytes(join(folder, "model.safetensors")) },
    });
  });

  it("reads shards with two requests each", async () => {
    const folder = makeFolder(11);
    const server = await serve(folder, "/");
    const remote = await fetchCheckpointHeaders(`${server.url}/`);
    expect(withoutSource(remote)).toEqual(await localHeaders(folder));
    expect(server.sent.size).toBe(11);
    for (const [file, count] of server.sent) expect(count).toEqual({ requests: 2, bytes: headerBytes(join(folder, file)) });
  });

  it.each([
    ["owner/name", "/owner/name/resolve/main/", ""],
    ["an older revision", "/owner/name/resolve/v1.0/", "/tree/v1.0"],
    ["a resolved address", "/owner/name/resolve/v1.0/", "/resolve/v1.0"],
  ])("knows a hub's repository: %s", async (_, path, suffix) => {
    const folder = fixture("tiny/llama-mha");
    const server = await serve(folder, path);
    const remote = await fetchCheckpointHeaders(`${server.url}/owner/name${suffix}`);
    expect(withoutSource(remote)).toEqual(await localHeaders(folder));
  });

  it("reads hf:owner/name@revision from the endpoint, with the token", async () => {
    const folder = fixture("tiny/llama-mha");
    const server = await serve(folder, "/owner/name/resolve/refs%2Fpr%2F1/");
    const remote = await fetchCheckpointHeaders("hf:owner/name@refs/pr/1", { endpoint: server.url, token: "secret" });
    expect(withoutSource(remote)).toEqual(await localHeaders(folder));
    expect(server.seen[0]!.headers.authorization).toBe("Bearer secret");
  });

  it("sends the environment's token to the hub and to nobody else", async () => {
    const server = await serve(fixture("tiny/llama-mha"), "/owner/name/resolve/main/");
    vi.stubEnv("HF_TOKEN", "from-environment");
    vi.stubEnv("HF_ENDPOINT", server.url);
    await fetchCheckpointHeaders("hf:owner/name");
    expect(new Set(server.seen.map(({ headers }) => headers.authorization))).toEqual(new Set(["Bearer from-environment"]));
    server.seen.length = 0;
    vi.stubEnv("HF_ENDPOINT", "https://hub.example");
    await fetchCheckpointHeaders(`${server.url}/owner/name`);
    expect(new Set(server.seen.map(({ headers }) => headers.authorization))).toEqual(new Set([undefined]));
  });

  it("follows a hub to the store where its large files are, and keeps the token to itself", async () => {
    const folder = fixture("tiny/llama-mha");
    const store = await serve(folder, "/");
    const hub = await listen((request, response) => {
      const name = request.url!.replace("/owner/name/resolve/main/", "");
      if (name === "model.safetensors") response.writeHead(302, { location: `${store.url}/${name}` }).end();
      else if (name === "config.json") response.end(readFileSync(join(folder, name)));
      else response.writeHead(404).end();
    });
    const remote = await fetchCheckpointHeaders("hf:owner/name", { endpoint: hub, token: "secret" });
    expect(remote.tensors).toEqual((await localHeaders(folder)).tensors);
    expect(store.sent.get("model.safetensors")!.bytes).toBe(headerBytes(join(folder, "model.safetensors")));
    expect(store.seen.map(({ headers }) => headers.authorization)).toEqual([undefined, undefined]);
  });

  it("takes 403 for a missing file where config.json could be read, as object stores answer", async () => {
    const folder = makeFolder(2);
    const server = await serve(folder, "/", { missing: 403 });
    expect(withoutSource(await fetchCheckpointHeaders(server.url))).toEqual(await localHeaders(folder));
  });

  it("finds files of other names: from the hub's listing", async () => {
    const folder = fixture("tiny/llama-mha");
    const weights = readFileSync(join(folder, "model.safetensors"));
    const url = await listen((request, response) => {
      const range = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? "");
      if (request.url === "/o/n/resolve/main/config.json") response.end(readFileSync(join(folder, "config.json")));
      else if (request.url === "/api/models/o/n/revision/main")
        response.end(JSON.stringify({ siblings: [{ rfilename: "README.md" }, { rfilename: "odd-name.safetensors" }] }));
      else if (request.url === "/o/n/resolve/main/odd-name.safetensors" && range)
        response
          .writeHead(206, { "content-range": `bytes ${range[1]}-${range[2]}/${weights.length}` })
          .end(weights.subarray(Number(range[1]), Number(range[2]) + 1));
      else response.writeHead(404).end();
    });
    const remote = await fetchCheckpointHeaders("hf:o/n", { endpoint: url });
    expect(remote.tensors.get("model.norm.weight")!.file).toBe("odd-name.safetensors");
  });

  describe("refuses", () => {
    it("a server that sends whole files only, without reading them", async () => {
      let written = 0;
      const url = await listen((request, response) => {
        if (request.url!.endsWith("config.json")) {
          response.end("{}");
          return;
        }
        // An endless file: reading it to the end would never end.
        response.writeHead(200);
        const more = () => {
          while (!response.destroyed) {
            written += 65536;
            if (!response.write(Buffer.alloc(65536))) {
              response.once("drain", more);
              return;
            }
          }
        };
        more();
      });
      await expect(fetchCheckpointHeaders(`${url}/a/b/c`)).rejects.toMatchObject({
        code: "CHECKPOINT_REMOTE",
        message: expect.stringMatching(/sends whole files only/),
      });
      expect(written).toBeLessThan(64 * 2 ** 20);
    });

    const respond =
      (weights: Handler): Handler =>
      (request, response) => {
        if (request.url!.endsWith("/config.json")) response.end("{}");
        else if (request.url!.endsWith("/model.safetensors")) weights(request, response);
        else response.writeHead(404).end();
      };
    const prefix = (headerLength: bigint) => {
      const bytes = Buffer.alloc(8);
      bytes.writeBigUInt64LE(headerLength);
      return bytes;
    };

    it.each<[string, Handler, string, RegExp]>([
      ["nothing there", (_, response) => response.writeHead(404).end(), "CHECKPOINT_CONFIG", /has no config\.json/],
      ["no permission", (_, response) => response.writeHead(401).end(), "CHECKPOINT_REMOTE", /answered 401/],
      ["a failing server", (_, response) => response.writeHead(500).end(), "CHECKPOINT_REMOTE", /answered 500/],
      ["a config that is no JSON", (_, response) => response.end("<html>"), "CHECKPOINT_CONFIG", /not valid JSON/],
      ["a connection that breaks", (request) => request.socket.destroy(), "CHECKPOINT_REMOTE", /cannot be reached/],
      [
        "no weights",
        respond((_, response) => response.writeHead(404).end()),
        "CHECKPOINT_NOT_FOUND",
        /has none of model\.safetensors/,
      ],
      [
        "a file shorter than 8 bytes",
        respond((_, response) => response.writeHead(206, { "content-range": "bytes 0-3/4" }).end("1234")),
        "SAFETENSORS_TRUNCATED",
        /4 bytes are too few/,
      ],
      [
        "an empty file",
        respond((_, response) => response.writeHead(416, { "content-range": "bytes */0" }).end()),
        "SAFETENSORS_TRUNCATED",
        /0 bytes are too few/,
      ],
      [
        "a header above the limit",
        respond((_, response) => response.writeHead(206, { "content-range": `bytes 0-7/${2 ** 40}` }).end(prefix(2n ** 39n))),
        "SAFETENSORS_HEADER_TOO_LARGE",
        /the format allows 100000000/,
      ],
      [
        "another range than was asked for",
        respond((_, response) => response.writeHead(206, { "content-range": "bytes 8-15/1000" }).end(prefix(2n))),
        "CHECKPOINT_REMOTE",
        /answered with the range/,
      ],
      [
        "a range of unknown length",
        respond((_, response) => response.writeHead(206, { "content-range": "bytes 0-7/*" }).end(prefix(2n))),
        "CHECKPOINT_REMOTE",
        /answered with the range/,
      ],
      [
        "more bytes than were asked for",
        respond((_, response) => response.writeHead(206, { "content-range": "bytes 0-7/1000" }).end(Buffer.alloc(1000))),
        "CHECKPOINT_REMOTE",
        /longer than the 8 bytes/,
      ],
      [
        "fewer bytes than were asked for",
        respond((_, response) => response.writeHead(206, { "content-range": "bytes 0-7/1000" }).end("123")),
        "CHECKPOINT_REMOTE",
        /ended after 3 of 8 bytes/,
      ],
      [
        "a file that changes in between",
        respond((request, response) =>
          request.headers.range === "bytes=0-7"
            ? response.writeHead(206, { "content-range": "bytes 0-7/10" }).end(prefix(2n))
            : response.writeHead(206, { "content-range": "bytes 8-9/11" }).end("{}"),
        ),
        "CHECKPOINT_REMOTE",
        /changed its length/,
      ],
    ])("%s", async (_, handler, code, message) => {
      const url = await listen(handler);
      const error = await fetchCheckpointHeaders(`${url}/a/b/c`).catch((reason: unknown) => reason);
      expect(error).toMatchObject({ code, message: expect.stringMatching(message) });
    });

    it("a server that never answers", async () => {
      const url = await listen(() => {});
      await expect(fetchCheckpointHeaders(`${url}/a/b/c`, { timeoutMs: 200 })).rejects.toMatchObject({
        code: "CHECKPOINT_REMOTE",
        message: expect.stringMatching(/no answer within 0\.2 s/),
      });
    });

    it("a server that is not there", async () => {
      await expect(fetchCheckpointHeaders("http://127.0.0.1:9/a/b/c")).rejects.toMatchObject({ code: "CHECKPOINT_REMOTE" });
    });

    it("to go on after an abort, with the caller's reason", async () => {
      const url = await listen(() => {});
      const controller = new AbortController();
      const promise = fetchCheckpointHeaders(`${url}/a/b/c`, { signal: controller.signal });
      const reason = new Error("enough");
      setTimeout(() => controller.abort(reason), 20);
      await expect(promise).rejects.toBe(reason);
      await expect(fetchCheckpointHeaders(`${url}/a/b/c`, { signal: controller.signal })).rejects.toBe(reason);
    });
  });
});

describe("remoteBases", () => {
  it.each([
    ["hf:owner/name", ["https://huggingface.co/owner/name/resolve/main/"]],
    ["hf:owner/name@refs/pr/1", ["https://huggingface.co/owner/name/resolve/refs%2Fpr%2F1/"]],
    ["https://huggingface.co/owner/name", ["https://huggingface.co/owner/name/resolve/main/"]],
    ["https://huggingface.co/owner/name/tree/main", ["https://huggingface.co/owner/name/resolve/main/"]],
    ["https://host/owner/name/", ["https://host/owner/name/", "https://host/owner/name/resolve/main/"]],
    ["http://host:8080/model", ["http://host:8080/model/"]],
    ["http://host", ["http://host/"]],
    ["http://host/a/b/c/", ["http://host/a/b/c/"]],
  ])("of %s", (address, files) => {
    expect(remoteBases(address, { endpoint: "https://huggingface.co" }).map((base) => base.files)).toEqual(files);
  });

  it.each([
    "hf:name",
    "hf:a/b/c",
    "hf:../..",
    "hf:owner/name@../x",
    "hf:owner/..",
    "http://",
    "https://user:secret@host/owner/name",
    "http://host/model.safetensors",
  ])("refuses %s", (address) => {
    expect(() => remoteBases(address)).toThrow(expect.objectContaining({ code: "USAGE" }));
  });
});
