import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { collectAdjustments, visitAdjustments } from "./adjustments.js";
import { GREEDY, type SampleRequest, type SamplingParameters } from "./parameters.js";
import { applyOccurrencePenalties, applyRepetitionPenalty } from "./penalties.js";
import { applyLogitBias, banIds } from "./restrictions.js";

const VOCAB = 12;
const id = fc.nat(VOCAB + 2); // some lie beyond the vocabulary

function request(history: number[], promptLength: number, parameters: Partial<SamplingParameters>): SampleRequest {
  return {
    parameters: { ...GREEDY, ...parameters },
    history: Int32Array.from(history),
    promptLength,
    seed: 0,
    position: 0,
    mask: null,
  };
}

describe("adjustments", () => {
  it("are none where nothing is asked", () => {
    expect(collectAdjustments(request([1, 2, 3], 1, {}), VOCAB).size).toBe(0);
  });

  it("do what the passes over the vocabulary do", () => {
    fc.assert(
      fc.property(
        fc.array(id, { maxLength: 30 }),
        fc.record({
          repetitionPenalty: fc.constantFrom(1, 1.3, 0.5),
          penaltySustain: fc.constantFrom(-1, 0, 3),
          penaltyDecay: fc.constantFrom(0, 4),
          frequencyPenalty: fc.constantFrom(0, 0.25, -1),
          presencePenalty: fc.constantFrom(0, 0.5),
          logitBias: fc.array(fc.tuple(id, fc.constantFrom(1, -2.5, 100)), { maxLength: 4 }),
          bannedIds: fc.array(id, { maxLength: 2 }),
        }),
        fc.float({ min: -8, max: 8, noNaN: true }),
        (history, parameters, offset) => {
          const asked = request(history, Math.floor(history.length / 2), parameters);
          const logits = Float64Array.from({ length: VOCAB }, (_, i) => Math.sin(i * 5) * 6 + offset);
          const adjusted = logits.slice();
          for (const [each, { factor, add }] of collectAdjustments(asked, VOCAB)) {
            const logit = logits[each]!;
            adjusted[each] = (logit > 0 ? logit / factor : logit * factor) + add;
          }
          const visited = new Map<number, { factor: number; add: number }>();
          visitAdjustments(asked, VOCAB, (each, factor, add) => {
            expect(visited.has(each)).toBe(false);
            visited.set(each, { factor, add });
          });
          expect(new Map([...visited].sort())).toEqual(new Map([...collectAdjustments(asked, VOCAB)].sort()));
          const scratch = new Int32Array(VOCAB + 3);
          applyRepetitionPenalty(logits, asked.history, asked.parameters, scratch);
          applyLogitBias(logits, asked.parameters.logitBias);
          applyOccurrencePenalties(logits, asked.history.subarray(asked.promptLength), asked.parameters, scratch);
          banIds(logits, asked.parameters.bannedIds);
          logits.forEach((logit, i) => {
            if (logit === -Infinity) expect(adjusted[i]).toBe(-Infinity);
            else expect(adjusted[i]).toBeCloseTo(logit, 10);
          });
        },
      ),
    );
  });
});
