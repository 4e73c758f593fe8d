// Quantised linears for some dozens of tokens, batches of decode steps and short prompts, on any card; Hopper has
// linear_batch_wgmma.cu.
//
//   y_i[m, n_i] = sum_k x[m, k] * scale * (code - zero)_i[n_i, k]
//
// for up to three weights that share x, in two launches: linear_batch_* leaves fp32 sums of pieces of k, and one of
// batch_sum, batch_silu, batch_norm adds these up and makes of them what comes next.
//
// Strategy   Every multiprocessor gets the same number of slices of k (stream-k), whatever the shape: a block works through
//            its run of slices, through units of 128 outputs, with one ring of stages that never runs dry in
//            between; weights of the first stages are on their way before the kernel ahead has ended. Sums
//            of a unit that is shared by blocks meet in the launch that follows, which has to be one
//            anyway for silu and the norms: no block ever waits for another.
//            Weights are operand A of mma.m16n8k16, dequantised to fp16 in registers, rounded once, as expand_* does; x is
//            operand B. Warps divide a unit by outputs, by tokens (beyond 64) and by k; a warp's row tiles share each load of x
//            from shared memory. Warps that share outputs add their sums in a fixed order.
//            So the bits depend on the launch's shape, never on timing.
// Layout     weights: quantized.cuh. A stage: codes [8 row tiles][chunks][...], scales [8][groups][16],
//            zeros [8][groups][...], x [tokens][k of a stage], whose 16-byte cells are exchanged (cell ^ 4 in odd rows) so that
//            eight lanes reading four cells of two rows meet all banks.
//            pieces: [block + unit][tokens][128] f32.
// Limits     m <= 128; k % 64 == 0 after padding, k_valid % 8 == 0 and 16-byte aligned rows of x; shared memory by batchLaunch()
// Reference  linear_quantized_ref
#include "linear_batch_load.cuh"

namespace exllama {

/// What turns a lane's codes of rows g and g + 8 into weights.
template <int kBits>
struct RowWeights {
  __half2 scale[2], less[2];

  /// `scales`, `zeros`: of the row tile and group.
  __device__ __forceinline__ RowWeights(const uint8_t* scales, const uint8_t* zeros, int g) {
    const __half* s = reinterpret_cast<const __half*>(scales);
    scale[0] = __half2half2(s[g]);
    scale[1] = __half2half2(s[g + 8]);
    uint32_t zero[2];
    if constexpr (kBits == 8) {
      zero[0] = zeros[g], zero[1] = zeros[g + 8];
    } else {
      const uint2 z = *reinterpret_cast<const uint2*>(zeros);
      zero[0] = z.x >> (4 * g) & 15u, zero[1] = z.y >> (4 * g) & 15u;
    }
    // 1024 + zero, and for the codes that raw_fragment() leaves 16 times as large -(64 + zero), by their bits.
    less[0] = twice(0x6400u | zero[0]);
    less[1] = twice(Codes<kBits>::raw_factor(1) == 16 ? 0xd400u | zero[1] << 4 : 0x6400u | zero[1]);
  }

  /// Fragment of mma j, fp16(scale * (code - zero)).
  __device__ __forceinline__ void fragment(const Codes<kBits>& codes, int j, uint32_t (&a)[4]) const {
    codes.raw_fragment(j, a);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int h = i & 1;  // a[1] and a[3] are row g + 8
      __half2 v = *reinterpret_cast<__half2*>(&a[i]);
      v = h == 1 && Codes<kBits>::raw_factor(1) == 16 ? __hfma2(v, __float2half2_rn(1.f / 16), less[1]) : __hsub2(v, less[h]);
      v = __hmul2(v, scale[h]);
      a[i] = *reinterpret_cast<uint32_t*>(&v);
    }
  }

 private:
  __device__ __forceinline__ static __half2 twice(uint32_t half) {
    const uint32_t both = half * 0x10001u;
    return *reinterpret_cast<const __half2*>(&both);
  }
};

