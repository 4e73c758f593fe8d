import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { fixture } from "../../test/support/fixtures.js";
import { openCheckpoint } from "../checkpoint/local.js";
import { readModel } from "../model/read.js";
import type { ModelSpec } from "../model/spec.js";
import { checkVocabularies, openDraft } from "./draft.js";
import { loadModelText, type ModelText } from "./model-text.js";

const draftFolder = fixture("draft-fp16");
const demo = fixture("demo-gptq-4bit-g128");

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "exllama-draft-"));
  cpSync(draftFolder, folder, { recursive: true });
});
afterEach(() => rmSync(folder, { recursive: true }));

async function demoModel(): Promise<{ spec: ModelSpec; text: ModelText }> {
  const checkpoint = await openCheckpoint(demo);
  await checkpoint.close();
  return { spec: readModel(checkpoint), text: await loadModelText(demo) };
}

async function check(change: (spec: ModelSpec) => ModelSpec = (spec) => spec): Promise<void> {
  const draft = await openDraft(folder);
  try {
    await checkVocabularies(await demoModel(), { ...draft, spec: change(draft.spec) });
  } finally {
    await draft.checkpoint.close();
  }
}

function changeTokenizer(change: (vocab: Record<string, number>) => void): void {
  const path = join(folder, "tokenizer.json");
  const file = JSON.parse(readFileSync(path, "utf8")) as { model: { vocab: Record<string, number> } };
  change(file.model.vocab);
  writeFileSync(path, JSON.stringify(file));
}

describe("a draft model", () => {
  it("is taken with the same tokens, whatever the rows beyond them are", async () => {
    await check();
    await check((spec) => ({ ...spec, vocabSize: spec.vocabSize + 64 }));
  });

  it("is refused with another token, which is named", async () => {
    changeTokenizer((vocab) => {
      [vocab.e, vocab.f] = [vocab.f!, vocab.e!];
    });
    const message = expect.stringMatching(/"[ef]" as token \d+, not "[ef]"/);
    await expect(check()).rejects.toMatchObject({ code: "DRAFT_MISMATCH", message });
  });

  it("is refused with other rows where there is no tokenizer to compare", async () => {
    for (const file of ["tokenizer.json", "tokenizer_config.json"]) rmSync(join(folder, file));
    await check();
    const more = check((spec) => ({ ...spec, vocabSize: spec.vocabSize + 64 }));
    await expect(more).rejects.toMatchObject({ code: "DRAFT_MISMATCH", message: expect.stringMatching(/4160 tokens, not 4096/) });
  });

  it("is refused when it lies elsewhere", async () => {
    await expect(openDraft("hf:owner/name")).rejects.toThrow(/remote address/);
  });
});
