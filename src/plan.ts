// The planner by itself: pure arithmetic that runs in a browser too. `exllama-ts/plan` plans a
// model from its headers for devices that need not be here.

export { cpuExactPacking, cpuPacking } from "./backend/cpu/packing.js";
export { cudaPacking } from "./backend/cuda/packing.js";
export type { CheckpointConfigs, CheckpointHeaders, Dtype, TensorInfo } from "./checkpoint/checkpoint.js";
export { fetchCheckpointHeaders, type RemoteOptions } from "./checkpoint/remote.js";
export { ExllamaError, UsageError } from "./errors.js";
export { describesDevices, parseDevices } from "./memory/devices.js";
export { ArenaTooSmallError, PlanRefusedError } from "./memory/errors.js";
export { type ExplainOptions, explainPlan, explainRefusal } from "./memory/explain.js";
export { type LayerRange, layout } from "./memory/layout.js";
export type { CacheType, Packing, RegionSize, RunShape, StageShape } from "./memory/packing.js";
export type {
  ArenaLayout,
  CacheGroup,
  DevicePlan,
  Plan,
  PlanDevice,
  PlanRefusal,
  PlanSuggestion,
  Region,
  RegionArea,
  SplitMode,
  StageLayout,
} from "./memory/plan.js";
export { planToJson, refusalToJson } from "./memory/plan-json.js";
export { type PlanRequest, planModel } from "./memory/plan-model.js";
export type { PlanRequestData } from "./memory/plan-request.js";
export { recheckPlan } from "./memory/recheck.js";
export { formatBytes, parseSize } from "./memory/size.js";
export { parseGpuSplit } from "./memory/split.js";
export { readModel } from "./model/read.js";
export type { ModelSpec } from "./model/spec.js";
