import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { sessionContent } from "../../../test/support/session-content.js";
import { UNFINISHED } from "./durable-file.js";
import { SessionConflictError, SessionInvalidError, SessionNotFoundError } from "./errors.js";
import { SessionStore } from "./store.js";

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "sessions-"));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

describe("SessionStore", () => {
  it("gives back what was written, after a restart too", async () => {
    const store = await SessionStore.open(folder);
    const { id, revision } = await store.create(sessionContent());
    const next = await store.write(id, revision, sessionContent({ title: "Two foxes" }));
    expect(next).toMatchObject({ id, revision: 2, title: "Two foxes" });
    const again = await SessionStore.open(folder);
    expect(await again.read(id)).toEqual(next);
    expect((await again.list()).sessions).toMatchObject([{ id, title: "Two foxes", revision: 2, blocks: 2 }]);
  });

  it("refuses a write made from an older revision and says what is there", async () => {
    const store = await SessionStore.open(folder);
    const { id } = await store.create(sessionContent());
    await store.write(id, 1, sessionContent({ title: "mine" }));
    const late = store.write(id, 1, sessionContent({ title: "yours" }));
    await expect(late).rejects.toThrow(SessionConflictError);
    await expect(late).rejects.toMatchObject({ current: { title: "mine", revision: 2 } });
    expect((await store.read(id)).title).toBe("mine");
  });

  it("lets exactly one of many writes from the same revision through", async () => {
    const store = await SessionStore.open(folder);
    const { id } = await store.create(sessionContent());
    const writes = Array.from({ length: 12 }, (_, n) => store.write(id, 1, sessionContent({ title: `${n}` })));
    const settled = await Promise.allSettled(writes);
    expect(settled.filter(({ status }) => status === "fulfilled")).toHaveLength(1);
    expect((await store.read(id)).revision).toBe(2);
  });

  it("keeps a deleted session until it is taken back", async () => {
    const store = await SessionStore.open(folder);
    const { id } = await store.create(sessionContent());
    await store.remove(id);
    expect((await store.list()).sessions).toEqual([]);
    await expect(store.read(id)).rejects.toThrow(SessionNotFoundError);
    expect(await store.restore(id)).toMatchObject({ id, title: "Foxes" });
    expect((await store.list()).sessions).toHaveLength(1);
  });

  it("finds sessions by every word of their titles and texts", async () => {
    const store = await SessionStore.open(folder);
    await store.create(sessionContent({ title: "Ärger im Wald" }));
    await store.create(sessionContent({ title: "Birds", blocks: [], leaf: null }));
    const titles = async (query: string) => (await store.list(query)).sessions.map(({ title }) => title);
    expect(await titles("ONCE fox")).toEqual(["Ärger im Wald"]);
    expect(await titles("ärger")).toEqual(["Ärger im Wald"]);
    expect(await titles("stories")).toHaveLength(2);
    expect(await titles("wald birds")).toEqual([]);
  });

  it.each([
    ["torn", '{"format":"exllama-session","vers'],
    ["not a session", '{"hello":"world"}'],
    ["empty", ""],
  ])("keeps a file aside that is %s, reports it, and goes on with the others", async (_, text) => {
    const store = await SessionStore.open(folder);
    const good = await store.create(sessionContent());
    const bad = "11111111-2222-3333-4444-555555555555";
    await writeFile(join(folder, `${bad}.json`), text);
    const { sessions, problems } = await (await SessionStore.open(folder)).list();
    expect(sessions.map(({ id }) => id)).toEqual([good.id]);
    expect(problems).toMatchObject([{ file: expect.stringContaining(`damaged/${bad}`) }]);
    expect(await readFile(join(folder, problems[0]!.file), "utf8")).toBe(text);
  });

  it("leaves a newer version's session where it is", async () => {
    const store = await SessionStore.open(folder);
    const { id } = await store.create(sessionContent());
    const path = join(folder, `${id}.json`);
    await writeFile(path, (await readFile(path, "utf8")).replace('"version":1', '"version":2,"more":true'));
    const { sessions, problems } = await store.list();
    expect(sessions).toEqual([]);
    expect(problems).toMatchObject([{ file: `${id}.json`, reason: expect.stringContaining("version 2") }]);
    expect(await readdir(folder)).toContain(`${id}.json`);
  });

  it("does not disturb a write that another process has under way", async () => {
    await SessionStore.open(folder);
    await writeFile(join(folder, `${UNFINISHED}fresh`), "x");
    await SessionStore.open(folder);
    expect(await readdir(folder)).toContain(`${UNFINISHED}fresh`);
  });

  it.each(["../../etc/passwd", "..", "", "a", "11111111-2222-3333-4444-55555555555/", "%2e%2e", "x".repeat(5000)])(
    "knows no session %j and touches no file for it",
    async (id) => {
      const store = await SessionStore.open(folder);
      for (const call of [store.read(id), store.write(id, 1, sessionContent()), store.remove(id), store.restore(id)])
        await expect(call).rejects.toThrow(SessionNotFoundError);
    },
  );

  it.each<[string, unknown]>([
    ["null", null],
    ["an unknown field", { ...sessionContent(), evil: 1 }],
    ["a title that is none", { ...sessionContent(), title: 5 }],
    ["a long title", sessionContent({ title: "x".repeat(201) })],
    ["a long text", sessionContent({ text: "x".repeat(2 ** 20 + 1) })],
    ["nine voices", sessionContent({ participants: Array.from({ length: 9 }, (_, n) => ({ name: `${n}`, human: false })) })],
    ["a block twice", sessionContent({ blocks: [sessionContent().blocks[0]!, sessionContent().blocks[0]!], leaf: null })],
    ["a circle", sessionContent({ blocks: [{ ...sessionContent().blocks[0]!, parent: "a" }], leaf: null })],
    ["a leaf that is not there", sessionContent({ leaf: "z" })],
  ])("refuses %s", async (_, value) => {
    const store = await SessionStore.open(folder);
    await expect(store.create(value)).rejects.toThrow(SessionInvalidError);
    expect((await store.list()).sessions).toEqual([]);
  });
});
