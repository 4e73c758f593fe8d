// Quantised linears for some dozens of tokens: batches of decode steps, short prompts.
//
//   y_i[m, n_i] = sum_k x[m, k] * scale * (code - zero)_i[n_i, k]
//
// for up to three weights that share x, in two launches: linear_batch_* leaves fp32 sums of pieces of k, and one of
// batch_sum, batch_silu, batch_norm adds these up and makes of them what comes next.
//
// Strategy   Every multiprocessor gets the same number of slices of k (stream-k), whatever the shape: a block works through
//            its run of slices, through units of 128 outputs, with one ring of cp.async stages that never runs dry in
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
#include "linear_batch.cuh"

namespace exllama {

constexpr int kUnitTiles = kUnitOutputs / kTileRows;

/// The sizes that a kernel is compiled for; the same arithmetic as batch-launch.ts.
template <int kBits, int kGroup, int kTokens>
struct BatchTile {
  using L = Layout<kBits, kGroup>;
  // Many tokens: few warps with many sums each, which share more of what they load. Few tokens: more warps to hide latency.
  static constexpr int kWarps = kTokens >= 64 ? 8 : 16, kThreads = kWarps * kWarp;
  static constexpr int kWarpTiles = kTokens >= 64 ? 4 : 2;       // row tiles of a warp
  static constexpr int kOutputWays = kUnitTiles / kWarpTiles;
  static constexpr int kTokenWays = kTokens > 64 ? 2 : 1;
  static constexpr int kColumnTiles = kTokens / 8 / kTokenWays;  // of a warp
  static constexpr int kInputWays = kWarps / kOutputWays / kTokenWays;
  static constexpr int kSlice = kChunk * kInputWays;             // k of a stage
  static constexpr int kSlices = kSuperblock / kSlice;           // of a superblock
  static constexpr int kGroups = kSlice / kGroup;                // of a stage
  static_assert(kGroups > 0 && kColumnTiles > 0 && kTokens % (8 * kTokenWays) == 0);

  static constexpr int kCodeBytes = L::kChunkBytes * kInputWays;  // of a row tile in a stage
  static constexpr int kScales = kUnitTiles * kCodeBytes;
  static constexpr int kZeros = kScales + kUnitTiles * kGroups * L::kScaleBytes;
  static constexpr int kX = kZeros + kUnitTiles * kGroups * L::kZeroBytes;
  static constexpr int kRowBytes = kSlice * 2;
  static constexpr int kStageBytes = kX + kTokens * kRowBytes;
  static constexpr int kSumBytes = kTokens * kUnitOutputs * 4;
  static constexpr int kSumBuffers = kInputWays / 2;
  static_assert(kX % 16 == 0 && kStageBytes % 16 == 0);

  /// Byte offset of the 16-byte cell `cell` of a row of x.
  __device__ __forceinline__ static int cell_offset(int row, int cell) { return row * kRowBytes + ((cell ^ ((row & 1) * 4)) * 16); }
};

/// 8 bytes from global to shared memory, asynchronous where the hardware can.
__device__ __forceinline__ void copy_async_8(void* shared, const void* global) {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.ca.shared.global [%0], [%1], 8;" ::"r"(static_cast<uint32_t>(__cvta_generic_to_shared(shared))), "l"(global));
#else
  *static_cast<uint2*>(shared) = *static_cast<const uint2*>(global);
#endif
}

/// Waits for the stage that is read next, where `stages - 1` have been asked for.
__device__ __forceinline__ void wait_for_stage(int stages) {
  if (stages == 2) copy_async_wait<0>();
  else if (stages == 3) copy_async_wait<1>();
  else if (stages == 4) copy_async_wait<2>();
  else if (stages == 5) copy_async_wait<3>();
  else copy_async_wait<4>();
}

/// Fills stages, slice after slice; all threads take part.
template <int kBits, int kGroup, int kTokens>
struct BatchLoader {
  using T = BatchTile<kBits, kGroup, kTokens>;
  using L = Layout<kBits, kGroup>;
  static constexpr int kCells = T::kCodeBytes / 16;  // of a row tile
  static constexpr int kRounds = (kUnitTiles * kCells + T::kThreads - 1) / T::kThreads;
  static constexpr int kZeroCells = L::kZeroBytes / 8;
  static constexpr int kScaleThreads = kUnitTiles * T::kGroups * 2, kZeroThreads = kUnitTiles * T::kGroups * kZeroCells;
  static_assert(kScaleThreads <= T::kThreads / 2 && kZeroThreads <= T::kThreads / 2);

