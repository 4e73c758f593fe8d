// A server with the demo model for the tests of one file, and one browser for the files of one process.

import { execFileSync, spawn } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  type Browser,
  type BrowserContext,
  type BrowserContextOptions,
  type ConsoleMessage,
  chromium,
  type Page,
} from "playwright-core";
import { expect, test } from "vitest";
import { distFile, packageRoot } from "../../src/paths.js";

/** Installing the browser may be part of the first start, ms. */
export const START_MS = 300_000;

const DESKTOP = { width: 1280, height: 800 };

/** A browser, and a window in it that goes from test to test: making windows and profiles is half of a browser's work. */
export interface Started {
  readonly browser: Browser;
  readonly window: Page;
}

/** vitest's `it`, with the browser for `it.beforeAll`. */
export const it = test.extend<{ $worker: { started: Started } }>({
  started: [
    // biome-ignore lint/correctness/noEmptyPattern: vitest reads from the pattern which fixtures are wanted
    async ({}, use) => {
      const browser = await startBrowser();
      await use({ browser, window: await openWindow(browser, {}) });
      await browser.close();
    },
    { scope: "worker" },
  ],
});

/** Who comes to the page, and with what. */
export interface Visit {
  readonly viewport?: { readonly width: number; readonly height: number };
  /** What the browser's local storage holds. */
  readonly kept?: Readonly<Record<string, string>>;
}

export interface Site {
  readonly url: string;
  /** Where the server keeps its sessions. */
  readonly sessions: string;
  /**
   * The page as somebody finds it who was never here, in the window of the test before. What goes wrong in the
   * page's own code fails the test in close().
   */
  open(path?: string, visit?: Visit): Promise<Page>;
  /** The same in a profile and a window of its own, beside the other. */
  openApart(path?: string, options?: BrowserContextOptions): Promise<Page>;
  close(): Promise<void>;
}

/** @param flags of `exllama serve` */
export async function startSite({ browser, window }: Started, flags: readonly string[] = []): Promise<Site> {
  if (!existsSync(distFile("page/index.html"))) throw new Error("the page is not built: npm run build");
  const sessions = mkdtempSync(join(tmpdir(), "exllama-page-"));
  const server = await startServer(sessions, flags);
  const problems: string[] = [];
  const noteError = (error: Error) => void problems.push(error.stack ?? error.message);
  const noteMessage = (message: ConsoleMessage) => {
    if (message.text().includes("Content Security Policy")) problems.push(message.text());
  };
  const watch = (page: Page) => page.on("pageerror", noteError).on("console", noteMessage);
  watch(window);
  const apart: BrowserContext[] = [];
  return {
    url: server.url,
    sessions,
    async open(path = "/", visit = {}) {
      await forget(window, server.url);
      await prepare(window, visit);
      await window.goto(server.url + path);
      return window;
    },
    async openApart(path = "/", options = {}) {
      const page = watch(await openWindow(browser, options));
      apart.push(page.context());
      await page.goto(server.url + path);
      return page;
    },
    async close() {
      for (const context of apart) await context.close();
      await forget(window, server.url);
      window.off("pageerror", noteError).off("console", noteMessage);
      await server.close();
      rmSync(sessions, { recursive: true, force: true });
      expect(problems).toEqual([]);
    },
  };
}

async function openWindow(browser: Browser, options: BrowserContextOptions): Promise<Page> {
  const context = await browser.newContext({ viewport: DESKTOP, reducedMotion: "reduce", ...options });
  return context.newPage();
}

/** Leaves nothing of what the last test had the browser keep, but for what is fetched again anyway. */
async function forget(page: Page, url: string): Promise<void> {
  await page.unrouteAll({ behavior: "ignoreErrors" });
  await page.context().clearPermissions();
  await page.mouse.move(0, 0);
  // Of the page's own origin, but without its program, which writes when it is left.
  await page.goto(`${url}/favicon.svg`);
  await page.evaluate("localStorage.clear(); sessionStorage.clear()");
}

async function prepare(page: Page, { viewport = DESKTOP, kept = {} }: Visit): Promise<void> {
  await page.setViewportSize(viewport);
  await page.emulateMedia({ colorScheme: "light", reducedMotion: "reduce" });
  await page.evaluate(`Object.assign(localStorage, ${JSON.stringify(kept)})`);
}

async function startBrowser(): Promise<Browser> {
  const script = join(packageRoot, "test/browser/install-chromium.js");
  const executablePath = execFileSync(process.execPath, [script], { encoding: "utf8" }).trim();
  // The sandbox needs privileges that containers lack; /dev/shm is small there.
  return chromium.launch({ executablePath, args: ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"] });
}

async function startServer(sessions: string, flags: readonly string[]): Promise<{ url: string; close(): Promise<void> }> {
  // A pool of a given size needs no second process that looks how much fits.
  const size = ["--max-sequences", "4", "--cache-tokens", "8192"];
  const fixed = ["serve", "--port", "0", "--json", "--backend", "cpu", "--threads", "1", "--log-level", "error", ...size];
  const args = [distFile("cli/main.js"), ...fixed, "--sessions", sessions, ...flags];
  const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !/^(EXLLAMA|XDG)_/.test(name)));
  const child = spawn(process.execPath, args, {
    stdio: ["ignore", "pipe", "pipe"],
    env: { ...env, XDG_CONFIG_HOME: "/nonexistent" },
  });
  const ended = new Promise<void>((resolve) => child.once("close", () => resolve()));
  let complaints = "";
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    complaints += text;
  });
  const url = await new Promise<string>((resolve, reject) => {
    child.stdout.setEncoding("utf8").once("data", (text: string) => resolve((JSON.parse(text) as { url: string }).url));
    child.once("close", () => reject(new Error(`the server ended: ${complaints}`)));
  });
  return {
    url,
    close: () => {
      child.kill("SIGTERM");
      return ended;
    },
  };
}

/** Begins a chat with a message, and waits for the whole answer. */
export async function chat(page: Page, message: string): Promise<void> {
  await send(page, message);
  await answered(page, 1);
}

export async function send(page: Page, message: string): Promise<void> {
  await page.getByRole("textbox", { name: "Message" }).fill(message);
  await page.keyboard.press("Enter");
}

/** Waits until so many answers are complete, and nothing is being written. */
export async function answered(page: Page, count: number): Promise<void> {
  await page
    .locator(".figures", { hasText: "tokens" })
    .nth(count - 1)
    .waitFor();
  await page.getByRole("button", { name: "Send" }).waitFor();
}

/** A chat whose answers go on past the model's end tokens, until somebody stops them. */
export async function startEndlessChat(page: Page): Promise<void> {
  await page.route("**/v1/chat/completions", (route) => {
    const body = JSON.parse(route.request().postData() ?? "{}") as object;
    return route.continue({ postData: JSON.stringify({ ...body, ignore_eos: true, max_tokens: 1900 }) });
  });
  await page.getByRole("button", { name: /^Chat/ }).click();
  await page.getByRole("textbox", { name: "Title of this session" }).waitFor();
}
