// Attention of one token inside a chain: the heads come in packets from the blocks that multiplied q, k, v, what they gather goes
// on in packets to those that multiply o.
//
// Strategy   A KV head's keys are cut into parts, one for each block that has the head; a block's warps take batches of a part's keys
//            in turn, tiles of eight, straight from memory into registers: the first are on their way before the heads are there. Tensor
//            cores do not care in which order dims are summed, so a lane's 16 bytes of a key are two of its operands as they are; scores
//            have heads as rows and keys as columns, which is how the second product takes them, whose rows are dims: values
//            become its other operand by bytes exchanged between a lane's two rows.
//            The newest key and value are turned by the block that has them, go to the cache, and come into the tile from shared memory.
// Merging    In the order of a block's warps, then of the parts, which go in packets to one of the head's blocks.
// Limits     f16 cache; dim 64 or 128; at most 16 query heads to a KV head; as many blocks as KV heads at least
// Layout     kv_cells.cuh
#pragma once

#include "attention.cuh"
#include "kv_cells.cuh"
#include "linear_chain_input.cuh"

namespace exllama {

/// What attention inside a chain takes beside ChainBuffers.
struct ChainAttention {
  const float2* table;       // [dim / 2] cosines and sines of the token
  const int32_t* position;   // [1]; -1: an idle row
  uint64_t* heads;           // packets of two f16 of q, k, v
  uint64_t* gathered;        // packets of two f16: x of o
  uint64_t* parts;           // [heads][most parts][dim + 2] packets: sums, largest exponent, denominator
  int32_t query_heads, kv_heads, group;  // query_heads / kv_heads
  int32_t most_parts;        // of a KV head's keys, each by a block
  int32_t least_keys;        // of a part, a multiple of 64
  int32_t keys_ahead;        // of a part, that are brought to L2 while the layer before is multiplied
  float scale;               // log2(e) / sqrt(dim)
  float head_eps;            // of the norms of heads
};
static_assert(sizeof(ChainAttention) == 72);

constexpr int kMostChainLayers = 96;

/// A launch of chain_layers.cu: layers from q, k, v of the first to down of the last.
struct ChainLayersParams : ChainBuffers, ChainShapes, ChainAttention {
  static constexpr bool kAttends = true;
  ChainLayer layer[kMostChainLayers];
};
static_assert(sizeof(ChainLayersParams) == 88 + 128 + 72 + kMostChainLayers * 176);

struct NoAttention {};

/// Brings bytes (a multiple of 16, the address too) to L2.
__device__ __forceinline__ void prefetch_bulk(const void* from, int bytes) {
  asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(from), "r"(bytes) : "memory");
}

/// The query heads of a KV head are the columns of a product of tensor cores, up to eight; the tile of a warp is eight keys.
template <int kDim>
struct LayerAttention {
  static constexpr int kHeads = 8;
  static constexpr int kKeys = 8;
  static constexpr int kCells = kDim / 8;           // of eight dims, 16 bytes
  static constexpr int kLoads = kCells / 4;         // a lane's cells of a tile's keys, and of its values
  static constexpr int kQueryPitch = kDim + 8;      // eight rows hit all banks
  static constexpr int kSumRow = kDim + 4;          // sums, largest exponent, denominator
  static_assert(kDim == 64 || kDim == 128);

  /// In the place of x and of sums, which nobody needs meanwhile; the same arithmetic as chain-launch.ts.
  struct Memory {
    __half* queries;  // [group, rounded up to eights][kQueryPitch]
    __half* newest;   // key and value [2][kDim]
    float* sums;      // [warps][heads][kSumRow]
    int heads;        // of a warp
    template <typename Shared>
    __device__ __forceinline__ Memory(const Shared& shared, int group) {
      heads = min(group, kHeads);
      queries = reinterpret_cast<__half*>(shared.x);
      newest = queries + (group + kHeads - 1) / kHeads * kHeads * kQueryPitch;
      sums = reinterpret_cast<float*>(newest + 2 * kDim);
    }
  };

