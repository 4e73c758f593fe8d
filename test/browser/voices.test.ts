// ExLlama's other ways to write: voices that talk, a text that is continued; and the settings.

import type { Page } from "playwright-core";
import { afterAll, describe, expect } from "vitest";
import { fixture } from "../support/fixtures.js";
import { answered, it, type Site, START_MS, send, startSite } from "./harness.js";

let site: Site;
it.beforeAll(async ({ started }) => {
  site = await startSite(started, ["--adapter", `pirate=${fixture("lora-pirate")}`]);
}, START_MS);
afterAll(() => site?.close());

const authors = (page: Page) => page.locator(".block .author").allInnerTexts();

async function start(way: RegExp): Promise<Page> {
  const page = await site.open();
  await page.getByRole("button", { name: way }).click();
  await page.getByRole("button", { name: "Settings", exact: true }).click();
  return page;
}

describe("voices", () => {
  it("two take turns, line by line", async () => {
    const page = await start(/^Two voices/);
    await page.getByLabel("Tokens, at most").fill("12");
    await send(page, "Good morning.");
    await answered(page, 1);
    expect(await authors(page)).toEqual(["You", "Ada"]);
    await send(page, "And now?");
    await answered(page, 2);
    expect(await authors(page)).toEqual(["You", "Ada", "You", "Ada"]);
    for (const text of await page.locator(".theirs .prose").allInnerTexts()) expect(text).not.toMatch(/\n|You:|Ada:/);
  });

  it("a round table of six: the model finds who speaks next among those who did not just speak", async () => {
    const page = await start(/^Round table/);
    await page.getByLabel("Tokens, at most").fill("12");
    for (const name of ["Voice 4", "Voice 5"]) {
      await page.getByRole("button", { name: "Add a voice" }).click();
      await page.getByRole("button", { name: `Remove ${name}` }).waitFor();
    }
    await page.getByRole("textbox", { name: "Name of voice 5" }).fill("Dora");
    await page.keyboard.press("Tab");
    await send(page, "Ben, what is your favourite colour?");
    await answered(page, 1);
    await page.getByRole("button", { name: "Stop", exact: true }).waitFor({ state: "detached" });
    const [first, ...spoke] = await authors(page);
    expect(first).toBe("You");
    expect(spoke.length).toBeGreaterThanOrEqual(1);
    expect(spoke.length).toBeLessThanOrEqual(3);
    const before = [first, ...spoke];
    for (const [index, name] of spoke.entries()) {
      expect(["Ada", "Ben", "Cleo", "Dora", "Voice 5"]).toContain(name);
      expect(name).not.toBe(before[index]);
    }
    await page.getByRole("button", { name: "Cleo", exact: true }).click();
    await answered(page, spoke.length + 1);
    expect((await authors(page)).at(-1)).toBe("Cleo");
  });

  it("a name that is changed is changed in what was said", async () => {
    const page = await start(/^Two voices/);
    await page.getByLabel("Tokens, at most").fill("8");
    await send(page, "Hello.");
    await answered(page, 1);
    await page.getByRole("textbox", { name: "Name of voice 2" }).fill("Fox: the first");
    await page.keyboard.press("Tab");
    await page.locator(".author", { hasText: "Fox the first" }).waitFor();
    expect(await authors(page)).toEqual(["You", "Fox the first"]);
  });
});

describe("free text", () => {
  it("is continued, taken back, and continued again", async () => {
    const page = await start(/^Free text/);
    await page.getByLabel("Tokens, at most").fill("16");
    const text = page.getByRole("textbox", { name: "Text", exact: true });
    await text.fill("Once upon a time there was a fox");
    await page.keyboard.press("Control+Enter");
    await page.getByRole("button", { name: "Take back" }).and(page.locator(":enabled")).waitFor();
    const continued = await text.inputValue();
    expect(continued).toMatch(/^Once upon a time there was a fox./);
    await page.getByText("Token probabilities of the last piece").click();
    expect(await page.locator(".last-tokens .token").count()).toBe(16);
    await page.getByRole("button", { name: "Take back" }).click();
    expect(await text.inputValue()).toBe("Once upon a time there was a fox");
    await page.getByRole("button", { name: "Continue" }).click();
    await page.getByRole("button", { name: "Take back" }).and(page.locator(":enabled")).waitFor();
    await page.waitForTimeout(700);
    const kept = await text.inputValue();
    await page.reload();
    await text.waitFor();
    expect(await text.inputValue()).toBe(kept);
  });

  it("is the same twice with a seed, and the defaults are named beside each control", async () => {
    const page = await start(/^Free text/);
    await page.getByLabel("Tokens, at most").fill("12");
    await page.getByLabel("Seed").fill("7");
    expect(await page.locator(".slider", { hasText: "Temperature" }).innerText()).toContain("Model 0.6 · ExLlama 0.95");
    await page.getByRole("slider", { name: "Temperature" }).fill("1.4");
    await page.getByRole("button", { name: "reset Temperature" }).waitFor();
    const text = page.getByRole("textbox", { name: "Text", exact: true });
    await text.fill("The cat");
    await page.getByRole("button", { name: "Continue" }).click();
    await page.getByRole("button", { name: "Again" }).and(page.locator(":enabled")).waitFor();
    const first = await text.inputValue();
    await page.getByRole("button", { name: "Again" }).click();
    await page.getByRole("button", { name: "Stop", exact: true }).waitFor({ state: "detached" });
    await expect.poll(() => text.inputValue()).toBe(first);
  });
});

describe("settings", () => {
  it("let an adapter weigh in, and take it out again", async () => {
    const page = await start(/^Free text/);
    await page.getByLabel("Tokens, at most").fill("16");
    await page.getByRole("button", { name: "Greedy" }).click();
    const text = page.getByRole("textbox", { name: "Text", exact: true });
    const answers: string[] = [];
    for (const weight of ["0", "2", "0"]) {
      await page.getByRole("slider", { name: "pirate" }).fill(weight);
      await text.fill("Tell me a story about a fox.");
      const answered = page.waitForResponse("**/v1/completions");
      await page.getByRole("button", { name: "Continue" }).click();
      await (await answered).finished();
      await page.getByRole("button", { name: "Continue" }).waitFor();
      answers.push(await text.inputValue());
    }
    expect(answers[2]).toBe(answers[0]);
    expect(answers[1]).not.toBe(answers[0]);
  });
});
