import { describe, expect, it } from "vitest";
import { LogitsError, NoTokenAllowedError } from "../../../sampling/errors.js";
import { logSoftmaxAt } from "../../../sampling/logprobs.js";
import { GREEDY, type SamplingParameters } from "../../../sampling/parameters.js";
import type { OutputRequest } from "../../backend.js";
import { finishOutput, needsLogits } from "./outputs.js";

const LOGITS = Float32Array.of(1, 3, 2.5, 3, -1);
const NO_ID = 0x7fffffff;

function request(changes: Partial<OutputRequest>, parameters: Partial<SamplingParameters> | null = null): OutputRequest {
  const sample = parameters && {
    parameters: { ...GREEDY, ...parameters },
    history: Int32Array.of(1),
    promptLength: 0,
    seed: 1,
    position: 1,
    mask: null,
  };
  return { index: 0, sample, target: null, topLogprobs: 0, logits: false, hidden: false, ...changes };
}

/** What the kernel finds out about a row. */
function factsOf(logits: Float32Array, target: number | null, chosen: number): DataView {
  const facts = new DataView(new ArrayBuffer(32));
  const highest = Math.max(...logits.filter((logit) => logit < Infinity));
  facts.setFloat32(0, highest, true);
  facts.setFloat32(
    4,
    logits.reduce((sum, logit) => sum + Math.exp(logit - highest), 0),
    true,
  );
  facts.setFloat32(8, target === null ? 0 : logits[target]!, true);
  facts.setInt32(12, logits.indexOf(highest), true);
  const bad = logits.findIndex((logit) => !(logit < Infinity));
  facts.setInt32(16, bad < 0 ? NO_ID : bad, true);
  facts.setInt32(20, chosen, true);
  facts.setFloat32(24, chosen < 0 ? 0 : logits[chosen]!, true);
  return facts;
}

/** @param chosen by the device; `null`: it was not asked */
const finish = (asked: OutputRequest, { logits = LOGITS, chosen = null as number | null } = {}) =>
  finishOutput(asked, chosen !== null, factsOf(logits, asked.target, chosen ?? 1), 0, {
    vocabSize: logits.length,
    logits: async () => logits,
    hidden: () => Float32Array.of(7),
  });

describe("outputs", () => {
  it("of the device's choices and of targets need no logits", async () => {
    const asked = request({ target: 2 }, { temperature: 1 });
    expect(needsLogits(asked, true)).toBe(false);
    const output = await finish(asked, { chosen: 4 });
    expect(output).toMatchObject({ id: 4, top: [], logits: null, hidden: null });
    expect(output.logprob).toBeCloseTo(logSoftmaxAt(LOGITS, 4), 6);
    expect(output.targetLogprob).toBeCloseTo(logSoftmaxAt(LOGITS, 2), 6);
  });

  it.each<[Partial<OutputRequest>, Partial<SamplingParameters> | null, boolean]>([
    [{}, { temperature: 0.8 }, false],
    [{ topLogprobs: 2 }, null, false],
    [{ logits: true }, null, false],
    [{ logits: true }, {}, true],
  ])("of %j with %j look at the row", (changes, parameters, chosen) => {
    expect(needsLogits(request(changes, parameters), chosen)).toBe(true);
  });

  it("say so when the device found nothing that may be chosen", async () => {
    await expect(finish(request({}, { bannedIds: [0, 1, 2, 3, 4] }), { chosen: -1 })).rejects.toThrow(NoTokenAllowedError);
  });

  it("follow the host's sampler where the device did not choose", async () => {
    expect((await finish(request({}, { bannedIds: [1] }))).id).toBe(3);
    expect((await finish(request({}, { logitBias: [[4, 9]] }))).id).toBe(4);
  });

  it("copy what is asked for", async () => {
    const output = await finish(request({ logits: true, hidden: true, topLogprobs: 2 }));
    expect(output.logits).toEqual(LOGITS);
    expect(output.logits).not.toBe(LOGITS);
    expect(output.hidden).toEqual(Float32Array.of(7));
    expect(output.top.map(({ id }) => id)).toEqual([1, 3]);
    expect(output.id).toBeNull();
  });

  it("name the logit that is no number", async () => {
    const broken = Float32Array.of(1, Number.NaN, 2);
    for (const asked of [request({}, {}), request({ target: 0 }), request({}, { temperature: 1 })])
      await expect(finish(asked, { logits: broken, chosen: asked.sample ? 0 : null })).rejects.toThrow(LogitsError);
    // Whoever asks for the logits themselves gets them.
    expect((await finish(request({ logits: true }), { logits: broken })).logits).toEqual(broken);
  });
});