  /// How a KV head's keys are dealt out: to blocks, to groups of a block's warps that have different query heads, to warps.
  struct Cut {
    int kv_head, part, parts, begin, end;
    int slices, set, slice;
    __device__ __forceinline__ Cut(const ChainAttention& p, int window, int position, int warp) {
      const int block = settled(blockIdx.x);
      part = block / p.kv_heads, kv_head = block - part * p.kv_heads;
      slices = kChainWarps / ((p.group + kHeads - 1) / kHeads);
      set = warp / slices, slice = warp - set * slices;
      const int first = window == 0 ? 0 : max(0, position + 1 - window) / 32 * 32;
      const int keys = position + 1 - first;
      const int each = max(p.least_keys, ((keys + p.most_parts - 1) / p.most_parts + 63) / 64 * 64);
      parts = (keys + each - 1) / each;
      begin = first + part * each, end = min(begin + each, position + 1);
    }
  };

  /// Asks for a quarter of the keys and values that this block will read first, a part's beginning, to be brought to L2.
  template <typename Params>
  __device__ __forceinline__ static void prefetch(const Params& p, const ChainLayer& layer, int quarter) {
    const int position = max(__ldg(p.position), 0);
    const Cut cut(p, layer.window, position, 0);
    const int count = max(0, min(min(cut.end, position) - cut.begin, p.keys_ahead));
    const int end = cut.begin + count * (quarter + 1) / 4;
#pragma unroll 1
    for (int key = cut.begin + count * quarter / 4; key < end;) {
      const int next = min(end, key / kPageTokens * kPageTokens + kPageTokens);
      const size_t at = ((size_t(__ldg(layer.pages + key / kPageTokens)) * p.kv_heads + cut.kv_head) * kPageTokens + key % kPageTokens) * kDim;
      prefetch_bulk(layer.k_cache + at, (next - key) * kDim * 2);
      prefetch_bulk(layer.v_cache + at, (next - key) * kDim * 2);
      key = next;
    }
  }

