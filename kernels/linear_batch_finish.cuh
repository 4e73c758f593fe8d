// What becomes of a warp's piece of a unit in linear_batch_wgmma.cu: left for another block, or, with the pieces that others have
// left, made into results.
#pragma once

#include "giving_up.cuh"
#include "linear_batch_squares.cuh"

#ifdef EXLLAMA_WGMMA

namespace exllama {

/// What lies where no number has been left: a NaN that no arithmetic makes.
constexpr uint32_t kAbsent = 0xffffffffu;

__device__ __forceinline__ void leave(float* at, float4 v) {
  asm volatile("st.relaxed.gpu.global.v4.f32 [%0], {%1, %2, %3, %4};" ::"l"(at), "f"(v.x), "f"(v.y), "f"(v.z), "f"(v.w) : "memory");
}
__device__ __forceinline__ void look(const float* at, float& a, float& b, float& c, float& d) {
  asm volatile("ld.relaxed.gpu.global.v4.f32 {%0, %1, %2, %3}, [%4];" : "=f"(a), "=f"(b), "=f"(c), "=f"(d) : "l"(at) : "memory");
}
__device__ __forceinline__ bool is_absent(float v) { return __float_as_uint(v) == kAbsent; }
/// To a number that nothing else is added to in this launch.
__device__ __forceinline__ void add_to(float* at, float v) { asm volatile("red.relaxed.gpu.global.add.f32 [%0], %1;" ::"l"(at), "f"(v) : "memory"); }

template <int kId>
__device__ __forceinline__ void pair_sync(int i) {
  asm volatile("bar.sync %0, 64;" ::"r"(kId + i) : "memory");
}
template <int kId>
__device__ __forceinline__ void pair_arrive(int i) {
  asm volatile("bar.arrive %0, 64;" ::"r"(kId + i) : "memory");
}

__device__ __forceinline__ float gated(float gate, float up) { return gate / (1.f + __expf(-gate)) * up; }

/// What a warp does with the sums of its piece of a unit. A lane keeps its outputs: g = lane / 4, t = lane % 4 as wgmma_k16 says.
template <int kGroup, int kN>
struct BatchFinish {
  using Tile = BatchTile<kGroup, kN>;
  static constexpr int kPart = Tile::kPart, kFours = kPart / 8;  // of a part: tokens, fours of a lane
  // Pieces, and fours of each, whose numbers are under way at a time, as registers allow; whether these are those of sums of groups.
  static constexpr bool kInDot = Tile::kScaled && !Tile::kByWarps;
  static constexpr int kTogether = kN == 128 ? 3 : (kN == 8 && kGroup == 64) || (kN == 32 && !kInDot) ? 1 : 2;
  static constexpr int kAcross = kN == 32 && !kInDot ? 2 : kFours;
  static constexpr int kFull = 1, kEmpty = 5;                    // barriers of a warp of gate's and one of up's
  // Of eight tokens a lane has two: numbers t * kStep and kApart more.
  static constexpr int kStep = Tile::kByWarps ? 1 : 2, kApart = Tile::kByWarps ? 4 : 1;
  const BatchLinear& p;
  const DeferredNorm& norm;
  uint32_t base;  // shared address
  int warp, lane, run;

  /// Shared address of the sums that a warp of up's hands over.
  __device__ __forceinline__ uint32_t up_sums() const {
    return base + Tile::kUpAt + warp % (kBatchWarps / 2) * (kTileRows * kPart * 4) + lane * 16;
  }
  __device__ __forceinline__ float* piece(int of_run) const {
    return p.pieces + (size_t(of_run) * kBatchWarps + warp) * (kN / 8 * 128) + lane * 4;
  }

  /// A piece that does not begin its unit: left for the run that has the beginning.
  __device__ __forceinline__ void leave_piece(const float (&sum)[kN / 2]) const {
    float* to = piece(run);
#pragma unroll
    for (int j = 0; j < kN / 8; ++j)
      if (8 * j < p.m)  // + 0: whatever NaN it is, it becomes the one that additions make
        leave(to + j * 128, make_float4(sum[4 * j] + 0.f, sum[4 * j + 1] + 0.f, sum[4 * j + 2] + 0.f, sum[4 * j + 3] + 0.f));
  }

