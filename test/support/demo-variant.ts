// The embedded model with another chat template, and special tokens under other names: what
// programs see of models that know tools.

import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { demoModel } from "../../src/index.js";

export interface DemoVariant {
  readonly folder: string;
  remove(): void;
}

/** @param renamed special tokens by their names in the demo model */
export function demoVariant(template: string, renamed: Readonly<Record<string, string>> = {}): DemoVariant {
  const folder = mkdtempSync(join(tmpdir(), "demo-variant-"));
  cpSync(demoModel, folder, { recursive: true });
  rmSync(join(folder, "tokenizer.model"));
  const config = JSON.parse(readFileSync(join(folder, "tokenizer_config.json"), "utf8")) as Record<string, unknown>;
  writeFileSync(join(folder, "tokenizer_config.json"), JSON.stringify({ ...config, chat_template: template }));
  let tokenizer = readFileSync(join(folder, "tokenizer.json"), "utf8");
  for (const [name, other] of Object.entries(renamed))
    tokenizer = tokenizer.replaceAll(JSON.stringify(name), JSON.stringify(other));
  writeFileSync(join(folder, "tokenizer.json"), tokenizer);
  return { folder, remove: () => rmSync(folder, { recursive: true }) };
}