/// The 64 k of a chunk: the warp's row tiles times all its columns; each load of x serves both row tiles.
template <typename T, int kBits, int kGroup>
__device__ __forceinline__ void multiply_chunk(const uint8_t* stage, int chunk, int first_tile, int first_token, int lane,
                                               float (&sum)[T::kWarpTiles][T::kColumnTiles][4]) {
  using L = Layout<kBits, kGroup>;
  const int g = lane / 4, t = lane % 4;
  Codes<kBits> codes[T::kWarpTiles];
#pragma unroll
  for (int r = 0; r < T::kWarpTiles; ++r) codes[r].load_shared(stage + (first_tile + r) * T::kCodeBytes + chunk * L::kChunkBytes, lane);
#pragma unroll
  for (int h = 0; h < 2; ++h) {  // 32 k each
    uint32_t a[T::kWarpTiles][2][4];
#pragma unroll
    for (int r = 0; r < T::kWarpTiles; ++r) {
      const int group = (first_tile + r) * T::kGroups + (T::kGroups == 1 ? 0 : chunk * kChunk / kGroup + h * 32 / kGroup);
      const RowWeights<kBits> weights(stage + T::kScales + group * L::kScaleBytes, stage + T::kZeros + group * L::kZeroBytes, g);
      weights.fragment(codes[r], 2 * h, a[r][0]);
      weights.fragment(codes[r], 2 * h + 1, a[r][1]);
    }
    const uint8_t* x_at = stage + T::kX + T::cell_offset(first_token + g, chunk * 8 + h * 4 + t);
#pragma unroll
    for (int c = 0; c < T::kColumnTiles; ++c) {
      const uint4 x = *reinterpret_cast<const uint4*>(x_at + c * 8 * T::kRowBytes);
#pragma unroll
      for (int r = 0; r < T::kWarpTiles; ++r) multiply(sum[r][c], a[r][0], x.x, x.y);
#pragma unroll
      for (int r = 0; r < T::kWarpTiles; ++r) multiply(sum[r][c], a[r][1], x.z, x.w);
    }
  }
}

/// Where a lane's sums go in [tokens][128] floats: rows g and g + 8 of the warp's row tiles, two tokens of every eight.
template <typename T>
struct SumPlace {
  int token, column, first_token;
  __device__ __forceinline__ SumPlace(int first_tile, int first, int lane)
      : token(first + 2 * (lane % 4)), column(first_tile * kTileRows + lane / 4), first_token(first) {}

  /// In shared memory: f(place, sum). Columns are exchanged so that the tokens of four lanes meet all banks.
  template <typename F>
  __device__ __forceinline__ void each_shared(float (&sum)[T::kWarpTiles][T::kColumnTiles][4], F&& f) const {
    const int exchanged = (token - first_token) * 4;
#pragma unroll
    for (int r = 0; r < T::kWarpTiles; ++r)
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        const int place = settled(token * kUnitOutputs + ((column + r * kTileRows + 8 * h) ^ exchanged));
#pragma unroll
        for (int c = 0; c < T::kColumnTiles; ++c)
#pragma unroll
          for (int e = 0; e < 2; ++e) f(place + (c * 8 + e) * kUnitOutputs, sum[r][c][2 * h + e]);
      }
  }
  /// In a piece: whole tiles of eight tokens, as many as `m` tokens begin; there is room for the last one's.
  __device__ __forceinline__ void write(float* piece, const float (&sum)[T::kWarpTiles][T::kColumnTiles][4], int m) const {
    float* to = piece + token * kUnitOutputs + column;
#pragma unroll
    for (int c = 0; c < T::kColumnTiles; ++c) {
      if (first_token + c * 8 >= m) return;
#pragma unroll
      for (int r = 0; r < T::kWarpTiles; ++r)
#pragma unroll
        for (int i = 0; i < 4; ++i) to[(c * 8 + i % 2) * kUnitOutputs + r * kTileRows + 8 * (i / 2)] = sum[r][c][i];
    }
  }
};

/// What a computing warp is for, and its sums.
template <int kBits, int kGroup, int kTokens>
struct BatchWarp {
  using T = BatchTile<kBits, kGroup, kTokens>;
  const BatchParams& p;
  float* shared_sums;  // [kSumBuffers][kTokens][128]
  int lane, first_tile, input_way, first_token, group;
  float sum[T::kWarpTiles][T::kColumnTiles][4];

