// Everything between the matrix products: embeddings, norms, angles, the gated
// activation. Each is a few kilobytes of traffic per token; what matters is that they are few
// and start fast. fp32 inside, f16 between kernels, the residual stream f32.
#include "code_order.cuh"
#include "deferred_norm.cuh"

namespace exllama {

constexpr int kRowThreads = 256;
constexpr int kAngleThreads = 128;

/// Sum over a block of kRowThreads, the same bits in every thread.
__device__ __forceinline__ float block_sum(float v) {
  __shared__ float warps[kRowThreads / kWarp];
  v = warp_sum(v);
  __syncthreads();
  if (threadIdx.x % kWarp == 0) warps[threadIdx.x / kWarp] = v;
  __syncthreads();
  float sum = 0.f;
#pragma unroll
  for (int w = 0; w < kRowThreads / kWarp; ++w) sum += warps[w];
  return sum;
}

__device__ __forceinline__ float plain_value(const void* source, size_t i, int kind) {
  if (kind == 0) return __half2float(static_cast<const __half*>(source)[i]);
  if (kind == 1) return __bfloat162float(static_cast<const __nv_bfloat16*>(source)[i]);
  return static_cast<const float*>(source)[i];
}

struct EmbedParams {
  const void* table;       // [vocab, hidden] in host memory that the device can read
  const int32_t* ids;      // [m]
  const int32_t* positions;  // [m]; -1: an idle row of a decode bucket
  float* residual;         // [m, hidden]
  const double* half_turns;  // these four as in RopeTableParams
  const int32_t* frequency_row;
  float2* angles;          // null: none are wanted
  int32_t hidden;
  int32_t kind;            // 0 f16, 1 bf16, 2 f32
  int32_t half_dim;
  float factor;
};
static_assert(sizeof(EmbedParams) == 72);

struct NormParams {
  const float* residual;   // [*, hidden]
  const int32_t* rows;     // [m] which rows, or null: 0 .. m - 1
  const __half* weight;    // [hidden]
  __half* y;               // [m, hidden]
  float* hidden_state;     // [m, hidden] the same in f32, or null
  int32_t hidden;
  float eps;
  int32_t ordered;         // y in the order of codes; hidden % 32 == 0 then
  int32_t unused;
};
static_assert(sizeof(NormParams) == 56);

struct DeferredNormParams {
  const float* residual;   // [m, hidden]
  const __half* weight;    // [hidden]
  __half* y;               // [m, hidden] as deferred_norm.cuh says
  float* squares;          // [hidden / 16, places]
  float* carried;          // [m]
  int32_t hidden;
  int32_t places;
  int32_t own;             // 1: there is no norm before: carried becomes each token's own factor
  float eps;
};
static_assert(sizeof(DeferredNormParams) == 56);

struct RopeTableParams {
  const double* half_turns;  // [rows, dim / 2] inverse frequency / pi: half turns per position
  const int32_t* frequency_row;  // [m] row of half_turns, or null: 0 (rows differ with dynamic RoPE only)
  const int32_t* positions;  // [m]
  float2* table;             // [m, dim / 2] cos, sin
  int32_t half_dim;
  float factor;              // multiplies both (yarn's attention factor)
};
static_assert(sizeof(RopeTableParams) == 40);

/// Cosine and sine of pair i. Angles are reduced in double before the sine: f32 would lose them at long contexts.
template <typename Params>
__device__ __forceinline__ float2 angle_of(const Params& p, int position, int row, int i) {
  const int frequencies = p.frequency_row == nullptr ? 0 : p.frequency_row[row];
  const double half_turns = position * p.half_turns[size_t(frequencies) * p.half_dim + i];
  const float reduced = static_cast<float>(half_turns - 2.0 * rint(half_turns * 0.5));
  float sine, cosine;
  sincospif(reduced, &sine, &cosine);
  return make_float2(cosine * p.factor, sine * p.factor);
}

struct SiluMulParams {
  const __half* gate;        // [m, width]
  const __half* up;
  __half* y;
  int64_t count;             // m * width, a multiple of 8
};
static_assert(sizeof(SiluMulParams) == 32);

struct CopyRowsParams {
  const uint4* from;         // rows of 16-byte cells
  uint4* to;
  int64_t cells;
};
static_assert(sizeof(CopyRowsParams) == 24);

}  // namespace exllama