  const BatchParams& p;
  // Row tiles of this thread's cells in the unit, and of its scales or zeros: bytes from the segment's first, whose number
  // is in the lowest bits. Pointers would not fit the registers.
  uint32_t tile[kRounds], table;
  int unit, slice;

  __device__ __forceinline__ BatchLoader(const BatchParams& params, int first) : p(params) {
    unit = first / p.slices;
    slice = first - unit * p.slices;
    enter();
  }

  __device__ __forceinline__ uint32_t row_tile(int index) const {
    const BatchHalf half(p, unit, index / kHalfTiles);
    const int tiles = (half.outputs + kTileRows - 1) / kTileRows;
    const int at = min(half.first / kTileRows + index % kHalfTiles, tiles - 1);
    return uint32_t(at) * static_cast<uint32_t>(L::tile_bytes(p.k)) + half.segment;
  }
  __device__ __forceinline__ const uint8_t* pointer(uint32_t place) const {
    const uint32_t segment = place & 3u;
    return (segment == 0 ? p.weights0 : segment == 1 ? p.weights1 : p.weights2) + (place - segment);
  }

  /// Settled in every slice: what follows from it would fill the registers that sums need.
  __device__ __forceinline__ static int thread_index() { return settled(threadIdx.x); }
  /// Scales are the first half's of the threads, zeros the second's.
  __device__ __forceinline__ static bool takes_zeros(int thread) { return thread >= T::kThreads / 2; }
  __device__ __forceinline__ static int table_cell(int thread) { return thread % (T::kThreads / 2); }

  __device__ __forceinline__ void enter() {
    const int thread = thread_index();
#pragma unroll
    for (int i = 0; i < kRounds; ++i) tile[i] = row_tile(min((i * T::kThreads + thread) / kCells, kUnitTiles - 1));
    table = row_tile(min(table_cell(thread) / (T::kGroups * (takes_zeros(thread) ? kZeroCells : 2)), kUnitTiles - 1));
  }

  __device__ __forceinline__ void next() {
    if (++slice < p.slices) return;
    slice = 0;
    if (++unit < p.units) enter();
  }

  __device__ __forceinline__ void load_weights(uint8_t* stage) const {
    const int thread = thread_index();
    const int superblock = slice / T::kSlices, inside = slice % T::kSlices;
    const uint32_t begin = uint32_t(superblock) * L::superblock_bytes(kSuperblock);
    const int sb_k = min(kSuperblock, p.k - superblock * kSuperblock);
    const int codes = sb_k * (kTileRows * kBits / 8), there = min(T::kCodeBytes, codes - inside * T::kCodeBytes);
#pragma unroll
    for (int i = 0; i < kRounds; ++i) {
      const int cell = i * T::kThreads + thread, at = cell % kCells * 16;
      if (cell < kUnitTiles * kCells && at < there) copy_async_16(stage + cell * 16, pointer(tile[i] + begin) + inside * T::kCodeBytes + at, true);
    }
    const int groups = (sb_k + kGroup - 1) / kGroup, group0 = inside * T::kGroups;
    const uint8_t* scales = pointer(table + begin) + codes;
    const int cell = table_cell(thread);
    if (!takes_zeros(thread)) {
      const int in_tile = cell % (T::kGroups * 2);
      if (cell < kScaleThreads && group0 + in_tile / 2 < groups)
        copy_async_16(stage + T::kScales + cell * 16, scales + group0 * L::kScaleBytes + in_tile * 16, true);
    } else {
      const int in_tile = cell % (T::kGroups * kZeroCells);
      if (cell < kZeroThreads && group0 + in_tile / kZeroCells < groups)
        copy_async_8(stage + T::kZeros + cell * 8, scales + groups * L::kScaleBytes + group0 * L::kZeroBytes + in_tile * 8);
    }
  }