  /// Adds what `others` runs after this one have left of the unit, in the order of k, and leaves their places empty again.
  template <int kFirst>
  __device__ __forceinline__ void add_pieces(int others, float (&dot)[2][kN / 2], float (&sum)[kN / 2]) const {
    constexpr int kPiece = kBatchWarps * kN / 8 * 128;
#pragma unroll 1
    for (int first = 1; first <= others; first += kTogether) {
      const int together = min(kTogether, others + 1 - first);
      float* from = piece(run + first) + kFirst * 128;
#pragma unroll
      for (int j = 0; j < kFours; j += kAcross) {
        if (8 * (kFirst + j) >= p.m) break;
        float room[kInDot ? 1 : kTogether * kAcross * 4];
        const auto v = [&](int i, int a, int e) -> float& {
          if constexpr (kInDot) return dot[i][4 * a + e];
          else return room[(i * kAcross + a) * 4 + e];
        };
        bool waiting;
        unsigned polls = 0;
        do {
          waiting = false;
#pragma unroll
          for (int i = 0; i < kTogether; ++i)
#pragma unroll
            for (int a = 0; a < kAcross; ++a)
              if (i < together && 8 * (kFirst + j + a) < p.m)
                look(from + i * kPiece + (j + a) * 128, v(i, a, 0), v(i, a, 1), v(i, a, 2), v(i, a, 3));
#pragma unroll
          for (int i = 0; i < kTogether; ++i)
#pragma unroll
            for (int a = 0; a < kAcross; ++a)
              if (i < together && 8 * (kFirst + j + a) < p.m)
                waiting |= is_absent(v(i, a, 0)) || is_absent(v(i, a, 1)) || is_absent(v(i, a, 2)) || is_absent(v(i, a, 3));
          if (++polls > kMostPolls) give_up();
        } while (waiting);
#pragma unroll
        for (int i = 0; i < kTogether; ++i)
#pragma unroll
          for (int a = 0; a < kAcross; ++a)
            if (i < together && 8 * (kFirst + j + a) < p.m) {
#pragma unroll
              for (int e = 0; e < 4; ++e) sum[4 * (kFirst + j + a) + e] += v(i, a, e);
              const float absent = __uint_as_float(kAbsent);
              leave(from + i * kPiece + (j + a) * 128, make_float4(absent, absent, absent, absent));
            }
      }
    }
  }

  /// x's norm was put off.
  __device__ __forceinline__ bool reads_deferred() const { return norm.squares != nullptr && norm.weight == nullptr; }