/// A token's embedding, and beside it, by threads of their own, its angles. grid (m), block kRowThreads + kAngleThreads.
extern "C" __global__ void __launch_bounds__(exllama::kRowThreads + exllama::kAngleThreads) embed(const __grid_constant__ exllama::EmbedParams p) {
  using namespace exllama;
  allow_next();
  wait_previous();
  const int row = blockIdx.x, position = p.positions[row];
  if (position < 0) return;
  if (threadIdx.x >= kRowThreads) {
    if (p.angles == nullptr) return;
    for (int i = threadIdx.x - kRowThreads; i < p.half_dim; i += kAngleThreads) p.angles[size_t(row) * p.half_dim + i] = angle_of(p, position, row, i);
    return;
  }
  const size_t from = size_t(p.ids[row]) * p.hidden;
  float* to = p.residual + size_t(row) * p.hidden;
  if (p.kind == 0 && p.hidden % 8 == 0) {  // every trip to the host's memory takes long: few, and under way together
    const uint4* cells = reinterpret_cast<const uint4*>(static_cast<const __half*>(p.table) + from);
#pragma unroll 4
    for (int i = threadIdx.x; i < p.hidden / 8; i += kRowThreads) {
      const uint4 v = cells[i];
      const __half2* h = reinterpret_cast<const __half2*>(&v);
      const float2 a = __half22float2(h[0]), b = __half22float2(h[1]), c = __half22float2(h[2]), d = __half22float2(h[3]);
      reinterpret_cast<float4*>(to)[2 * i] = make_float4(a.x, a.y, b.x, b.y);
      reinterpret_cast<float4*>(to)[2 * i + 1] = make_float4(c.x, c.y, d.x, d.y);
    }
    return;
  }
#pragma unroll 8
  for (int i = threadIdx.x; i < p.hidden; i += kRowThreads) to[i] = plain_value(p.table, from + i, p.kind);
}

/// y = x / sqrt(mean(x^2) + eps) * weight. grid (m), block 256.
extern "C" __global__ void __launch_bounds__(256) rms_norm(const __grid_constant__ exllama::NormParams p) {
  using namespace exllama;
  allow_next();
  wait_previous();
  const float* x = p.residual + size_t(p.rows == nullptr ? blockIdx.x : p.rows[blockIdx.x]) * p.hidden;
  // Four at a time where rows allow it; the few that are left one by one.
  constexpr int kBatch = 4;
  const int cells = p.hidden % 4 == 0 ? p.hidden / 4 : 0;
  const float4* x4 = reinterpret_cast<const float4*>(x);
  float squares = 0.f;
  for (int base = threadIdx.x; base < cells; base += kRowThreads * kBatch) {
    float4 v[kBatch];
#pragma unroll
    for (int b = 0; b < kBatch; ++b) v[b] = base + b * kRowThreads < cells ? x4[base + b * kRowThreads] : make_float4(0.f, 0.f, 0.f, 0.f);
#pragma unroll
    for (int b = 0; b < kBatch; ++b) squares += v[b].x * v[b].x + v[b].y * v[b].y + v[b].z * v[b].z + v[b].w * v[b].w;
  }
  for (int i = 4 * cells + threadIdx.x; i < p.hidden; i += kRowThreads) squares += x[i] * x[i];
  const float scale = rsqrtf(block_sum(squares) / static_cast<float>(p.hidden) + p.eps);
  __half* y = p.y + size_t(blockIdx.x) * p.hidden;
  float* state = p.hidden_state == nullptr ? nullptr : p.hidden_state + size_t(blockIdx.x) * p.hidden;
#pragma unroll 4
  for (int i = threadIdx.x; i < cells; i += kRowThreads) {
    const float4 v = x4[i];
    const uint2 weights = __ldg(reinterpret_cast<const uint2*>(p.weight) + i);
    const float2 low = __half22float2(*reinterpret_cast<const __half2*>(&weights.x)), high = __half22float2(*reinterpret_cast<const __half2*>(&weights.y));
    const float4 out = make_float4(v.x * scale * low.x, v.y * scale * low.y, v.z * scale * high.x, v.w * scale * high.y);
    const __half2 pairs[2] = {__floats2half2_rn(out.x, out.y), __floats2half2_rn(out.z, out.w)};
    store_inputs(y, 4 * i, *reinterpret_cast<const uint2*>(pairs), p.ordered);
    if (state != nullptr) reinterpret_cast<float4*>(state)[i] = out;
  }
  for (int i = 4 * cells + threadIdx.x; i < p.hidden; i += kRowThreads) {
    const float out = x[i] * scale * __half2float(__ldg(p.weight + i));
    y[i] = __float2half_rn(out);
    if (state != nullptr) state[i] = out;
  }
}