  __device__ __forceinline__ void load_x(uint8_t* stage) const {
    constexpr int kRowCells = T::kRowBytes / 16, kAll = kTokens * kRowCells;
    const int thread = thread_index(), k0 = slice * T::kSlice;
#pragma unroll
    for (int base = 0; base < kAll; base += T::kThreads) {
      const int i = base + thread, r = i / kRowCells, cell = i % kRowCells, k = k0 + cell * 8;
      const bool valid = r < p.m && k < p.k_valid;
      if (kAll % T::kThreads == 0 || i < kAll)
        copy_async_16(stage + T::kX + T::cell_offset(r, cell), p.x + (valid ? size_t(r) * p.ldx + k : 0), valid);
    }
  }
};

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

/// The 64 k of a chunk: two row tiles times all columns of the warp. `x`: the stage's, `first`: the warp's first token.
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
      const int group = (first_tile + r) * T::kGroups + (chunk * kChunk + h * 32) / kGroup;
      const RowWeights<kBits> weights(stage + T::kScales + group * L::kScaleBytes, stage + T::kZeros + group * L::kZeroBytes, g);
      weights.fragment(codes[r], 2 * h, a[r][0]);
      weights.fragment(codes[r], 2 * h + 1, a[r][1]);
    }
#pragma unroll
    for (int c = 0; c < T::kColumnTiles; ++c) {
      const uint4 x = *reinterpret_cast<const uint4*>(stage + T::kX + T::cell_offset(first_token + c * 8 + g, chunk * 8 + h * 4 + t));
#pragma unroll
      for (int r = 0; r < T::kWarpTiles; ++r) multiply(sum[r][c], a[r][0], x.x, x.y);
#pragma unroll
      for (int r = 0; r < T::kWarpTiles; ++r) multiply(sum[r][c], a[r][1], x.z, x.w);
    }
  }
}

/// Which sums a lane of a warp has, in [tokens][128]: rows g and g + 8 of its row tiles, two tokens of every eight.
template <typename T>
struct SumPlace {
  int token, column, exchanged;
  __device__ __forceinline__ SumPlace(int first_tile, int first_token, int lane) {
    const int t = lane % 4;
    token = first_token + 2 * t;
    column = first_tile * kTileRows + lane / 4;
    exchanged = 8 * t;  // in shared memory, so that the tokens of four lanes meet all banks
  }
  /// f(place, token, sum): `place` counts floats.
  template <bool kExchanged, typename F>
  __device__ __forceinline__ void each(float (&sum)[T::kWarpTiles][T::kColumnTiles][4], F&& f) const {
#pragma unroll
    for (int r = 0; r < T::kWarpTiles; ++r)
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        const int to = column + r * kTileRows + 8 * h;
        const int place = settled(token * kUnitOutputs + (kExchanged ? to ^ exchanged : to));
#pragma unroll
        for (int c = 0; c < T::kColumnTiles; ++c)
#pragma unroll
          for (int e = 0; e < 2; ++e) f(place + (c * 8 + e) * kUnitOutputs, token + c * 8 + e, sum[r][c][2 * h + e]);
      }
  }
};

