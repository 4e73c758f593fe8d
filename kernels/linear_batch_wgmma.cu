// Quantised linears for some to some dozens of tokens on Hopper: batches of decode steps, short prompts.
//
//   y_i[m, n_i] = sum_k x[m, k] * scale * (code - zero)_i[n_i, k]  (+ bias) (+ residual)
//
// for up to three weights that share x, or for gate and up with silu(gate) * up as the result.
//
// linear_batch_wgmma_q4_g{32,64,128}_t{8,16}, _t{32,64,128}, _t{32,64,128}_ordered
//   Strategy   y^T = w x^T, weights unpacked to operand A in registers, x as operand B from shared memory: from 32 tokens on in products
//              of warpgroups, as in linear_prompt.cu; these take as long for 8 tokens as for 32, so up to 16 there are those of warps.
//              Few tokens make few tiles, so k is cut, too: a unit is 128 outputs times all tokens, and all slices (256 k) of all
//              units are dealt out to the blocks in equal runs (stream-k). A piece is what a warp computes of its row tile in a
//              unit. Runs leave their pieces of a unit in device memory, but for the one that the unit begins in: it adds them to
//              its own and makes the results.
//              A warp's weights come through a ring of its own, three copies (codes, scales, zeros) for a slice, beginning
//              before the kernel ahead has ended; x through a ring of the block's, pair of chunks after pair, asked for by the
//              first warp. Several blocks share a multiprocessor and hide each other's beginnings and ends.
//   _ordered   x is in the order of codes (code_order.cuh): without, lanes exchange their codes. Products of warps need neither.
//   barriers   loaded[w][s]: a warp's slice; one arrival (its lane 0, which expects kSliceBytes) and those bytes. The warp asks for the
//              next slice of a place when all its lanes have read the last chunk there.
//              full[s]: a pair of x; one arrival (the asking thread, which expects kStageBytes) and those bytes, always whole:
//              what lies outside of x is zeros. empty[s]: eight arrivals, lane 0 of each warp, when its products of the pair are done
//              (warpgroups: in the first step of the next pair, or at the end of a piece). In a step of the pair after it the
//              first warp asks for what comes in that place: it has arrived there itself, and the others need no later pair to do
//              so. So every phase ends.
//              Named 1 to 8: the sums of a warp of up's are in shared memory, and have been read by the warp of gate's.
//   pieces     Every place holds kAbsent, a NaN that no arithmetic makes, until a piece is left there; whoever adds it looks until all
//              of it has come, and puts kAbsent back. Nothing is ordered by a fence, and no number is counted. A block waits for
//              blocks of lower numbers only, which begin no later, and has left its own piece by then: nobody waits in a circle,
//              also where not all of the grid runs at once.
// Bits         The sum of a piece is over k in ascending order, pieces are added in ascending order: the bits depend on the launch's shape, never on timing.
//              Up to 32 tokens (with groups of 32 and 64: 16) operands are code - zero, exact, and the fp32 sum of each group is scaled;
//              else they are fp16(scale * (code - zero)).
// Layout       quantized.cuh; pieces: [place][warp][kN / 8][lane][4] f32, as lanes have them: see BatchFinish::piece()
// Limits       sm_90a (empty elsewhere); m <= N; k % 256 == 0, n % 8 == 0, 16-byte aligned x, y
// Reference    linear_q4_g*_ref of linear_quantized.cu
#include "linear_batch_wgmma.cuh"

namespace exllama {

#ifdef EXLLAMA_WGMMA

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
  const uint32_t base;
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