  template <typename Params, typename Shared>
  __device__ __forceinline__ static void attend(const Params& p, const Shared& shared, const ChainLayer& layer, uint32_t epoch, int warp_of_block) {
    const int lane = settled(threadIdx.x % kWarp), warp = settled(warp_of_block);  // nothing is computed ahead of the loop over layers
    const int asked = __ldg(p.position), position = max(asked, 0);
    const Cut cut(p, layer.window, position, warp);
    if (cut.part >= cut.parts) return;
    const int g = lane / 4, t = lane % 4, step = cut.slices * kKeys;

    // Of keys key g's cells 4 i + t, of values those of 2 t and 2 t + 1, cells g and, with 128 dims, g + 8.
    uint4 k[kLoads], v[kLoads];
    // What is not there is zero, also all of a tile: registers that were left as they are would count as in use from layer to layer.
    const auto load = [&](int key0) {
      const size_t at = ((size_t(__ldg(layer.pages + min(key0, position) / kPageTokens)) * p.kv_heads + cut.kv_head) * kPageTokens + key0 % kPageTokens) * kDim;
      const uint4* keys = reinterpret_cast<const uint4*>(layer.k_cache + at) + g * kCells + t;
      const uint4* values = reinterpret_cast<const uint4*>(layer.v_cache + at) + 2 * t * kCells + g;
      // Of the newest key nothing is in the cache yet.
      const int there = min(cut.end, position) - key0;
#pragma unroll
      for (int i = 0; i < kLoads; ++i) k[i] = g < there ? __ldg(keys + 4 * i) : make_uint4(0, 0, 0, 0);
#pragma unroll
      for (int i = 0; i < kLoads; ++i) v[i] = 2 * t + i % 2 < there ? __ldg(values + i % 2 * kCells + i / 2 * 8) : make_uint4(0, 0, 0, 0);
    };
    int key0 = cut.set * kHeads < p.group ? cut.begin + cut.slice * kKeys : cut.end;
    load(key0);
    const Memory memory(shared, p.group);
    meet_chain();  // nobody reads sums of q, k, v any more
    receive_heads(p, layer, memory, cut, position, asked >= 0, epoch - kChainEpochs + ChainEpoch::kHeads, warp, lane);
    meet_chain();

    float out[kDim / 16][4] = {}, highest = -INFINITY, total = 0.f;  // rows of dims by columns of heads; of head g
    const uint4* queries = reinterpret_cast<const uint4*>(memory.queries + (cut.set * kHeads + g) * kQueryPitch) + t;
#pragma unroll 1
    while (key0 < cut.end) {
      if (key0 + kKeys > position) {
        const uint4* newest = reinterpret_cast<const uint4*>(memory.newest);
        if (key0 + g == position) {
#pragma unroll
          for (int i = 0; i < kLoads; ++i) k[i] = newest[4 * i + t];
        }
#pragma unroll
        for (int i = 0; i < kLoads; ++i)
          if (key0 + 2 * t + i % 2 == position) v[i] = newest[kCells + i / 2 * 8 + g];
      }
      float s[2][4] = {};  // of head g, keys 2 t and 2 t + 1
#pragma unroll
      for (int i = 0; i < kLoads; ++i) {
        const uint4 q = queries[4 * i];
        multiply(s[0], {q.x, 0, q.y, 0}, k[i].x, k[i].y);
        multiply(s[1], {q.z, 0, q.w, 0}, k[i].z, k[i].w);
      }
      const auto score = [&](int i) {
        const int key = key0 + 2 * t + i;
        const bool seen = key < cut.end && (layer.window == 0 || key > position - layer.window);
        return seen ? (s[0][i] + s[1][i]) * p.scale : -INFINITY;
      };
      const float first = score(0), second = score(1);
      float best = fmaxf(first, second);
      best = fmaxf(best, __shfl_xor_sync(0xffffffffu, best, 1));
      best = fmaxf(highest, fmaxf(best, __shfl_xor_sync(0xffffffffu, best, 2)));
      const float base = best == -INFINITY ? 0.f : best, shrink = power_of_two(highest - base);
      const float a = power_of_two(first - base), b = power_of_two(second - base);
      highest = best, total = total * shrink + (a + b);
      if (__any_sync(0xffffffffu, shrink != 1.f)) {
        const float even = __shfl_sync(0xffffffffu, shrink, 8 * t), odd = __shfl_sync(0xffffffffu, shrink, 8 * t + 4);
#pragma unroll
        for (int j = 0; j < kDim / 16; ++j) out[j][0] *= even, out[j][1] *= odd, out[j][2] *= even, out[j][3] *= odd;
      }
      const uint32_t shares = half_pair(a, b);
#pragma unroll
      for (int j = 0; j < kDim / 16; ++j) {
        // Dims j of a lane's cells: rows g and g + 8 of the tile.
        const uint32_t upper = pair_of(v[0], v[1], j), lower = kDim == 128 ? pair_of(v[kLoads - 2], v[kLoads - 1], j) : pair_of(v[0], v[1], j + 4);
        multiply_8(out[j], upper, lower, shares);
      }
      key0 += step;
      load(key0);
    }
    total += __shfl_xor_sync(0xffffffffu, total, 1);
    total += __shfl_xor_sync(0xffffffffu, total, 2);
    float* rows = memory.sums + warp * memory.heads * kSumRow;
    if (g < memory.heads && t == 0) rows[g * kSumRow + kDim] = highest, rows[g * kSumRow + kDim + 1] = total;
#pragma unroll
    for (int odd = 0; odd < 2; ++odd) {
      if (2 * t + odd >= memory.heads) continue;
      float4* row = reinterpret_cast<float4*>(rows + (2 * t + odd) * kSumRow) + 2 * g;
#pragma unroll
      for (int j = 0; j < kDim / 64; ++j) {
        row[j] = make_float4(out[4 * j][odd], out[4 * j + 1][odd], out[4 * j + 2][odd], out[4 * j + 3][odd]);
        row[j + (kDim == 128 ? 16 : 1)] = make_float4(out[4 * j][odd + 2], out[4 * j + 1][odd + 2], out[4 * j + 2][odd + 2], out[4 * j + 3][odd + 2]);
      }
    }
    meet_chain();
#pragma unroll 1
    for (int i = warp; i < p.group; i += kChainWarps) merge(p, memory, cut, i, epoch, lane);
    meet_chain();  // x may take the place
  }