/// The same for few rows, where what counts is how soon one is done: read once, weights on their way before the kernel ahead has ended.
/// hidden % 4 == 0, hidden <= 8192; grid (m), block 512.
extern "C" __global__ void __launch_bounds__(512) rms_norm_few(const __grid_constant__ exllama::NormParams p) {
  using namespace exllama;
  constexpr int kThreads = 512, kMost = 4;
  __shared__ float warps[kThreads / kWarp];
  allow_next();
  const int cells = p.hidden / 4;
  const auto cell = [](int b) { return b * kThreads + static_cast<int>(threadIdx.x); };
  uint2 weights[kMost];
#pragma unroll
  for (int b = 0; b < kMost; ++b) weights[b] = cell(b) < cells ? __ldg(reinterpret_cast<const uint2*>(p.weight) + cell(b)) : make_uint2(0, 0);
  wait_previous();
  const float4* x = reinterpret_cast<const float4*>(p.residual + size_t(p.rows == nullptr ? blockIdx.x : p.rows[blockIdx.x]) * p.hidden);
  float4 v[kMost];
#pragma unroll
  for (int b = 0; b < kMost; ++b) v[b] = cell(b) < cells ? x[cell(b)] : make_float4(0.f, 0.f, 0.f, 0.f);
  float squares = 0.f;
#pragma unroll
  for (int b = 0; b < kMost; ++b) squares += v[b].x * v[b].x + v[b].y * v[b].y + v[b].z * v[b].z + v[b].w * v[b].w;
  squares = warp_sum(squares);
  if (threadIdx.x % kWarp == 0) warps[threadIdx.x / kWarp] = squares;
  __syncthreads();
  float sum = 0.f;
#pragma unroll
  for (int w = 0; w < kThreads / kWarp; ++w) sum += warps[w];
  const float scale = rsqrtf(sum / static_cast<float>(p.hidden) + p.eps);
  __half* y = p.y + size_t(blockIdx.x) * p.hidden;
#pragma unroll
  for (int b = 0; b < kMost; ++b) {
    if (cell(b) >= cells) break;
    const float2 low = __half22float2(*reinterpret_cast<const __half2*>(&weights[b].x));
    const float2 high = __half22float2(*reinterpret_cast<const __half2*>(&weights[b].y));
    const float4 out = make_float4(v[b].x * scale * low.x, v[b].y * scale * low.y, v[b].z * scale * high.x, v[b].w * scale * high.y);
    const __half2 pairs[2] = {__floats2half2_rn(out.x, out.y), __floats2half2_rn(out.z, out.w)};
    store_inputs(y, 4 * cell(b), *reinterpret_cast<const uint2*>(pairs), p.ordered);
    if (p.hidden_state != nullptr) reinterpret_cast<float4*>(p.hidden_state + size_t(blockIdx.x) * p.hidden)[cell(b)] = out;
  }
}

