// Every example runs as a reader would run it, on the embedded model.

import { execFile } from "node:child_process";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { packageRoot } from "../../src/paths.js";
import { type DemoServer, serveDemo } from "../server/demo-server.js";
import { oneCore } from "../support/one-core.js";

const run = promisify(execFile);
const folder = join(packageRoot, "examples");

const SAYS: Record<string, RegExp> = {
  "basic.js": /^llama, GPTQ 4-bit.*\n.+\(length, \d+ tokens\/s\)\n$/s,
  "batch.js": /^1\. Once upon a time.+\n2\. The little fox.+\n3\. In the morning.+\n4\. A red balloon.+\n$/s,
  "streaming.js": /^> What color is the sky\?\n.*blue.*\n\n> Tell me a story about a dog\.\n.{60,}\n\n$/s,
  "guidance.js": /^scale 1: (.+)\n\nscale 1\.25: (?!\1\n).+\n\nscale 1\.5: .+\n\n$/s,
  "beams.js": /^greedy: The bird.+\n\n2 beams, 8 ahead: The bird.+\n\n4 beams, 16 ahead: The bird.+\n\n$/s,
  "json.js": /^schema: {2}\{.*kind: '(cat|dog|bird|fish)'.*\}\npattern: 20\d\d-\d\d-\d\d\nchoice: {2}(happy|sad|hungry)\n$/s,
  "tools.js": /^add\(\{"a":\d+,"b":\d+\}\) = \d+\n.+\n$/s,
  "loras.js": /^the model itself: .+\n\npirate: Arr.+\n\nbrief: .+\n\nhalf a pirate, and brief: .+\n\n$/s,
  "multibot.js": /^Mia: .+\n(?:(?:Ann|Bob|Kit): .+\n){2}Tom: .+\n(?:(?:Ann|Bob|Kit): .+\n){2}$/,
  "openai-client.js": /^model: demo\n.+\n\{ animal: '(fox|cat|dog)' \}\n$/s,
  "ai-sdk.js": /^.+\n\{ name: .+, color: '(red|blue|green)', wings: [12] \}\n$/s,
};

describe("the examples", () => {
  let server: DemoServer;
  beforeAll(async () => {
    server = await serveDemo();
  });
  afterAll(() => server.close());

  it("are all here, and in their table", () => {
    expect(
      readdirSync(folder)
        .filter((name) => name.endsWith(".js"))
        .sort(),
    ).toEqual(Object.keys(SAYS).sort());
  });

  it.each(Object.keys(SAYS))("%s runs and says what it shows", async (name) => {
    const env = { ...process.env, ...oneCore, OPENAI_BASE_URL: `${server.url}/v1`, OPENAI_API_KEY: "none", NO_COLOR: "1" };
    const { stdout, stderr } = await run(process.execPath, [join(folder, name)], { env, timeout: 60_000 });
    expect(stdout).toMatch(SAYS[name]!);
    expect(stderr).toBe("");
  });
});
