// Attention of one token inside a chain: the heads come in packets from the blocks that multiplied q, k, v, what they gather goes
// on in packets to those that multiply o.
//
// Strategy   A KV head's keys are cut into parts, one for each block that has the head; a block's warps take batches of a part's keys
//            in turn. Eight dims of a key are a lane's, so that a batch is whole rows of memory, straight into registers: those of the
//            first batches are on their way before the heads are there, and as many bytes are under way as keep memory busy. Products
//            in f32, of one query head or of up to four that share the KV head; the sums of a batch over dims are exchanged in halves,
//            after which every lane has one head's score of one key, and the exponent once.
//            The newest key and value are turned by the block that has them, go to the cache, and come into the batch from shared memory.
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

/// Of `kTogether` query heads at a time.
template <int kDim, int kTogether>
struct LayerAttention {
  static constexpr int kLanes = kDim / 8;           // that have a key
  static constexpr int kPerLoad = kWarp / kLanes;   // keys
  static constexpr int kLoads = kTogether == 1 ? 4 : 2;
  static constexpr int kKeys = kPerLoad * kLoads;   // of a batch
  static constexpr int kScores = kTogether * kLoads;
  static constexpr int kApart = kLanes / kScores;   // lanes from a score to the next one
  static constexpr int kSumRow = kDim + 4;          // sums, largest exponent, denominator
  static_assert(kApart >= 1 && kPageTokens % kKeys == 0);

  /// In the place of x and of sums, which nobody needs meanwhile; the same arithmetic as chain-launch.ts.
  struct Memory {
    float* queries;  // [group][kDim]
    __half* newest;  // key and value [2][kDim]
    float* sums;     // [warps][kTogether][kSumRow]
    template <typename Shared>
    __device__ __forceinline__ Memory(const Shared& shared, int group) {
      queries = reinterpret_cast<float*>(shared.x);
      newest = reinterpret_cast<__half*>(queries + group * kDim);
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
      slices = kChainWarps / ((p.group + kTogether - 1) / kTogether);
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
    const int cell = lane % kLanes, of_load = lane / kLanes, step = cut.slices * kKeys;
    const bool has_heads = cut.set * kTogether < p.group;

    uint4 k[kLoads], v[kLoads];
    // What is not there is zero, also all of a batch: registers that were left as they are would count as in use from layer to layer.
    const auto load = [&](int key0) {
      const size_t at = ((size_t(__ldg(layer.pages + min(key0, position) / kPageTokens)) * p.kv_heads + cut.kv_head) * kPageTokens + key0 % kPageTokens) * kDim;
      const uint4* keys = reinterpret_cast<const uint4*>(layer.k_cache + at) + lane;
      const uint4* values = reinterpret_cast<const uint4*>(layer.v_cache + at) + lane;
      // Of the newest key nothing is in the cache yet.
      const int there = min(cut.end, position) - key0 - of_load;
#pragma unroll
      for (int i = 0; i < kLoads; ++i) k[i] = i * kPerLoad < there ? __ldg(keys + i * kWarp) : make_uint4(0, 0, 0, 0);
#pragma unroll
      for (int i = 0; i < kLoads; ++i) v[i] = i * kPerLoad < there ? __ldg(values + i * kWarp) : make_uint4(0, 0, 0, 0);
    };
    int key0 = has_heads ? cut.begin + cut.slice * kKeys : cut.end;
    load(key0);
    const Memory memory(shared, p.group);
    meet_chain();  // nobody reads sums of q, k, v any more
    receive_heads(p, layer, memory, cut, position, asked >= 0, epoch - kChainEpochs + kHeads, warp, lane);
    meet_chain();

    float out[kTogether][8] = {}, highest = -INFINITY, total = 0.f;
    const float* queries = memory.queries + cut.set * kTogether * kDim + cell * 8;
#pragma unroll 1
    while (key0 < cut.end) {
      if (key0 + kKeys > position) {
#pragma unroll
        for (int i = 0; i < kLoads; ++i)
          if (key0 + i * kPerLoad + of_load == position) {
            k[i] = reinterpret_cast<const uint4*>(memory.newest)[cell];
            v[i] = reinterpret_cast<const uint4*>(memory.newest + kDim)[cell];
          }
      }
      float s[kScores];
#pragma unroll
      for (int i = 0; i < kLoads; ++i) {
        float of_key[8];
        widen(k[i], of_key);
#pragma unroll
        for (int h = 0; h < kTogether; ++h) {
          const float4 a = reinterpret_cast<const float4*>(queries + h * kDim)[0], b = reinterpret_cast<const float4*>(queries + h * kDim)[1];
          s[h * kLoads + i] = of_key[0] * a.x + of_key[1] * a.y + of_key[2] * a.z + of_key[3] * a.w + (of_key[4] * b.x + of_key[5] * b.y + of_key[6] * b.z + of_key[7] * b.w);
        }
      }
      sum_lanes(s, lane);
      const int mine = cell / kApart % kLoads, key = key0 + mine * kPerLoad + of_load;
      const bool seen = key < cut.end && (layer.window == 0 || key > position - layer.window);
      const float score = seen ? s[0] * p.scale : -INFINITY;
      const float best = fmaxf(highest, over_keys(score, [](float a, float b) { return fmaxf(a, b); }));
      const float base = best == -INFINITY ? 0.f : best, shrink = power_of_two(highest - base), share = power_of_two(score - base);
      highest = best, total = total * shrink + share;
      if (__any_sync(0xffffffffu, shrink != 1.f)) {
#pragma unroll
        for (int h = 0; h < kTogether; ++h) {
          const float by = __shfl_sync(0xffffffffu, shrink, h * kLoads * kApart);
#pragma unroll
          for (int d = 0; d < 8; ++d) out[h][d] *= by;
        }
      }
#pragma unroll
      for (int i = 0; i < kLoads; ++i) {
        float of_value[8];
        widen(v[i], of_value);
#pragma unroll
        for (int h = 0; h < kTogether; ++h) {
          const float by = __shfl_sync(0xffffffffu, share, of_load * kLanes + (h * kLoads + i) * kApart);
#pragma unroll
          for (int d = 0; d < 8; ++d) out[h][d] += by * of_value[d];
        }
      }
      key0 += step;
      load(key0);
    }
    total = over_keys(total, [](float a, float b) { return a + b; });
    if (has_heads) {
      float* to = memory.sums + warp * kTogether * kSumRow;
#pragma unroll
      for (int h = 0; h < kTogether; ++h) {
#pragma unroll
        for (int d = 0; d < 8; ++d)
#pragma unroll
          for (int far = kLanes; far < kWarp; far *= 2) out[h][d] += __shfl_xor_sync(0xffffffffu, out[h][d], far);
        if (of_load == 0) {
          float4* row = reinterpret_cast<float4*>(to + h * kSumRow + cell * 8);
          row[0] = make_float4(out[h][0], out[h][1], out[h][2], out[h][3]), row[1] = make_float4(out[h][4], out[h][5], out[h][6], out[h][7]);
        }
        if (lane == h * kLoads * kApart) to[h * kSumRow + kDim] = highest, to[h * kSumRow + kDim + 1] = total;
      }
    }
    meet_chain();
#pragma unroll 1
    for (int i = warp; i < p.group; i += kChainWarps) merge(p, memory, cut, i, epoch, lane);
    meet_chain();  // x may take the place
  }