template <int kBits, int kGroup, int kTokens>
__device__ __forceinline__ void linear_batch_body(const BatchParams& p, uint8_t* shared) {
  using T = BatchTile<kBits, kGroup, kTokens>;
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  const int first_tile = warp % T::kOutputWays * T::kWarpTiles, input_way = warp / T::kOutputWays % T::kInputWays;
  const int first_token = warp / (T::kOutputWays * T::kInputWays) * (kTokens / T::kTokenWays);
  float* sums = reinterpret_cast<float*>(shared);                      // [kSumBuffers][kTokens][128]
  uint8_t* ring = shared + T::kSumBuffers * T::kSumBytes;
  const int first = first_slice(p, blockIdx.x, gridDim.x), last = first_slice(p, blockIdx.x + 1, gridDim.x);

  allow_next();
  using Loader = BatchLoader<kBits, kGroup, kTokens>;
  {
    // Weights are nobody's output: they need not wait for the kernel ahead. x does.
    Loader early(p, first);
    for (int s = 0; s < p.stages - 1 && first + s < last; ++s, early.next()) early.load_weights(ring + s * T::kStageBytes);
  }
  Loader loader(p, first);
  wait_previous();
  for (int s = 0; s < p.stages - 1; ++s) {
    if (first + s < last) {
      loader.load_x(ring + s * T::kStageBytes);
      loader.next();
    }
    copy_async_commit();
  }

  float sum[T::kWarpTiles][T::kColumnTiles][4] = {};
  int unit = first / p.slices, slice = first - unit * p.slices;
  int reading = 0, filling = p.stages - 1;
  for (int at = first; at < last; ++at) {
    wait_for_stage(p.stages);
    __syncthreads();  // this stage is there, and nobody reads the one before any more
    if (at + p.stages - 1 < last) {
      uint8_t* stage = ring + filling * T::kStageBytes;
      loader.load_weights(stage);
      loader.load_x(stage);
      loader.next();
    }
    copy_async_commit();
    if (++filling == p.stages) filling = 0;
    // The last slice may have fewer chunks than there are warps for them.
    if (slice * T::kSlice + input_way * kChunk < p.k)
      multiply_chunk<T, kBits, kGroup>(ring + reading * T::kStageBytes, input_way, first_tile, first_token, lane, sum);
    if (++reading == p.stages) reading = 0;
    const bool ends = ++slice == p.slices;
    if (!ends && at + 1 < last) continue;

    // Warps that share outputs: 1 to 0 and 3 to 2, then 2 to 0. Each lane reads what the same lane of another warp wrote.
    const SumPlace<T> mine(first_tile, first_token, settled(lane));
    const auto leave = [&](float* to) { mine.template each<true>(sum, [&](int place, int, float v) { to[place] = v; }); };
    const auto take = [&](const float* from) { mine.template each<true>(sum, [&](int place, int, float& v) { v += from[place]; }); };
    float* pair = sums + input_way / 2 * (T::kSumBytes / 4);
    if (input_way % 2 == 1) leave(pair);
    __syncthreads();
    if (input_way % 2 == 0) take(pair);
    if constexpr (T::kInputWays == 4) {
      if (input_way == 2) leave(pair);
      __syncthreads();
      if (input_way == 0) take(sums + T::kSumBytes / 4);
    }
    if (input_way == 0) {
      float* piece = p.pieces + size_t(blockIdx.x + unit) * kTokens * kUnitOutputs;
      mine.template each<false>(sum, [&](int place, int token, float v) {
        if (token < p.m) piece[place] = v;
      });
    }
#pragma unroll
    for (int r = 0; r < T::kWarpTiles; ++r)
#pragma unroll
      for (int c = 0; c < T::kColumnTiles; ++c)
#pragma unroll
        for (int i = 0; i < 4; ++i) sum[r][c][i] = 0.f;
    if (ends) {
      slice = 0;
      ++unit;
    }
  }
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

// grid, block and dynamic shared memory by batchLaunch().
#define EXLLAMA_BATCH(BITS, GROUP, TOKENS)                                                      \
  extern "C" __global__ void __launch_bounds__(TOKENS >= 64 ? 256 : 512, 1)                      \
      linear_batch_q##BITS##_g##GROUP##_m##TOKENS(const __grid_constant__ exllama::BatchParams p) { \
    extern __shared__ __align__(128) uint8_t dynamic_shared[];                                  \
    exllama::linear_batch_body<BITS, GROUP, TOKENS>(p, dynamic_shared);                         \
  }
#define EXLLAMA_BATCH_TOKENS(BITS, GROUP) \
  EXLLAMA_BATCH(BITS, GROUP, 8) EXLLAMA_BATCH(BITS, GROUP, 16) EXLLAMA_BATCH(BITS, GROUP, 32) EXLLAMA_BATCH(BITS, GROUP, 64) EXLLAMA_BATCH(BITS, GROUP, 128)
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