/// With what a chain of deferred norms begins (deferred_norm.cuh), bit by bit as BatchFinish leaves it.
/// hidden % 16 == 0, hidden <= 8192; grid (m), block 512.
extern "C" __global__ void __launch_bounds__(512) rms_norm_deferred(const __grid_constant__ exllama::DeferredNormParams p) {
  using namespace exllama;
  constexpr int kThreads = 512, kMost = 4;
  __shared__ float warps[kThreads / kWarp];
  allow_next();
  const int row = blockIdx.x, cells = p.hidden / 4;
  const auto cell = [](int b) { return b * kThreads + static_cast<int>(threadIdx.x); };
  uint2 weights[kMost];
#pragma unroll
  for (int b = 0; b < kMost; ++b) weights[b] = cell(b) < cells ? __ldg(reinterpret_cast<const uint2*>(p.weight) + cell(b)) : make_uint2(0, 0);
  wait_previous();
  float carried = p.carried[row];
  const float4* x = reinterpret_cast<const float4*>(p.residual + size_t(row) * p.hidden);
  float4 v[kMost];
#pragma unroll
  for (int b = 0; b < kMost; ++b) v[b] = cell(b) < cells ? x[cell(b)] : make_float4(0.f, 0.f, 0.f, 0.f);
  // Four threads have the 16 outputs of a sum: those of two and two are eight apart.
  float squares = 0.f;
#pragma unroll
  for (int b = 0; b < kMost; ++b) {
    const auto high = [](float own) { return __shfl_xor_sync(0xffffffffu, own, 2); };
    const float four = __fadd_rn(__fadd_rn(two_squares(v[b].x, high(v[b].x)), two_squares(v[b].y, high(v[b].y))),
                                 __fadd_rn(two_squares(v[b].z, high(v[b].z)), two_squares(v[b].w, high(v[b].w))));
    const float sum = __fadd_rn(four, __shfl_xor_sync(0xffffffffu, four, 1));
    const bool has_sum = threadIdx.x % 4 == 0;
    if (has_sum) squares += sum;
    if (has_sum && cell(b) < cells) p.squares[size_t(cell(b) / 4) * p.places + row] = sum;
  }
  squares = warp_sum(squares);
  if (threadIdx.x % kWarp == 0) warps[threadIdx.x / kWarp] = squares;
  __syncthreads();
  if (p.own) {
    float sum = 0.f;
#pragma unroll
    for (int w = 0; w < kThreads / kWarp; ++w) sum += warps[w];
    carried = rsqrtf(sum / static_cast<float>(p.hidden) + p.eps);
    if (threadIdx.x == 0) p.carried[row] = carried;
  }
  const float factor = carried * kDeferredRoom;
  __half* y = p.y + size_t(row) * p.hidden;
#pragma unroll
  for (int b = 0; b < kMost; ++b) {
    if (cell(b) >= cells) break;
    const float2 low = __half22float2(*reinterpret_cast<const __half2*>(&weights[b].x));
    const float2 high = __half22float2(*reinterpret_cast<const __half2*>(&weights[b].y));
    const __half2 pairs[2] = {__floats2half2_rn(deferred(v[b].x, factor, low.x), deferred(v[b].y, factor, low.y)),
                              __floats2half2_rn(deferred(v[b].z, factor, high.x), deferred(v[b].w, factor, high.y))};
    *reinterpret_cast<uint2*>(y + 4 * cell(b)) = *reinterpret_cast<const uint2*>(pairs);
  }
}

/// Angles of tokens by themselves, as embed has them. grid (m), block dim / 2 rounded up to 32.
extern "C" __global__ void rope_table(const __grid_constant__ exllama::RopeTableParams p) {
  exllama::allow_next();
  exllama::wait_previous();
  const int i = threadIdx.x, row = blockIdx.x;
  const int position = p.positions[row];
  if (i >= p.half_dim || position < 0) return;
  p.table[size_t(row) * p.half_dim + i] = exllama::angle_of(p, position, row, i);
}