  __device__ __forceinline__ BatchWarp(const BatchParams& params, void* sums) : p(params), shared_sums(static_cast<float*>(sums)), sum{} {
    const int warp = threadIdx.x / kWarp, output_way = warp % T::kOutputWays, token_way = warp / (T::kOutputWays * T::kInputWays);
    lane = threadIdx.x % kWarp;
    first_tile = output_way * T::kWarpTiles;
    input_way = warp / T::kOutputWays % T::kInputWays;
    first_token = token_way * (kTokens / T::kTokenWays);
    group = output_way + token_way * T::kOutputWays;
  }

  /// The last slice may have fewer chunks than there are warps for them.
  __device__ __forceinline__ void multiply_slice(const uint8_t* stage, int slice) {
    if (slice * T::kSlice + input_way * kChunk < p.k) multiply_chunk<T, kBits, kGroup>(stage, input_way, first_tile, first_token, lane, sum);
  }

  /// The warps that share outputs and tokens, and differ in k.
  __device__ __forceinline__ void meet_group() const {
    asm volatile("bar.sync %0, %1;" ::"r"(1 + group), "n"(T::kInputWays * kWarp) : "memory");
  }

  /// Adds up what warps have that share outputs, 1 to 0 and 3 to 2, then 2 to 0; writes it, and begins anew. Each lane
  /// reads what the same lane of another warp wrote.
  __device__ __forceinline__ void finish_piece(int unit) {
    const SumPlace<T> mine(first_tile, first_token, settled(lane));
    if constexpr (T::kInputWays > 1) {
      const auto leave = [&](float* to) { mine.each_shared(sum, [&](int place, float v) { to[place] = v; }); };
      const auto take = [&](const float* from) { mine.each_shared(sum, [&](int place, float& v) { v += from[place]; }); };
      float* pair = shared_sums + input_way / 2 * (T::kSumBytes / 4);
      meet_group();  // whoever read the last piece's sums is through
      if (input_way % 2 == 1) leave(pair);
      meet_group();
      if (input_way % 2 == 0) take(pair);
      if constexpr (T::kInputWays == 4) {
        if (input_way == 2) leave(pair);
        meet_group();
        if (input_way == 0) take(shared_sums + T::kSumBytes / 4);
      }
    }
    if (input_way == 0) mine.write(p.pieces + size_t(blockIdx.x + unit) * kTokens * kUnitOutputs, sum, p.m);
#pragma unroll
    for (int r = 0; r < T::kWarpTiles; ++r)
#pragma unroll
      for (int c = 0; c < T::kColumnTiles; ++c)
#pragma unroll
        for (int i = 0; i < 4; ++i) sum[r][c][i] = 0.f;
  }
};

/// Through a block's slices [first, last): read(place) is called when it is the slice's turn, and gives its stage.
template <typename Warp, typename Read>
__device__ __forceinline__ void compute_slices(Warp& warp, const BatchParams& p, int first, int last, Read&& read) {
  int unit = first / p.slices, slice = first - unit * p.slices;
  for (int at = first; at < last; ++at) {
    read([&](const uint8_t* stage) { warp.multiply_slice(stage, slice); });
    const bool ends = ++slice == p.slices;
    if (ends || at + 1 == last) warp.finish_piece(unit);
    if (ends) {
      slice = 0;
      ++unit;
    }
  }
}

