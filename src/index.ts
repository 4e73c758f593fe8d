// The public API. What is exported here is supported; everything else may change.

export {
  AdapterConfigError,
  AdapterNotFoundError,
  AdapterTensorError,
  TorchFileError,
  UnsupportedAdapterError,
} from "./adapters/errors.js";
export {
  CpuLoadError,
  CpuMemoryError,
  CpuRuntimeEndedError,
  NonFiniteTensorError,
} from "./backend/cpu/errors.js";
export { CudaError, CudaUnavailableError, DriverBindingError, DriverMissingError } from "./backend/cuda/driver/errors.js";
export {
  BaselineExceededError,
  CudaLoadError,
  CudaRuntimeEndedError,
  TensorRangeError,
} from "./backend/cuda/errors.js";
export { TensorContentsError } from "./backend/errors.js";
export {
  CheckpointConfigError,
  CheckpointIndexError,
  CheckpointNotFoundError,
  CheckpointReadError,
  RemoteCheckpointError,
  SafetensorsError,
  ShardError,
} from "./checkpoint/errors.js";
export { demoModel, loadModel, plan } from "./engine/client.js";
export {
  BackendUnavailableError,
  DraftMismatchError,
  EngineDiedError,
  GenerationCancelledError,
  ModelDisposedError,
} from "./engine/errors.js";
export type {
  AdapterChoice,
  ChatMessage,
  ChatOptions,
  DeviceMemory,
  EngineStatus,
  FinishReason,
  GenerateOptions,
  Generation,
  GenerationEvent,
  GenerationResult,
  Guesses,
  LikelyToken,
  LoadOptions,
  Model,
  ModelInfo,
  PlanOptions,
  PromptTokenInfo,
  Role,
  SchedulerCounters,
  SchedulerLoad,
  ScoreOptions,
  Speculation,
  TextPart,
  Timings,
  TokenInfo,
  Tool,
  ToolCall,
  ToolCallDelta,
  ToolChoice,
} from "./engine/model.js";
export { ExllamaError, UsageError } from "./errors.js";
export {
  CacheTooSmallError,
  EmptyPromptError,
  GenerationOptionError,
  NoRoomError,
  PromptTooLongError,
  QueueFullError,
  TokenIdError,
  TooManySequencesError,
} from "./generate/errors.js";
export { ArenaTooSmallError, PlanRefusedError } from "./memory/errors.js";
export type { CacheType, RunShape } from "./memory/packing.js";
export type {
  ArenaLayout,
  CacheGroup,
  DevicePlan,
  Plan,
  PlanRefusal,
  PlanSuggestion,
  Region,
  RegionArea,
  SplitMode,
  StageLayout,
} from "./memory/plan.js";
export type { PlanRequestData } from "./memory/plan-request.js";
export {
  MissingTensorError,
  ModelConfigError,
  TensorDtypeError,
  TensorShapeError,
  UnexpectedTensorError,
  UnsupportedModelError,
} from "./model/errors.js";
export { LogitsError, NoTokenAllowedError, SamplingParameterError } from "./sampling/errors.js";
export type { SamplingParameters } from "./sampling/parameters.js";
export type { Constraint } from "./structured/constraint.js";
export { ConstraintError } from "./structured/errors.js";
export { ChatMessageError, ChatTemplateError, TokenizerError } from "./text/errors.js";
export { loadTokenizer } from "./text/load-tokenizer.js";
export type { DecodeOptions, EncodeOptions, Tokenizer } from "./text/tokenizer.js";