 private:
  /// Half number j of two cells.
  __device__ __forceinline__ static uint32_t pair_of(const uint4& first, const uint4& second, int j) {
    const uint32_t a[4] = {first.x, first.y, first.z, first.w}, b[4] = {second.x, second.y, second.z, second.w};
    return __byte_perm(a[j / 2], b[j / 2], j % 2 == 0 ? 0x5410 : 0x7632);
  }

  /// c[16 x 8] += a[16 x 8] * b[8 x 8], as multiply() with half its k.
  __device__ __forceinline__ static void multiply_8(float (&c)[4], uint32_t a0, uint32_t a1, uint32_t b0) {
    asm("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5}, {%6}, {%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a0), "r"(a1), "r"(b0));
  }

  /// The block's heads, turned, into shared memory; in the block of the last part the newest key and value too, and into the cache.
  template <typename Params>
  __device__ __forceinline__ static void receive_heads(const Params& p, const ChainLayer& layer, const Memory& memory, const Cut& cut, int position,
                                                       bool is_live, uint32_t epoch, int warp, int lane) {
    const int before = cut.end > position ? 2 : 0;
    // Columns of heads that are not there: zeros.
    for (int i = p.group * kQueryPitch / 8 + threadIdx.x; i < (memory.newest - memory.queries) / 8; i += kChainThreads)
      reinterpret_cast<uint4*>(memory.queries)[i] = make_uint4(0, 0, 0, 0);
    Turns<1> turns;
    turns.load(p.table, kDim, lane);
#pragma unroll 1
    for (int task = warp; task < before + p.group; task += kChainWarps) {
      const bool is_query = task >= before, is_value = !is_query && task == 1;
      const int head = is_query ? cut.kv_head * p.group + task - before : p.query_heads + cut.kv_head + (is_value ? p.kv_heads : 0);
      const uint64_t* from = p.heads + head * (kDim / 2) + lane % (kDim / 4) * 2;
      uint4 packets;
      unsigned polls = 0;
      do {
        packets = look(from);
        if (++polls > kMostPolls) give_up();
      } while (!arrived(packets, epoch));
      HeadCells<1> cells;
      cells.own[0] = 4 * lane < kDim ? make_uint2(packets.x, packets.z) : make_uint2(0, 0);
      cells.partner[0] = make_uint2(__shfl_xor_sync(0xffffffffu, cells.own[0].x, kDim / 8), __shfl_xor_sync(0xffffffffu, cells.own[0].y, kDim / 8));
      HeadRow<1> x;
      x.take(cells);
      if (!is_value) x.turn(cells, is_query ? layer.q_norm : layer.k_norm, p.head_eps, turns, kDim, lane);
      if (is_query) {
        x.store_half(memory.queries + (task - before) * kQueryPitch, kDim, lane);
      } else {
        x.store_half(memory.newest + is_value * kDim, kDim, lane);
        const size_t at = ((size_t(__ldg(layer.pages + position / kPageTokens)) * p.kv_heads + cut.kv_head) * kPageTokens + position % kPageTokens) * kDim;
        if (is_live) x.store_half((is_value ? layer.v_cache : layer.k_cache) + at, kDim, lane);
      }
    }
  }

  /// From the sums of the warps to what head number i of the group gathers, by way of one of its blocks where there are several. A lane has four dims.
  template <typename Params>
  __device__ __forceinline__ static void merge(const Params& p, const Memory& memory, const Cut& cut, int i, uint32_t epoch, int lane) {
    const int head = cut.kv_head * p.group + i, d = 4 * lane % kDim;
    const int pitch = memory.heads * kSumRow;
    const float* rows = memory.sums + i / kHeads * cut.slices * pitch + i % kHeads * kSumRow;
    const auto weigh = [&](float highest, float total, float& best, float& all) {
      best = warp_max(highest);
      const float share = power_of_two(highest - best);
      all = warp_sum(share * total);
      return share;
    };
    const auto add = [](float4& sum, float by, const float4& part) {
      sum.x += by * part.x, sum.y += by * part.y, sum.z += by * part.z, sum.w += by * part.w;
    };
    float best, total;
    const bool has_slice = lane < cut.slices;
    const float share = weigh(has_slice ? rows[lane * pitch + kDim] : -INFINITY, has_slice ? rows[lane * pitch + kDim + 1] : 0.f, best, total);
    float4 sum = make_float4(0.f, 0.f, 0.f, 0.f);
#pragma unroll 4
    for (int s = 0; s < cut.slices; ++s) add(sum, __shfl_sync(0xffffffffu, share, s), *reinterpret_cast<const float4*>(rows + s * pitch + d));
    if (cut.parts > 1) {
      constexpr int kRow = kDim + 2;
      uint64_t* parts = p.parts + size_t(head) * p.most_parts * kRow;
      uint64_t* to = parts + cut.part * kRow;
      const uint32_t sent = epoch + kParts;
      if (4 * lane < kDim) {
        send(to + d, __float_as_uint(sum.x), sent), send(to + d + 1, __float_as_uint(sum.y), sent);
        send(to + d + 2, __float_as_uint(sum.z), sent), send(to + d + 3, __float_as_uint(sum.w), sent);
      }
      if (lane == 0) send(to + kDim, __float_as_uint(best), sent), send(to + kDim + 1, __float_as_uint(total), sent);
      if (i % cut.parts != cut.part) return;
      const bool has_part = lane < cut.parts;
      const uint4 facts = receive(parts + (has_part ? lane : 0) * kRow + kDim, sent);
      const float share = weigh(has_part ? __uint_as_float(facts.x) : -INFINITY, has_part ? __uint_as_float(facts.z) : 0.f, best, total);
      sum = make_float4(0.f, 0.f, 0.f, 0.f);
#pragma unroll 1
      for (int first = 0; first < cut.parts; first += 4) {
        uint4 some[4][2] = {};
#pragma unroll
        for (int j = 0; j < 4; ++j)
          if (first + j < cut.parts) some[j][0] = look(parts + (first + j) * kRow + d), some[j][1] = look(parts + (first + j) * kRow + d + 2);
#pragma unroll
        for (int j = 0; j < 4; ++j)
          if (first + j < cut.parts) {
            if (!arrived(some[j][0], sent)) some[j][0] = receive(parts + (first + j) * kRow + d, sent);
            if (!arrived(some[j][1], sent)) some[j][1] = receive(parts + (first + j) * kRow + d + 2, sent);
            const float4 part = make_float4(__uint_as_float(some[j][0].x), __uint_as_float(some[j][0].z), __uint_as_float(some[j][1].x),
                                            __uint_as_float(some[j][1].z));
            add(sum, __shfl_sync(0xffffffffu, share, first + j), part);
          }
      }
    }
    const float inverse = 1.f / total;
    if (4 * lane >= kDim) return;
    uint64_t* to = p.gathered + (head * kDim + d) / 2;
    send(to, half_pair(sum.x * inverse, sum.y * inverse), epoch + kGathered);
    send(to + 1, half_pair(sum.z * inverse, sum.w * inverse), epoch + kGathered);
  }

  /// Two packets, once all lanes' have been sent.
  __device__ __forceinline__ static uint4 receive(const uint64_t* from, uint32_t epoch) {
    unsigned polls = 0;
    uint4 packets;
    do {
      packets = look(from);
      if (++polls > kMostPolls) give_up();
    } while (!arrived(packets, epoch));
    return packets;
  }
};

}  // namespace exllama