  /// Adds to the residual stream, whose old numbers are on their way while pieces of others are; leaves x of the norm that follows and its squares.
  /// Lanes of even and odd g exchange, so that each has two neighbouring outputs, and these 8 rows on, of one of its two tokens.
  __device__ __forceinline__ void residual_deferred(const BatchPlace& place, int others, float (&dot)[2][kN / 2], float (&sum)[kN / 2]) {
    const int g = lane / 4, odd = g % 2, outputs = p.n0, n = place.row + g - odd, token = lane % 4 + odd * kApart;
    const bool there[2] = {n < outputs, n + 8 < outputs};
    const size_t at = size_t(token) * outputs + n;
    float2 old[kFours][2];
    float carried[kFours];
#pragma unroll
    for (int j = 0; j < kFours; ++j) {
      const bool is_token = 8 * j + token < p.m;
      carried[j] = is_token ? __ldcg(norm.carried + 8 * j + token) : 0.f;
#pragma unroll
      for (int h = 0; h < 2; ++h)
        old[j][h] = is_token && there[h] ? __ldcg(reinterpret_cast<const float2*>(p.residual + at + size_t(8 * j) * outputs + 8 * h)) : make_float2(0.f, 0.f);
    }
    float2 weight[2], bias[2];
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      weight[h] = there[h] ? __half22float2(__ldg(reinterpret_cast<const __half2*>(norm.weight + n + 8 * h))) : make_float2(0.f, 0.f);
      bias[h] = there[h] && p.bias0 != nullptr ? __half22float2(__ldg(reinterpret_cast<const __half2*>(p.bias0 + n + 8 * h))) : make_float2(0.f, 0.f);
    }
    add_pieces<0>(others, dot, sum);
#pragma unroll
    for (int j = 0; j < kFours; ++j) {
      const bool is_token = 8 * j + token < p.m;
      float2 v[2];
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        const float mine[2] = {sum[4 * j + 2 * h], sum[4 * j + 2 * h + 1]};
        const float other = __shfl_xor_sync(0xffffffffu, odd ? mine[0] : mine[1], 4);
        v[h] = make_float2(old[j][h].x + ((odd ? other : mine[0]) + bias[h].x), old[j][h].y + ((odd ? mine[1] : other) + bias[h].y));
        if (!is_token || !there[h]) v[h] = make_float2(0.f, 0.f);
      }
      float squares = __fadd_rn(two_squares(v[0].x, v[1].x), two_squares(v[0].y, v[1].y));
      squares = __fadd_rn(squares, __shfl_xor_sync(0xffffffffu, squares, 8));
      squares = __fadd_rn(squares, __shfl_xor_sync(0xffffffffu, squares, 16));
      if (lane < 8 && there[0]) norm.squares[size_t(place.row / kTileRows) * kN + 8 * j + lane] = squares;
      const float factor = carried[j] * kDeferredRoom;
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        if (!is_token || !there[h]) continue;
        const size_t to = at + size_t(8 * j) * outputs + 8 * h;
        *reinterpret_cast<float2*>(p.residual + to) = v[h];
        *reinterpret_cast<__half2*>(p.y0 + to) = __floats2half2_rn(deferred(v[h].x, factor, weight[h].x), deferred(v[h].y, factor, weight[h].y));
      }
    }
  }

  /// Results of a part of the tokens.
  template <int kFirst>
  __device__ __forceinline__ void part(const BatchPlace& place, int others, float (&dot)[2][kN / 2], float (&sum)[kN / 2]) {
    const int g = lane / 4, t = lane % 4;
    const int outputs = of_linear(place.linear, p.n0, p.n1, p.n2), n = place.row + g;
    const bool there[2] = {n < outputs, n + 8 < outputs};
    float factor = 0.f;
    if constexpr (Tile::kByWarps) {
      if (norm.weight != nullptr) return residual_deferred(place, others, dot, sum);
      if (reads_deferred()) factor = token_factor<kGroup, kN>(p, norm, base, lane, place.linear == 0 && place.row == 0);
    }
    add_pieces<kFirst>(others, dot, sum);
    if constexpr (Tile::kByWarps) {
      if (reads_deferred()) {
#pragma unroll
        for (int j = 0; j < kFours; ++j)
#pragma unroll
          for (int e = 0; e < 4; ++e) sum[4 * j + e] *= __shfl_sync(0xffffffffu, factor, 8 * j + t + e % 2 * kApart);
      }
    }
    const __half* bias = of_linear(place.linear, p.bias0, p.bias1, p.bias2);
    if (bias != nullptr) {
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        const float b = there[h] ? __half2float(__ldg(bias + n + 8 * h)) : 0.f;
#pragma unroll
        for (int j = 0; j < kFours; ++j) sum[4 * (kFirst + j) + 2 * h] += b, sum[4 * (kFirst + j) + 2 * h + 1] += b;
      }
    }
    if (p.residual != nullptr) {
      float* row = p.residual + size_t(8 * kFirst + kStep * t) * outputs + n;
      const int tokens = p.m - 8 * kFirst - kStep * t;
#pragma unroll
      for (int j = 0; j < kFours; ++j, row += 8 * outputs)
#pragma unroll
        for (int e = 0; e < 4; ++e)
          if (8 * j + e % 2 * kApart < tokens && there[e / 2]) add_to(row + (e % 2 * kApart) * outputs + e / 2 * 8, sum[4 * (kFirst + j) + e]);
      return;
    }
    if (p.silu && warp >= kBatchWarps / 2) {
      pair_sync<kEmpty>(warp - kBatchWarps / 2);
#pragma unroll
      for (int j = 0; j < kFours; ++j)
        asm volatile("st.shared.v4.f32 [%0], {%1, %2, %3, %4};" ::"r"(up_sums() + j * 512), "f"(sum[4 * (kFirst + j)]), "f"(sum[4 * (kFirst + j) + 1]),
                     "f"(sum[4 * (kFirst + j) + 2]), "f"(sum[4 * (kFirst + j) + 3])
                     : "memory");
      pair_arrive<kFull>(warp - kBatchWarps / 2);
      return;
    }
    if (p.silu) {
      pair_sync<kFull>(warp);
#pragma unroll
      for (int j = 0; j < kFours; ++j) {
        float up[4];
        asm volatile("ld.shared.v4.f32 {%0, %1, %2, %3}, [%4];"
                     : "=f"(up[0]), "=f"(up[1]), "=f"(up[2]), "=f"(up[3])
                     : "r"(up_sums() + j * 512)
                     : "memory");
#pragma unroll
        for (int e = 0; e < 4; ++e) sum[4 * (kFirst + j) + e] = gated(sum[4 * (kFirst + j) + e], up[e]);
      }
      pair_arrive<kEmpty>(warp);
    }
    // Lanes of even and odd g exchange, so that each has two neighbouring outputs of one of the tokens.
    const bool odd = g % 2;
    const int even = n - odd, first = p.ordered ? code_order(even) : even, second = (p.ordered ? code_order(even + 8) : even + 8) - first;
    __half* y = of_linear(place.linear, p.y0, p.y1, p.y2) + size_t(8 * kFirst + kStep * t + odd * kApart) * outputs + first;
