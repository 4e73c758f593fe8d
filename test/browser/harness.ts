// A server with the demo model and a browser, for the tests of one file.

import { execFileSync, spawn } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Browser, type BrowserContextOptions, chromium, type Page } from "playwright-core";
import { expect } from "vitest";
import { distFile, packageRoot } from "../../src/paths.js";

/** Installing the browser may be part of the first start, ms. */
export const START_MS = 300_000;

export interface Site {
  readonly url: string;
  /** Where the server keeps its sessions. */
  readonly sessions: string;
  /** A fresh browser profile on the page; what goes wrong in the page's own code fails the test in close(). */
  open(path?: string, options?: BrowserContextOptions): Promise<Page>;
  close(): Promise<void>;
}

/** @param flags of `exllama serve` */
export async function startSite(flags: readonly string[] = []): Promise<Site> {
  if (!existsSync(distFile("page/index.html"))) throw new Error("the page is not built: npm run build");
  const sessions = mkdtempSync(join(tmpdir(), "exllama-page-"));
  const [server, browser] = await Promise.all([startServer(sessions, flags), startBrowser()]);
  const problems: string[] = [];
  return {
    url: server.url,
    sessions,
    async open(path = "/", options = {}) {
      const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, reducedMotion: "reduce", ...options });
      const page = await context.newPage();
      page.on("pageerror", (error) => problems.push(error.stack ?? error.message));
      page.on("console", (message) => {
        if (message.text().includes("Content Security Policy")) problems.push(message.text());
      });
      await page.goto(server.url + path);
      return page;
    },
    async close() {
      await browser.close();
      await server.close();
      rmSync(sessions, { recursive: true, force: true });
      expect(problems).toEqual([]);
    },
  };
}

async function startBrowser(): Promise<Browser> {
  const script = join(packageRoot, "test/browser/install-chromium.js");
  const executablePath = execFileSync(process.execPath, [script], { encoding: "utf8" }).trim();
  // The sandbox needs privileges that containers lack; /dev/shm is small there.
  return chromium.launch({ executablePath, args: ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"] });
}

async function startServer(sessions: string, flags: readonly string[]): Promise<{ url: string; close(): Promise<void> }> {
  const fixed = ["serve", "--port", "0", "--json", "--backend", "cpu", "--threads", "1", "--log-level", "error"];
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
