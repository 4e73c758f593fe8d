import { describe, expect, it } from "vitest";
import { fixture } from "../../../test/support/fixtures.js";
import { openCheckpoint } from "../../checkpoint/local.js";
import { cacheGroups } from "../../memory/cache-groups.js";
import { RegionIndex } from "../../memory/regions.js";
import { readModel } from "../../model/read.js";
import { allocateArenas } from "./arena-memory.js";
import { CpuRuntimeEndedError } from "./errors.js";
import { cpuExactPacking } from "./packing.js";
import { stepWords } from "./step-message.js";
import { Team } from "./team.js";
import { planTestModel } from "./test-model.js";
import { loadKernelModules } from "./wasm-module.js";

async function startTeam(threads: number) {
  const checkpoint = await openCheckpoint(fixture("tiny/llama-mha"));
  await checkpoint.close();
  const { plan, spec } = planTestModel(readModel(checkpoint), cpuExactPacking, {});
  const stage = plan.devices[0]!.stage!;
  const memories = allocateArenas(stage);
  const { offset, bytes } = new RegionIndex(stage).get("scratch.control", 0);
  const windows = cacheGroups(spec, plan.run).map(({ window }) => window);
  const modules = await loadKernelModules();
  const start = { modules, memories, spec, run: plan.run, stage, windows, exact: true, threads };
  const control = new Int32Array(memories[0]!.buffer, offset, bytes / 4);
  return { team: await Team.start(start, control), control, at: stepWords(spec, plan.run) };
}

describe("Team", () => {
  it("gives every worker its share of a job", async () => {
    const { team } = await startTeam(3);
    try {
      expect(await team.job({ kind: "check", arena: 0, at: 65536, count: 1000, value: 0 })).toEqual([-1, -1, -1]);
    } finally {
      await team.end();
    }
  });

  it("ends with a typed error, every thread gone, when one of them fails", async () => {
    const { team } = await startTeam(2);
    const broken = team.job({ kind: "check", arena: 7, at: 0, count: 1, value: 0 });
    await expect(broken).rejects.toThrow(CpuRuntimeEndedError);
    await expect(team.step()).rejects.toThrow(/compute thread failed/);
    await team.end();
  });

  it("frees those who wait at the barrier for one that broke in the middle of a step", async () => {
    const { team, control, at } = await startTeam(3);
    await team.serve(new Map());
    control.set([1, 1, 1, 0], at.task);
    control.set([0, 1, 0], at.entryTable);
    control[at.pageTable] = 1000; // no such page: whoever writes there is out of bounds
    await expect(team.step()).rejects.toThrow(/compute thread failed.*bounds/);
    await team.end();
  });

  it("frees a step that waits for a thread which never comes", async () => {
    const { team } = await startTeam(2);
    const freed = expect(team.step()).rejects.toThrow(CpuRuntimeEndedError); // nobody serves yet: nothing will answer
    await team.end();
    await freed;
  });
});
