// The pictures in docs/, of the demo model on the CPU.

import { mkdirSync } from "node:fs";
import { join } from "node:path";
import type { Page } from "playwright-core";
import { afterAll, expect } from "vitest";
import { packageRoot } from "../../src/paths.js";
import { answered, chat, it, type Site, START_MS, send, startSite } from "./harness.js";

/** How long the server is kept busy before its charts are shown, ms. */
const BUSY_MS = 210_000;

const docs = join(packageRoot, "docs");
let site: Site;
it.beforeAll(async ({ started }) => {
  mkdirSync(docs, { recursive: true });
  site = await startSite(started, ["--cpu-memory", "384MiB", "--max-sequences", "8", "--threads", "2"]);
}, START_MS);
afterAll(() => site?.close());

/** Answers that are the same each time. */
async function seed(page: Page, value: string): Promise<void> {
  await page.getByRole("button", { name: /^Chat/ }).click();
  await page.getByRole("button", { name: "Settings", exact: true }).click();
  await page.getByLabel("Seed").fill(value);
  await page.getByRole("button", { name: "Close the settings" }).click();
}

it("chat, light", async () => {
  const page = await site.openApart("/", { colorScheme: "light", viewport: { width: 1280, height: 800 } });
  await seed(page, "7");
  await send(page, "What colour is the sky?");
  await answered(page, 1);
  await send(page, "Tell me a story about a fox.");
  await answered(page, 2);
  const answer = page.getByRole("article", { name: "Model said" }).last();
  await answer.getByRole("button", { name: "Token probabilities" }).click();
  // A word that could have been another: the least certain one of the second line or below.
  await answer.locator(".token.p2, .token.p1").nth(4).hover();
  await page.locator(".token-popover").waitFor();
  await page.screenshot({ path: join(docs, "chat-light.png") });
  await page.context().close();
});

it("chat on a phone, dark", async () => {
  const phone = { viewport: { width: 390, height: 780 }, deviceScaleFactor: 1.5, isMobile: true, hasTouch: true };
  const page = await site.openApart("/", { colorScheme: "dark", ...phone });
  await seed(page, "3");
  await chat(page, "Tell me a story about a cat.");
  await page.screenshot({ path: join(docs, "chat-dark-phone.png") });
  await page.context().close();
});

it("the memory page", async () => {
  const page = await site.openApart("/#/memory", { colorScheme: "light", viewport: { width: 1280, height: 960 } });
  await page.getByText(/^now \d/).waitFor();
  const until = Date.now() + BUSY_MS;
  const client = async (pause: number) => {
    while (Date.now() < until) {
      const body = { prompt: "Once upon a time", max_tokens: 120, temperature: 1 };
      const headers = { "content-type": "application/json" };
      const response = await fetch(`${site.url}/v1/completions`, { method: "POST", headers, body: JSON.stringify(body) });
      expect(response.status).toBe(200);
      await response.text();
      await new Promise((resolve) => setTimeout(resolve, pause * (1 + Math.sin(Date.now() / 9000))));
    }
  };
  await Promise.all([600, 900, 1400, 2500].map(client));
  await page.waitForTimeout(2500);
  await page.screenshot({ path: join(docs, "memory.png") });
  await page.context().close();
});