template <int kBits, int kGroup, int kTokens>
__device__ __forceinline__ void linear_batch_body(const BatchParams& p, uint8_t* shared) {
  using T = BatchTile<kBits, kGroup, kTokens>;
  using Loader = BatchLoader<kBits, kGroup, kTokens>;
  const int first = first_slice(p, blockIdx.x, gridDim.x), last = first_slice(p, blockIdx.x + 1, gridDim.x);
  allow_next();

  uint8_t *sums = shared, *ring = sums + T::kSumBuffers * T::kSumBytes;
  // Weights are nobody's output: they need not wait for the kernel ahead. x does.
  Loader loader(p, first), early = loader;
  for (int s = 0; s < p.stages - 1 && first + s < last; ++s, early.next()) early.load_weights(ring + s * T::kStageBytes);
  wait_previous();
  for (int s = 0; s < p.stages - 1; ++s) {
    if (first + s < last) {
      loader.load_x(ring + s * T::kStageBytes);
      loader.next();
    }
    copy_async_commit();
  }
  BatchWarp<kBits, kGroup, kTokens> warp(p, sums);
  int reading = 0, filling = p.stages - 1, asked = first + p.stages - 1;
  compute_slices(warp, p, first, last, [&](auto&& multiply_stage) {
    wait_for_stage(p.stages);
    __syncthreads();  // this stage is there, and nobody reads the one before any more
    if (asked++ < last) {
      uint8_t* stage = ring + filling * T::kStageBytes;
      loader.load_weights(stage);
      loader.load_x(stage);
      loader.next();
    }
    copy_async_commit();
    if (++filling == p.stages) filling = 0;
    multiply_stage(ring + reading * T::kStageBytes);
    if (++reading == p.stages) reading = 0;
  });
}

/// Four outputs of a token: the sum of their pieces in the order of k.
__device__ __forceinline__ float4 sum_pieces(const BatchSumParams& p, int unit, int token, int column) {
  const int begin = block_of_slice(p, unit * p.slices, p.blocks), end = block_of_slice(p, (unit + 1) * p.slices - 1, p.blocks);
  const float* from = p.pieces + (size_t(begin + unit) * p.piece_tokens + token) * kUnitOutputs + column;
  const size_t step = size_t(p.piece_tokens) * kUnitOutputs;
  float4 sum = make_float4(0.f, 0.f, 0.f, 0.f);
#pragma unroll 4
  for (int block = begin; block <= end; ++block, from += step) {
    const float4 v = *reinterpret_cast<const float4*>(from);
    sum.x += v.x, sum.y += v.y, sum.z += v.z, sum.w += v.w;
  }
  return sum;
}

__device__ __forceinline__ float bias_at(const __half* bias, int n) { return bias == nullptr ? 0.f : __half2float(__ldg(bias + n)); }

}  // namespace exllama

// grid and dynamic shared memory by batchLaunch(), block 512.
#define EXLLAMA_BATCH(BITS, GROUP, TOKENS)                                                      \
  extern "C" __global__ void __launch_bounds__(512, 1)                        \
      linear_batch_q##BITS##_g##GROUP##_m##TOKENS(const __grid_constant__ exllama::BatchParams p) { \
    extern __shared__ __align__(128) uint8_t dynamic_shared[];                                  \
    exllama::linear_batch_body<BITS, GROUP, TOKENS>(p, dynamic_shared);                         \
  }
#define EXLLAMA_BATCH_TOKENS(BITS, GROUP) \
  EXLLAMA_BATCH(BITS, GROUP, 16) EXLLAMA_BATCH(BITS, GROUP, 32) EXLLAMA_BATCH(BITS, GROUP, 64) EXLLAMA_BATCH(BITS, GROUP, 128)
#define EXLLAMA_BATCH_GROUPS(BITS) EXLLAMA_BATCH_TOKENS(BITS, 32) EXLLAMA_BATCH_TOKENS(BITS, 64) EXLLAMA_BATCH_TOKENS(BITS, 128)
EXLLAMA_BATCH_GROUPS(4)

