// The conversation in a real browser, on the demo model.

import { afterAll, describe, expect } from "vitest";
import { answered, chat, it, type Site, START_MS, send, startEndlessChat, startSite } from "./harness.js";

let site: Site;
it.beforeAll(async ({ started }) => {
  site = await startSite(started);
}, START_MS);
afterAll(() => site?.close());

const STORY = "Tell me a story about a fox.";

describe("chat", () => {
  it("answers as a stream, says how fast, and everything is there again after a reload", async () => {
    const page = await site.open();
    await chat(page, STORY);
    const answer = page.getByRole("article", { name: "Model said" });
    const text = await answer.locator(".prose").innerText();
    expect(text.length).toBeGreaterThan(40);
    expect(await answer.locator(".figures").innerText()).toMatch(/^\d+ tokens · [\d.]+ tok\/s/);
    await page.waitForTimeout(700); // changes are written after a moment of quiet
    await page.reload();
    expect(await answer.locator(".prose").innerText()).toBe(text);
    expect(await page.getByRole("article", { name: "You said" }).innerText()).toContain(STORY);
    expect(await page.getByRole("textbox", { name: "Title of this session" }).inputValue()).toBe(STORY);
  });

  it("stops when told to, and keeps what was written", async () => {
    const page = await site.open();
    await startEndlessChat(page);
    await send(page, STORY);
    const answer = page.getByRole("article", { name: "Model said" });
    await answer.locator(".prose").waitFor();
    await page.getByRole("button", { name: "Stop", exact: true }).click();
    await answer.locator(".figures", { hasText: "stopped" }).waitFor();
    expect((await answer.locator(".prose").innerText()).length).toBeGreaterThan(0);
  });

  it("keeps what was written when the page is left in the middle of an answer", async () => {
    const page = await site.open();
    await startEndlessChat(page);
    await send(page, STORY);
    const answer = page.getByRole("article", { name: "Model said" });
    await answer.locator(".prose").waitFor();
    const before = (await answer.locator(".prose").innerText()).trim().slice(0, 20);
    await page.reload();
    await answer.locator(".prose").waitFor();
    expect((await answer.locator(".prose").innerText()).slice(0, before.length)).toBe(before);
  });

  it("edits a message on a branch of its own and goes back to the first", async () => {
    const page = await site.open();
    await chat(page, "What colour is the sky?");
    const question = page.getByRole("article", { name: "You said" });
    await question.hover();
    await question.getByRole("button", { name: "Edit" }).click();
    await question.getByRole("textbox", { name: "Text" }).fill("What is the opposite of hot?");
    await question.getByRole("button", { name: "Send as new version" }).click();
    await answered(page, 1);
    expect(await question.innerText()).toContain("opposite");
    expect(await question.locator(".branches").innerText()).toMatch(/2\s*\/\s*2/);
    await question.getByRole("button", { name: "Earlier version" }).click();
    expect(await question.locator(".prose").innerText()).toBe("What colour is the sky?");
  });

  it("answers again beside the first answer, edits an answer in place, deletes, and takes that back", async () => {
    const page = await site.open();
    await chat(page, "What colour is the sky?");
    const answer = page.getByRole("article", { name: "Model said" });
    await answer.getByRole("button", { name: "Answer again" }).click();
    await answer.getByText("2 / 2").waitFor();
    await answered(page, 1);
    await answer.getByRole("button", { name: "Edit" }).click();
    await answer.getByRole("textbox", { name: "Text" }).fill("It is **green**.");
    await answer.getByRole("button", { name: "Save" }).click();
    expect(await answer.locator("strong").innerText()).toBe("green");
    await answer.getByRole("button", { name: "Delete this" }).click();
    // The other version takes its place.
    await answer.getByText("2 / 2").waitFor({ state: "detached" });
    await page.getByRole("button", { name: "Undo" }).click();
    expect(await answer.locator("strong").innerText()).toBe("green");
  });

  it("shows the likeliest tokens where the pointer or the arrow keys are", async () => {
    const page = await site.open();
    await chat(page, "What colour is the sky?");
    const answer = page.getByRole("article", { name: "Model said" });
    await answer.locator(".token").first().hover();
    const popover = page.locator(".token-popover");
    await popover.waitFor();
    expect(await popover.locator("li").count()).toBe(5);
    expect(await popover.locator("p").innerText()).toMatch(/%/);
    await page.mouse.move(5, 5);
    await popover.waitFor({ state: "detached" });
    await answer.getByRole("button", { name: "Token probabilities" }).click();
    await answer.getByRole("group", { name: /Token probabilities/ }).focus();
    await page.keyboard.press("ArrowRight");
    await popover.waitFor();
    expect(await page.getByRole("status").innerText()).toMatch(/%. Others: /);
  });

  it("renders Markdown without running what is in it", async () => {
    const page = await site.open();
    await chat(page, "Hello");
    const answer = page.getByRole("article", { name: "Model said" });
    await answer.getByRole("button", { name: "Edit" }).click();
    const hostile = [
      "<img src=x onerror=\"document.title='run'\"><script>document.title='run'</script>",
      "[link](javascript:document.title='run') ![picture](http://example.invalid/x.png)",
      "```js\nconst a = 1 < 2;\n```",
    ].join("\n\n");
    await answer.getByRole("textbox", { name: "Text" }).fill(hostile);
    await answer.getByRole("button", { name: "Save" }).click();
    await answer.locator("pre code").waitFor();
    expect(await answer.locator("img, script").count()).toBe(0);
    expect(await answer.locator('a[href^="javascript"]').count()).toBe(0);
    expect(await answer.locator(".prose").innerText()).toContain("<script>");
    expect(await page.title()).toBe("exllama");
    await page.context().grantPermissions(["clipboard-read", "clipboard-write"]);
    await answer.locator(".code").getByRole("button", { name: "Copy" }).click();
    expect(await page.evaluate("navigator.clipboard.readText()")).toBe("const a = 1 < 2;\n");
  });
});