 private:
  __device__ __forceinline__ static void widen(const uint4& cell, float (&to)[8]) {
    const uint32_t words[4] = {cell.x, cell.y, cell.z, cell.w};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float2 pair = float_pair(words[i]);
      to[2 * i] = pair.x, to[2 * i + 1] = pair.y;
    }
  }

  /// Sums over the lanes of a key; then this lane has that of number (lane % kLanes) / kApart in s[0].
  __device__ __forceinline__ static void sum_lanes(float (&s)[kScores], int lane) {
#pragma unroll
    for (int far = kLanes / 2, count = kScores / 2; far > 0; far /= 2, count /= 2) {
      if (count > 0) {
        const bool upper = lane & far;
#pragma unroll
        for (int i = 0; i < count; ++i) {
          const float give = upper ? s[i] : s[i + count], keep = upper ? s[i + count] : s[i];
          s[i] = keep + __shfl_xor_sync(0xffffffffu, give, far);
        }
      } else {
        s[0] += __shfl_xor_sync(0xffffffffu, s[0], far);
      }
    }
  }

  /// Over all lanes that have keys of the same head.
  template <typename Take>
  __device__ __forceinline__ static float over_keys(float x, Take take) {
#pragma unroll
    for (int far = kApart; far < kApart * kLoads; far *= 2) x = take(x, __shfl_xor_sync(0xffffffffu, x, far));
#pragma unroll
    for (int far = kLanes; far < kWarp; far *= 2) x = take(x, __shfl_xor_sync(0xffffffffu, x, far));
    return x;
  }

  /// The block's heads, turned, into shared memory; in the block of the last part the newest key and value too, and into the cache.
  template <typename Params>
  __device__ __forceinline__ static void receive_heads(const Params& p, const ChainLayer& layer, const Memory& memory, const Cut& cut, int position,
                                                       bool is_live, uint32_t epoch, int warp, int lane) {
    const int before = cut.end > position ? 2 : 0;
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
        if (4 * lane < kDim)
          reinterpret_cast<float4*>(memory.queries + (task - before) * kDim)[lane] = make_float4(x.v[0][0], x.v[0][1], x.v[0][2], x.v[0][3]);
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
    const float* rows = memory.sums + (i / kTogether * cut.slices * kTogether + i % kTogether) * kSumRow;
    constexpr int kPitch = kTogether * kSumRow;
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
    const float share = weigh(has_slice ? rows[lane * kPitch + kDim] : -INFINITY, has_slice ? rows[lane * kPitch + kDim + 1] : 0.f, best, total);
    float4 sum = make_float4(0.f, 0.f, 0.f, 0.f);
#pragma unroll 4
    for (int s = 0; s < cut.slices; ++s) add(sum, __shfl_sync(0xffffffffu, share, s), *reinterpret_cast<const float4*>(rows + s * kPitch + d));
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