/// y = silu(gate) * up, eight at a time. grid-stride.
extern "C" __global__ void __launch_bounds__(256) silu_mul(const __grid_constant__ exllama::SiluMulParams p) {
  exllama::allow_next();
  exllama::wait_previous();
  const int64_t cells = p.count / 8;
  for (int64_t c = blockIdx.x * int64_t(blockDim.x) + threadIdx.x; c < cells; c += int64_t(gridDim.x) * blockDim.x) {
    uint4 gates = reinterpret_cast<const uint4*>(p.gate)[c];
    const uint4 ups = reinterpret_cast<const uint4*>(p.up)[c];
    __half2* g = reinterpret_cast<__half2*>(&gates);
    const __half2* u = reinterpret_cast<const __half2*>(&ups);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float2 a = __half22float2(g[i]), b = __half22float2(u[i]);
      g[i] = __floats2half2_rn(a.x / (1.f + __expf(-a.x)) * b.x, a.y / (1.f + __expf(-a.y)) * b.y);
    }
    reinterpret_cast<uint4*>(p.y)[c] = gates;
  }
}

/// Device to device, also from a peer's memory. grid-stride.
extern "C" __global__ void __launch_bounds__(256) copy_rows(const __grid_constant__ exllama::CopyRowsParams p) {
  exllama::allow_next();
  exllama::wait_previous();
  for (int64_t i = blockIdx.x * int64_t(blockDim.x) + threadIdx.x; i < p.cells; i += int64_t(gridDim.x) * blockDim.x) p.to[i] = p.from[i];
}

namespace exllama {
struct ReadMemoryParams {
  const uint4* from;
  uint32_t* sink;            // written if the bits add up to what they never do
  int64_t cells;
};
static_assert(sizeof(ReadMemoryParams) == 24);
}  // namespace exllama

/// Reads memory and does nothing else: what every kernel's rate is compared with. grid-stride, block 512.
extern "C" __global__ void __launch_bounds__(512) read_memory(const __grid_constant__ exllama::ReadMemoryParams p) {
  using namespace exllama;
  constexpr int kBatch = 8;
  const int64_t step = int64_t(gridDim.x) * blockDim.x;
  uint32_t bits = 0;
  int64_t i = blockIdx.x * int64_t(blockDim.x) + threadIdx.x;
  for (; i + (kBatch - 1) * step < p.cells; i += kBatch * step) {
    uint4 v[kBatch];
#pragma unroll
    for (int b = 0; b < kBatch; ++b) v[b] = load_stream(p.from + i + b * step);
#pragma unroll
    for (int b = 0; b < kBatch; ++b) bits |= v[b].x ^ v[b].y ^ v[b].z ^ v[b].w;
  }
  for (; i < p.cells; i += step) bits |= load_stream(p.from + i).x;
  if (bits == 1 && p.cells < 0) *p.sink = bits;
}

namespace exllama {
/// xorshift-multiply hash: noise that does not depend on the order of threads.
__device__ __forceinline__ uint32_t hash(uint64_t v) {
  v ^= v >> 33; v *= 0xff51afd7ed558ccdull; v ^= v >> 33; v *= 0xc4ceb9fe1a85ec53ull; v ^= v >> 33;
  return static_cast<uint32_t>(v);
}
struct FillParams {
  uint32_t* to;
  int64_t words;
  uint64_t seed;
  int32_t as_half;  // 0: random bits; 1: fp16 pairs, roughly normal with deviation `scale`
  float scale;
};
static_assert(sizeof(FillParams) == 32);
}  // namespace exllama

/// Synthetic weights, made on the device. grid-stride.
extern "C" __global__ void fill_random(const __grid_constant__ exllama::FillParams p) {
  using namespace exllama;
  for (int64_t i = blockIdx.x * int64_t(blockDim.x) + threadIdx.x; i < p.words; i += int64_t(gridDim.x) * blockDim.x) {
    const uint32_t bits = hash(p.seed + i);
    if (!p.as_half) {
      p.to[i] = bits;
      continue;
    }
    // Sum of two uniform bytes, centred: a triangle of unit deviation is close enough to normal here.
    const float a = (static_cast<int>(bits & 255) + static_cast<int>(bits >> 8 & 255) - 255) * (1.f / 104.5f);
    const float b = (static_cast<int>(bits >> 16 & 255) + static_cast<int>(bits >> 24) - 255) * (1.f / 104.5f);
    const __half2 pair = __floats2half2_rn(a * p.scale, b * p.scale);
    p.to[i] = *reinterpret_cast<const uint32_t*>(&pair);
  }
}