/// y_i = sum of pieces (+ bias), f16. grid (units, tokens / 8), block 256: 32 threads for a token.
extern "C" __global__ void __launch_bounds__(256) batch_sum(const __grid_constant__ exllama::BatchSumParams p) {
  using namespace exllama;
  allow_next();
  wait_previous();
  const int token = blockIdx.y * 8 + threadIdx.x / 32, column = threadIdx.x % 32 * 4;
  const BatchHalf half(p, blockIdx.x, column / kHalfOutputs);
  const int n = half.first + column % kHalfOutputs, outputs = half.outputs;
  if (token >= p.m || !half.there || n >= outputs) return;
  const float4 sum = sum_pieces(p, blockIdx.x, token, column);
  const __half* bias = half.segment == 0 ? p.bias0 : half.segment == 1 ? p.bias1 : p.bias2;
  __half* y = (half.segment == 0 ? p.y0 : half.segment == 1 ? p.y1 : p.y2) + size_t(token) * outputs + n;
  const float v[4] = {sum.x, sum.y, sum.z, sum.w};
  if (outputs % 4 == 0) {
    const __half2 pairs[2] = {__floats2half2_rn(v[0] + bias_at(bias, n), v[1] + bias_at(bias, n + 1)),
                              __floats2half2_rn(v[2] + bias_at(bias, n + 2), v[3] + bias_at(bias, n + 3))};
    *reinterpret_cast<uint2*>(y) = *reinterpret_cast<const uint2*>(pairs);
    return;
  }
#pragma unroll
  for (int i = 0; i < 4; ++i)
    if (n + i < outputs) y[i] = __float2half_rn(v[i] + bias_at(bias, n + i));
}

/// y = silu(gate) * up, f16, of paired units. grid (units, tokens / 16), block 256: 16 threads for a token.
extern "C" __global__ void __launch_bounds__(256) batch_silu(const __grid_constant__ exllama::BatchSumParams p) {
  using namespace exllama;
  allow_next();
  wait_previous();
  const int token = blockIdx.y * 16 + threadIdx.x / 16, column = threadIdx.x % 16 * 4, n = blockIdx.x * kHalfOutputs + column;
  if (token >= p.m || n >= p.n0) return;
  const float4 gates = sum_pieces(p, blockIdx.x, token, column), ups = sum_pieces(p, blockIdx.x, token, kHalfOutputs + column);
  const float gate[4] = {gates.x, gates.y, gates.z, gates.w}, up[4] = {ups.x, ups.y, ups.z, ups.w};
  __half* y = p.y0 + size_t(token) * p.n0 + n;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    if (n + i >= p.n0) return;
    const float g = gate[i] + bias_at(p.bias0, n + i);
    y[i] = __float2half_rn(g / (1.f + __expf(-g)) * (up[i] + bias_at(p.bias1, n + i)));
  }
}

/// residual += sum of pieces (+ bias); then, where there is a norm, y = residual / sqrt(mean(residual^2) + eps) * norm.
/// grid (m), block 512, shared memory for the row (n0 * 4 bytes).
extern "C" __global__ void __launch_bounds__(512) batch_norm(const __grid_constant__ exllama::BatchSumParams p) {
  using namespace exllama;
  extern __shared__ __align__(128) uint8_t dynamic_shared[];
  __shared__ float squares_of[16];
  float* row = reinterpret_cast<float*>(dynamic_shared);
  allow_next();
  const int token = blockIdx.x, n0 = p.n0;
  wait_previous();
  float* residual = p.residual + size_t(token) * n0;
  float squares = 0.f;
  for (int n = threadIdx.x * 4; n < n0; n += blockDim.x * 4) {
    const float4 sum = sum_pieces(p, n / kUnitOutputs, token, n % kUnitOutputs);
    const float v[4] = {sum.x, sum.y, sum.z, sum.w};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if (n + i >= n0) break;
      const float value = residual[n + i] + (v[i] + bias_at(p.bias0, n + i));
      residual[n + i] = row[n + i] = value;
      squares += value * value;
    }
  }
  if (p.norm == nullptr) return;
  squares = warp_sum(squares);
  if (threadIdx.x % kWarp == 0) squares_of[threadIdx.x / kWarp] = squares;
  __syncthreads();
  float total = 0.f;
#pragma unroll
  for (int w = 0; w < 16; ++w) total += squares_of[w];
  const float scale = rsqrtf(total / static_cast<float>(n0) + p.eps);
  __half* y = p.y0 + size_t(token) * n0;
  for (int n = threadIdx.x; n < n0; n += blockDim.x) y[n] = __float2half_rn(row[n] * scale * __half2float(__ldg(p.norm + n)));
}