#pragma unroll
    for (int j = 0; j < kFours; ++j, y += 8 * outputs) {
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        const float mine[2] = {sum[4 * (kFirst + j) + 2 * h], sum[4 * (kFirst + j) + 2 * h + 1]};
        const float other = __shfl_xor_sync(0xffffffffu, odd ? mine[0] : mine[1], 4);
        if (8 * (kFirst + j) + kStep * t + odd * kApart < p.m && there[h])
          *reinterpret_cast<__half2*>(y + h * second) = odd ? __floats2half2_rn(other, mine[1]) : __floats2half2_rn(mine[0], other);
      }
    }
  }

  /// @param begins whether the piece has the first k of the unit
  /// @param whole whether it has all of it
  __device__ __forceinline__ void operator()(uint32_t shared, int unit, bool begins, bool whole, float (&dot)[2][kN / 2], float (&sum)[kN / 2]) {
    base = shared;
    // Settled here: what follows from them is nothing to keep in registers meanwhile.
    const unsigned thread = settled(threadIdx.x);
    warp = thread / kWarp, lane = thread % kWarp, run = settled(run_of_block());
    if (!begins) return leave_piece(sum);
    int others = 0;
    if (!whole) asm volatile("ld.shared.u32 %0, [%1];" : "=r"(others) : "r"(base + Tile::kOthersAt) : "memory");
    parts<0>(BatchPlace(p, unit, warp), others, dot, sum);
  }

 private:
  template <int kFirst>
  __device__ __forceinline__ void parts(const BatchPlace& place, int others, float (&dot)[2][kN / 2], float (&sum)[kN / 2]) {
    part<kFirst>(place, others, dot, sum);
    if constexpr (kFirst + kFours < kN / 8) {
      if (8 * (kFirst + kFours) < p.m) parts<kFirst + kFours>(place, others, dot, sum);
    }
  }
};

}  // namespace exllama

#endif  // EXLLAMA_WGMMA
