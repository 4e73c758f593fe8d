import { connect } from "node:net";
import { Hono } from "hono";
import { afterEach, describe, expect, it } from "vitest";
import { UsageError } from "../errors.js";
import type { AppEnv } from "./app-env.js";
import { type Listening, listen } from "./listen.js";

const HERE = { host: "127.0.0.1", port: 0, maxConnections: 8 };
const PATIENCE = { headersMs: 100, requestMs: 300 };

const opened: Listening[] = [];
afterEach(async () => {
  for (const listening of opened.splice(0)) {
    listening.closeAll();
    await listening.close();
  }
});

async function open(options: Partial<Parameters<typeof listen>[1]> = {}): Promise<Listening> {
  const app = new Hono<AppEnv>()
    .get("/", (context) => context.text("here"))
    .post("/", async (context) => context.text(await context.req.text().catch(() => "cut off")));
  const listening = await listen(app, { ...HERE, ...options });
  opened.push(listening);
  return listening;
}

/** What a server says to these bytes, until it closes the connection. */
function untilClosed(url: string, bytes: string): Promise<string> {
  return new Promise((resolve, reject) => {
    let text = "";
    const socket = connect(Number(new URL(url).port), "127.0.0.1", () => socket.write(bytes));
    socket.on("data", (data) => {
      text += data.toString();
    });
    socket.on("close", () => resolve(text));
    socket.on("error", reject);
  });
}

describe("listen", () => {
  it("answers on a port of its own", async () => {
    const { url } = await open();
    expect(url).toMatch(/^http:\/\/127\.0\.0\.1:\d+$/);
    expect(await (await fetch(url)).text()).toBe("here");
  });

  it("says what to do where the port is taken", async () => {
    const { url } = await open();
    const again = listen(new Hono<AppEnv>(), { ...HERE, port: Number(new URL(url).port) });
    await expect(again).rejects.toBeInstanceOf(UsageError);
    await expect(again).rejects.toMatchObject({ hint: expect.stringContaining("--port") });
  });

  it.each([
    ["says nothing", ""],
    ["sends its headers a letter at a time", "GET / HTTP/1.1\r\nHo"],
    ["never ends its body", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc"],
  ])("closes the connection of a client that %s", async (_what, bytes) => {
    const { url } = await open({ patience: PATIENCE });
    expect(await untilClosed(url, bytes)).toMatch(/^(HTTP\/1.1 408 |$)/);
    expect((await fetch(url)).status).toBe(200);
  });

  it("closes connections beyond the most it takes, and goes on when there is room again", async () => {
    const { url } = await open({ maxConnections: 2 });
    const port = Number(new URL(url).port);
    const sockets = await Promise.all(
      [1, 2].map(
        () =>
          new Promise<ReturnType<typeof connect>>((resolve) => {
            const socket = connect(port, "127.0.0.1", () => {
              socket.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
              socket.once("data", () => resolve(socket));
            });
          }),
      ),
    );
    await expect(fetch(url)).rejects.toThrow();
    for (const socket of sockets) socket.destroy();
    await Promise.all(sockets.map((socket) => socket.closed || new Promise((resolve) => socket.on("close", resolve))));
    for (;;)
      if (
        await fetch(url).then(
          (response) => response.ok,
          () => false,
        )
      )
        break;
  });

  it("closes idle connections at once and waits for the others", async () => {
    const app = new Hono<AppEnv>();
    let finish = () => {};
    const asked = new Promise<void>((reached) => {
      app.get("/", async (context) => {
        reached();
        await new Promise<void>((resolve) => {
          finish = resolve;
        });
        return context.text("done");
      });
    });
    const listening = await listen(app, HERE);
    const slow = fetch(listening.url);
    await asked;
    const closed = listening.close();
    await expect(fetch(listening.url)).rejects.toThrow();
    finish();
    expect(await (await slow).text()).toBe("done");
    await closed;
  });
});
