// Everybody can use the page: no serious finding of axe in any theme, at any width; everything
// by keyboard; a screen reader hears of answers without chatter; with a key where one is wanted.

import axe from "axe-core";
import type { Page } from "playwright-core";
import { afterAll, describe, expect } from "vitest";
import { answered, chat, it, type Site, START_MS, send, startEndlessChat, startSite, type Visit } from "./harness.js";

const KEY = "a-key-for-tests";

let site: Site;
it.beforeAll(async ({ started }) => {
  site = await startSite(started, ["--api-key", KEY]);
}, START_MS);
afterAll(() => site?.close());

const PHONE = { width: 390, height: 800 };

const open = (path = "/", visit: Visit = {}) => site.open(path, { kept: { "exllama.key": KEY }, ...visit });

/** Serious and critical findings in each of these themes, one line each. */
async function findings(page: Page, themes: readonly Theme[]): Promise<string[]> {
  // Past the page's own policy, as the tests' tools may.
  if (!(await page.evaluate("'axe' in window"))) await page.evaluate(axe.source);
  const lines: string[] = [];
  for (const colorScheme of themes) {
    await page.emulateMedia({ colorScheme });
    const { violations } = (await page.evaluate('axe.run(document, { resultTypes: ["violations"] })')) as axe.AxeResults;
    for (const { id, impact, nodes } of violations)
      if (impact === "serious" || impact === "critical")
        lines.push(...nodes.map(({ html, failureSummary }) => `${colorScheme}, ${id}: ${html} ${failureSummary}`));
  }
  return lines;
}

type Theme = "light" | "dark";

describe.each<[string, { width: number; height: number }, Theme[]]>([
  ["desktop", { width: 1280, height: 800 }, ["light", "dark"]],
  ["phone", PHONE, ["dark"]],
])("axe, %s", (_, viewport, themes) => {
  it("finds nothing serious on the conversation and its settings", async () => {
    const page = await open("/", { viewport });
    await page.getByRole("heading", { name: "What shall we write?" }).waitFor();
    expect(await findings(page, themes)).toEqual([]);
    await chat(page, "What colour is the sky?");
    await page.getByRole("button", { name: "Token probabilities" }).click();
    await page.getByRole("button", { name: "Settings", exact: true }).click();
    expect(await findings(page, themes)).toEqual([]);
  });

  it("finds nothing serious on the memory page, with a plan that fits and one that does not", async () => {
    const page = await open("/#/memory", { viewport });
    await page.getByText(/^now \d/).waitFor();
    expect(await findings(page, themes)).toEqual([]);
    await page.getByRole("slider", { name: "Context" }).fill("512");
    await page.getByText("Fits.").waitFor();
    expect(await findings(page, themes)).toEqual([]);
    await page.getByRole("slider", { name: "Most on cpu" }).fill("0");
    await page.getByText("Refused.").waitFor();
    expect(await findings(page, themes)).toEqual([]);
  });
});

describe("keyboard and screen reader", () => {
  it("begin, stop, edit and move through a conversation without a pointer", async () => {
    const page = await open();
    await expect.poll(() => focused(page)).toBe("Message");
    await startEndlessChat(page);
    await page.getByRole("textbox", { name: "Message" }).focus();
    await page.keyboard.type("Tell me a story about a fox.");
    await page.keyboard.press("Enter");
    await page.locator(".theirs .prose").waitFor();
    await page.keyboard.press("Escape");
    await page.locator(".figures", { hasText: "stopped" }).waitFor();
    expect(await focused(page)).toBe("Message");
    // Backwards from the message through the answer's buttons.
    for (let steps = 0; steps < 12 && (await focused(page)) !== "Edit"; steps++) await page.keyboard.press("Shift+Tab");
    await page.keyboard.press("Enter");
    expect(await focused(page)).toBe("Text");
    await page.keyboard.type(" The end.");
    await page.keyboard.press("Control+Enter");
    await page.locator(".theirs .prose", { hasText: "The end." }).waitFor();
  });

  it("skip the list of sessions", async () => {
    const page = await open();
    await page.getByRole("heading", { name: "What shall we write?" }).waitFor();
    await page.getByRole("link", { name: /^Skip/ }).focus();
    await page.keyboard.press("Enter");
    expect(await page.evaluate("document.activeElement.id")).toBe("main");
  });

  it("hear that an answer begins and ends, in few announcements", async () => {
    const page = await open();
    await page.evaluate(`
      window.heard = [];
      const region = document.querySelector("[role=status]");
      new MutationObserver(() => region.textContent !== window.heard.at(-1) && window.heard.push(region.textContent)).observe(region, { childList: true, characterData: true, subtree: true });
    `);
    await send(page, "Tell me a story about a fox.");
    await answered(page, 1);
    const heard = (await page.evaluate("window.heard")) as string[];
    if (heard[0] === "") heard.shift(); // the region itself appears
    expect(heard[0]).toBe("The model is answering.");
    expect(heard.at(-1)).toMatch(/Answer finished\.$/);
    expect(heard.length).toBeLessThan(8);
    const words = heard.slice(1).join(" ").replace(" Answer finished.", "").split(/\s+/);
    const shown = (await page.locator(".theirs .prose").innerText()).split(/\s+/);
    expect(words.filter(Boolean)).toEqual(shown.filter(Boolean));
  });
});

describe("on a phone", () => {
  it("opens the list and the settings over the conversation, which never is wider than the screen", async () => {
    const storageState = { cookies: [], origins: [{ origin: site.url, localStorage: [{ name: "exllama.key", value: KEY }] }] };
    const page = await site.openApart("/", { storageState, viewport: PHONE, hasTouch: true, isMobile: true });
    await page.getByRole("button", { name: /^Chat/ }).tap();
    await page.getByRole("textbox", { name: "Title of this session" }).waitFor();
    await page.getByRole("button", { name: "Sessions" }).tap();
    await page.getByRole("link", { name: "Memory" }).tap();
    await page.getByText(/^now \d/).waitFor();
    expect(await page.evaluate("document.documentElement.scrollWidth")).toBeLessThanOrEqual(PHONE.width);
    await page.goBack();
    await page.getByRole("button", { name: "Settings", exact: true }).tap();
    expect(await focused(page)).toBe("Close the settings");
    await page.keyboard.press("Escape");
    await page.getByRole("complementary", { name: "Settings of this session" }).waitFor({ state: "detached" });
    expect(await focused(page)).toBe("Settings");
    expect(await page.evaluate("document.documentElement.scrollWidth")).toBeLessThanOrEqual(PHONE.width);
  });
});

describe("a server that wants a key", () => {
  it("is asked for it, and opened with it", async () => {
    const page = await site.open();
    await page.getByRole("dialog").getByLabel("Key").fill("another-key");
    await page.keyboard.press("Enter");
    await page.getByRole("heading", { name: "That key does not open this" }).waitFor();
    await page.getByRole("dialog").getByLabel("Key").fill(KEY);
    await page.getByRole("button", { name: "Use it" }).click();
    await page.getByRole("heading", { name: "What shall we write?" }).waitFor();
    await page.reload();
    await page.getByRole("heading", { name: "What shall we write?" }).waitFor();
    expect(await page.getByRole("dialog").count()).toBe(0);
  });
});

function focused(page: Page): Promise<string | null> {
  return page.evaluate("document.activeElement?.getAttribute('aria-label')");
}