  /// Results of a part of the tokens.
  template <int kFirst>
  __device__ __forceinline__ void part(const BatchPlace& place, int others, float (&dot)[2][kN / 2], float (&sum)[kN / 2]) {
    const int g = lane / 4, t = lane % 4;
    const int outputs = of_linear(place.linear, p.n0, p.n1, p.n2), n = place.row + g;
    const bool there[2] = {n < outputs, n + 8 < outputs};
    add_pieces<kFirst>(others, dot, sum);
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
  __device__ __forceinline__ void operator()(int unit, bool begins, bool whole, float (&dot)[2][kN / 2], float (&sum)[kN / 2]) {
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

/// A number that the compiler knows.
template <int kValue>
struct Index {
  static constexpr int value = kValue;
};

/// Adds the products of `slices` to `sum` by products of warps, for which x may stay in its own order: for up to 16 tokens, where those of
/// warpgroups take no less time than for 32. Column g of a product is token g / 2 + 4 (g % 2): so eight lanes read x from all banks.
template <int kGroup, int kN>
__device__ __forceinline__ void multiply_by_warps(BatchFlow<kGroup, kN>& flow, int slices, int ahead, float (&sum)[kN / 2]) {
  using Tile = BatchTile<kGroup, kN>;
  constexpr int kHalves = kGroup / 32, kColumns = kN / 8;
  constexpr int kChains = kHalves == 4 && kColumns == 1 ? 2 : 1;  // where one would wait for itself
  const int g = flow.lane / 4, token = g / 2 + g % 2 * 4;
  const uint32_t x_place = token * 128 + ((flow.lane % 4) ^ token) * 16;
#pragma unroll 1
  for (int left = slices; left > 0; --left) {
    flow.take();
    uint4 codes = flow.template codes<0>(), next;
    float dot[kChains][kColumns][4];
    float scale[2];
    GroupZeros zeros;
    const auto step = [&](auto index) {
      constexpr int i = decltype(index)::value, c = i / 2, h = i % kHalves;
      if constexpr (i % 2 == 0 && c + 1 < kSliceChunks) next = flow.template codes<c + 1>();
      if constexpr (h == 0) {
        uint32_t scales[2];
        uint2 packed;
        flow.template group<i / kHalves>(scales, packed);
        zeros = GroupZeros(packed, flow.lane);
        scale[0] = __half2float(__ushort_as_half(scales[0])), scale[1] = __half2float(__ushort_as_half(scales[1]));
      }
      if constexpr (h < kChains) {
#pragma unroll
        for (int n = 0; n < kColumns; ++n)
#pragma unroll
          for (int e = 0; e < 4; ++e) dot[h][n][e] = 0.f;
      }
      if constexpr (i % 4 == 0) barrier_wait(flow.full(flow.x_slot), flow.x_parity);
      uint32_t a[2][4];
      zeros.take(i % 2 ? codes.z : codes.x, a[0]);
      zeros.take(i % 2 ? codes.w : codes.y, a[1]);
      const uint32_t x_at = flow.x_at(flow.x_slot) + c % 2 * (kN * 128) + (x_place ^ (i % 2 * 64));
#pragma unroll
      for (int n = 0; n < kColumns; ++n) {
        uint32_t x[4];
        load_shared(x_at + n * 1024, x[0], x[1], x[2], x[3]);
        multiply(dot[h % kChains][n], a[0], x[0], x[1]);
        multiply(dot[h % kChains][n], a[1], x[2], x[3]);
      }
      if constexpr (i % 2 == 1) codes = next;
      if constexpr (h == kHalves - 1) {
#pragma unroll
        for (int n = 0; n < kColumns; ++n)
#pragma unroll
          for (int e = 0; e < 4; ++e) {
            float d = dot[0][n][e];
            if constexpr (kChains > 1) d += dot[1][n][e];
            sum[4 * n + e] += scale[e / 2] * d;
          }
      }
      if constexpr (i % 4 == 2) flow.pass_x(true);
      if constexpr (i % 4 == 3) {
        __syncwarp();
        if (flow.lane == 0) barrier_arrive(flow.empty(flow.x_slot));
        flow.advance_x();
      }
    };
    step(Index<0>());
    step(Index<1>());
    step(Index<2>());
    step(Index<3>());
    step(Index<4>());
    step(Index<5>());
    step(Index<6>());
    step(Index<7>());
    if (left + ahead > Tile::kSlots) flow.ask(flow.slot);
  }
}

/// Adds the products of `slices` to `sum`; `ahead` slices of the run follow. In the step of 32 k (a half of a chunk) the next
/// half is unpacked. Where there is room for sums of groups (`dot`), operands are code - zero, exact in fp16, and a group's fp32 sum is
/// scaled while the next one's products run; else operands are fp16(scale * (code - zero)).
template <int kGroup, int kN, bool kOrdered>
__device__ __forceinline__ void multiply_by_warpgroups(BatchFlow<kGroup, kN>& flow, int slices, int ahead,
                                                       float (&dot)[2][kN / 2], float (&sum)[kN / 2]) {
  using Tile = BatchTile<kGroup, kN>;
  constexpr int kHalves = kGroup / 32, kSteps = 2 * kSliceChunks;  // of a group, of a slice
  constexpr int kUnpacked = kN == 128 ? 4 : 2;                     // halves whose operands are in registers
  constexpr int kAhead = kN == 32 && !kOrdered ? 0 : 1;            // chunks whose codes are read ahead: as registers allow
  const QuadTurn quad(flow.lane);
  uint4 codes[1 + kAhead];
  uint32_t a[kUnpacked][2][4];
  float scale[2][2];
  GroupZeros zeros;
  PackedChunk<kGroup> packed;
  const auto unpack = [&](auto index) {
    constexpr int i = decltype(index)::value, c = i / 2, group = i / kHalves;
    auto& to = a[i % kUnpacked];
    if constexpr (Tile::kScaled) {
      if constexpr (i % kHalves == 0) {
        uint32_t scales[2];
        uint2 packed;
        flow.template group<group>(scales, packed);
        zeros = GroupZeros(packed, flow.lane);
        scale[group % 2][0] = __half2float(__ushort_as_half(scales[0])), scale[group % 2][1] = __half2float(__ushort_as_half(scales[1]));
      }
      if constexpr (kAhead == 0 && i % 2 == 0) codes[0] = flow.template codes<c>();
      uint32_t word[2] = {i % 2 ? codes[c % 2 * kAhead].z : codes[c % 2 * kAhead].x, i % 2 ? codes[c % 2 * kAhead].w : codes[c % 2 * kAhead].y};
      if constexpr (!kOrdered) quad.turn(word[0], word[1]);
      zeros.take(word[0], to[0]);
      zeros.take(word[1], to[1]);
    } else {
      if constexpr (i % 2 == 0) flow.template read<c>(packed);
      unpack_half<kGroup, kOrdered>(packed, i % 2, quad, flow.lane, to);
    }
  };
  const auto add_group = [&](int turn, float low, float high) {
#pragma unroll
    for (int j = 0; j < kN / 2; ++j) sum[j] += (j % 4 < 2 ? low : high) * dot[turn][j];
  };
  const auto begin_slice = [&] {
    flow.take();
    if constexpr (Tile::kScaled && kAhead == 1) codes[0] = flow.template codes<0>();
    unpack(Index<0>());
  };
  begin_slice();
#pragma unroll 1
  for (int left = slices; left > 0; --left) {
    const auto step = [&](auto index) {
      constexpr int i = decltype(index)::value, c = i / 2, turn = i / kHalves % 2;
      if constexpr (Tile::kScaled && kAhead == 1 && i % 2 == 0 && c + 1 < kSliceChunks) codes[(c + 1) % 2 * kAhead] = flow.template codes<c + 1>();
      if constexpr (i % 4 == 0) barrier_wait(flow.full(flow.x_slot), flow.x_parity);
      const uint64_t x = wgmma_operand(flow.x_at(flow.x_slot) + c % 2 * (kN * 128)) + i % 2 * 4;
      const auto& from = a[i % kUnpacked];
      wgmma_begin();
      if constexpr (!Tile::kScaled) wgmma_weights<kN>(sum, from[0], x);
      else if constexpr (i % kHalves == 0) wgmma_weights_first<kN>(dot[turn], from[0], x);
      else wgmma_weights<kN>(dot[turn], from[0], x);
      if constexpr (Tile::kScaled) wgmma_weights<kN>(dot[turn], from[1], x + 2);
      else wgmma_weights<kN>(sum, from[1], x + 2);
      wgmma_commit();
      wgmma_wait<kUnpacked / 2>();
      if constexpr (Tile::kScaled && i % kHalves == 0 && i > 0) add_group(turn ^ 1, scale[turn ^ 1][0], scale[turn ^ 1][1]);
      if constexpr (i % 4 == (kUnpacked - 2) / 2) flow.pass_x(i < 4 && left == slices);
      if constexpr (i % 4 == 3) flow.advance_x();
      if constexpr (i + 1 < kSteps) unpack(Index<i + 1>());
    };
    step(Index<0>());
    step(Index<1>());
    step(Index<2>());
    step(Index<3>());
    step(Index<4>());
    step(Index<5>());
    step(Index<6>());
    step(Index<7>());
    const float low = scale[1][0], high = scale[1][1];
    __syncwarp();  // all have read this slice
    if (left + ahead > Tile::kSlots) flow.ask(flow.slot);
    if (left > 1) begin_slice();
    if constexpr (Tile::kScaled) {
      wgmma_wait<0>();
      wgmma_results(dot[1]);
      add_group(1, low, high);
    }
  }
  if constexpr (!Tile::kScaled) {
    wgmma_wait<0>();
    wgmma_results(sum);
  }
}

template <int kGroup, int kN, bool kOrdered>
__device__ __forceinline__ void linear_batch_wgmma(const TensorBatchParams& params) {
  using Tile = BatchTile<kGroup, kN>;
  extern __shared__ uint8_t dynamic_shared[];
  const BatchLinear& p = params.linear;
  const BatchShare share(p.k, p.units);
  const int run = run_of_block(), first = share.first(run), last = share.first(run + 1);
  const uint32_t base = (shared_address(dynamic_shared) + 1023) & ~1023u;
  BatchFlow<kGroup, kN> flow(params, share, base, first, last);
  BatchFinish<kGroup, kN> finish{p, base};
  allow_next();
  if (threadIdx.x == 0) {
    for (int i = 0; i < Tile::kStages; ++i) {
      barrier_init(flow.full(i), 1);
      barrier_init(flow.empty(i), kBatchWarps);
    }
    for (int i = 0; i < kBatchWarps * Tile::kSlots; ++i) barrier_init(base + Tile::kLoadedAt + 8 * i, 1);
    barrier_init_done();
  } else if (threadIdx.x == kWarp) {  // before the kernel ahead has ended: a division takes time
    const uint32_t others = share.run_of((last - 1) / share.slices * share.slices + share.slices - 1) - run;
    asm volatile("st.shared.u32 [%0], %1;" ::"r"(base + Tile::kOthersAt), "r"(others) : "memory");
  }
  __syncthreads();
  if (p.silu && flow.warp < kBatchWarps / 2) pair_arrive<BatchFinish<kGroup, kN>::kEmpty>(flow.warp);
#pragma unroll 1
  for (int i = 0; i < min(Tile::kSlots, last - first); ++i) flow.ask(i);
  int slice = flow.x_pair / 2;
  wait_previous();
  if (threadIdx.x == 0)
#pragma unroll 1
    for (int i = 0; i < Tile::kStages - 1; ++i) flow.ask_x(i);
  __syncwarp();
  // Sums of two groups; between pieces their registers, which the assembler keeps for them, hold pieces of others.
  float dot[2][kN / 2];
#pragma unroll
  for (int i = 0; i < kN / 2; ++i) dot[0][i] = dot[1][i] = 0.f;
#pragma unroll 1
  for (int unit = first / share.slices, at = first; at < last; ++unit, slice = 0) {
    float sum[kN / 2];
#pragma unroll
    for (int i = 0; i < kN / 2; ++i) sum[i] = 0.f;
    const int count = min(last - at, int(share.slices) - slice);
    at += count;
    if constexpr (Tile::kByWarps) {
      multiply_by_warps(flow, count, last - at, sum);
    } else {
      multiply_by_warpgroups<kGroup, kN, kOrdered>(flow, count, last - at, dot, sum);
      if (flow.lane == 0) barrier_arrive(flow.empty(flow.x_before()));
    }
    flow.park();
    finish(unit, slice == 0, count == int(share.slices), dot, sum);
    flow.resume();
  }
}

#endif  // EXLLAMA_WGMMA

}  // namespace exllama

// grid by wgmmaBatchLaunch(): blocks that all run at once; block 256, BatchTile::kShared bytes of dynamic shared memory.
#ifdef EXLLAMA_WGMMA
#define EXLLAMA_BATCH_BODY(GROUP, N, ORDERED) exllama::linear_batch_wgmma<GROUP, N, ORDERED>(p)
#else
#define EXLLAMA_BATCH_BODY(GROUP, N, ORDERED)
#endif
#define EXLLAMA_BATCH(GROUP, N, SUFFIX, ORDERED)                                                             \
  extern "C" __global__ void __launch_bounds__(256, exllama::BatchTile<GROUP, N>::kBlocks)                     \
      linear_batch_wgmma_q4_g##GROUP##_t##N##SUFFIX(const __grid_constant__ exllama::TensorBatchParams p) {    \
    EXLLAMA_BATCH_BODY(GROUP, N, ORDERED);                                                                     \
  }
#define EXLLAMA_BATCH_ORDERS(GROUP, N) EXLLAMA_BATCH(GROUP, N, , false) EXLLAMA_BATCH(GROUP, N, _ordered, true)
#define EXLLAMA_BATCH_TOKENS(GROUP) \
  EXLLAMA_BATCH(GROUP, 8, , false)  \
  EXLLAMA_BATCH(GROUP, 16, , false) \
  EXLLAMA_BATCH_ORDERS(GROUP, 32)   \
  EXLLAMA_BATCH_ORDERS(GROUP, 64)   \
  EXLLAMA_BATCH_ORDERS(GROUP, 128)
EXLLAMA_BATCH_TOKENS(32)
EXLLAMA_BATCH_TOKENS(64)
EXLLAMA_BATCH_TOKENS(128)
