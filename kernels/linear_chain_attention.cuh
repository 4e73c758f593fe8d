// Attention of one token inside a chain: the heads come in packets from the blocks that multiplied q, k, v, what they gather goes
// on in packets to those that multiply o.
//
// Strategy   A KV head's keys are cut into parts, one for each block that has the head. A part comes through the ring, tiles of 4 KB of
//            keys and as much of values between the weights of q, k, v and those of o: so it is there, or on its way, before the heads
//            are, and memory goes on to the weights behind it. A block's warps take tiles in turn.
//            The newest key and value are turned by the block that has them, go to the cache, and are read from shared memory.
// Merging    In the order of a block's warps, then of the parts, which go in packets to one of the head's blocks.
// Rounds     A warp comes to every sixteenth tile at most. When it waits for tile s it has had s - 16 or what lies before the part, and few copies
//            were under way with that one; so with twelve stages s - 2 * stages has been there (see linear_chain.cu).
// Limits     f16 cache; dim 64 or 128; at most 16 query heads to a KV head; a block for each part of every KV head; 12 stages of the ring
// Layout     kv_cells.cuh
#pragma once

#include "kv_cells.cuh"
#include "linear_chain_heads.cuh"

namespace exllama {

/// What attention inside a chain takes beside ChainBuffers.
struct ChainAttention {
  const float2* table;       // [dim / 2] cosines and sines of the token
  const int32_t* position;   // [1]; -1: an idle row
  uint64_t* heads;           // packets of two f16 of q, k, v
  uint4* gathered;           // packets of eight f16: x of o
  uint64_t* parts;           // [heads][most parts][dim + 2] packets: sums, largest exponent, denominator
  int32_t query_heads, kv_heads, group;  // query_heads / kv_heads
  int32_t most_parts;        // of a KV head's keys, each by a block
  float scale;               // log2(e) / sqrt(dim)
  float head_eps;            // of the norms of heads
};
static_assert(sizeof(ChainAttention) == 64);

constexpr int kMostChainLayers = 96;

/// A launch of chain_layers.cu: layers from q, k, v of the first to down of the last.
struct ChainLayersParams : ChainBuffers, ChainShapes, ChainAttention {
  static constexpr bool kAttends = true;
  ChainLayer layer[kMostChainLayers];
};
static_assert(sizeof(ChainLayersParams) == 88 + 128 + 64 + kMostChainLayers * 176);

struct NoAttention {};

/// What attention has in a block's shared memory, the same arithmetic as chain-launch.ts: queries and the newest key and value in the place of x and
/// its spans, and not in that of partial sums, of which results are still being made when they come; then, where nobody needs anything any more, sums.
template <int kDim>
struct AttentionMemory {
  static constexpr int kMostHeads = 8;            // of a warp
  static constexpr int kQueryPitch = kDim + 8;    // eight rows hit all banks
  static constexpr int kSumRow = kDim + 4;        // sums, largest exponent, denominator

  __half* queries;  // [group, rounded up to eights][kQueryPitch]
  __half* newest;   // key and value [2][kDim]; tiles of them are read, whose other keys do not count
  float* sums;      // [warps][heads][kSumRow]
  int heads;        // of a warp

  template <typename Shared>
  __device__ __forceinline__ AttentionMemory(const Shared& shared, int group) {
    heads = min(group, kMostHeads);
    queries = reinterpret_cast<__half*>(shared.x);
    newest = queries + (group + kMostHeads - 1) / kMostHeads * kMostHeads * kQueryPitch;
    sums = reinterpret_cast<float*>(newest + 2 * kDim);
  }
};

/// Keys of a part at least, a multiple of 64: fewer are sooner read than sums of parts are sent.
constexpr int kLeastKeys = 128;

/// How a KV head's keys are dealt out to blocks; the same for all layers that look equally far back.
struct alignas(16) AttentionCut {
  int window, kv_head, part, parts;
  int begin, end;          // keys of the part
  int old, tiles;          // those that are in the cache already, and what they are copied in

  __device__ __forceinline__ AttentionCut(const ChainAttention& p, int tile_keys, int of_window, int position) {
    const int block = settled(blockIdx.x);
    window = of_window, part = block / p.kv_heads, kv_head = block - part * p.kv_heads;
    const int first = window == 0 ? 0 : max(0, position + 1 - window) / 32 * 32;
    const int keys = position + 1 - first;
    const int each = max(kLeastKeys, ((keys + p.most_parts - 1) / p.most_parts + 63) / 64 * 64);
    parts = (keys + each - 1) / each;
    begin = first + part * each, end = min(begin + each, position + 1);
    old = part < parts ? min(end, position) - begin : 0;
    tiles = (old + tile_keys - 1) / tile_keys;
  }
};

static_assert(sizeof(AttentionCut) == kChainCutBytes);

/// How a block's part is dealt out to its warps, which are one set, or two that have different query heads.
struct AttentionSlices {
  int slices, set, slice;  // a warp takes every slices-th of a set's
  bool one_set;

  __device__ __forceinline__ AttentionSlices(int group, int heads, int warp) {
    one_set = group <= heads, slices = one_set ? kChainWarps : kChainWarps / 2;
    set = one_set ? 0 : warp / (kChainWarps / 2), slice = warp & (slices - 1);
  }
};

/// Attention of one layer, in a block; `Products` is what a warp does.
template <int kDim, typename Products>
struct LayerAttention {
  using Memory = AttentionMemory<kDim>;
  using Cut = AttentionCut;
  static constexpr int kTileKeys = 2048 / kDim, kTileBytes = kTileKeys * kDim * 2;  // of keys, and again of values
  static constexpr int kSteps = kTileKeys / Products::kKeys;                        // of a tile
  static_assert(kPageTokens % kTileKeys == 0 && 64 % kTileKeys == 0 && (kSteps == 1 || kSteps == 2));

  /// Calls take(keys, values) for each tile of this block's part.
  template <typename Params, typename Take>
  __device__ __forceinline__ static void for_each_tile(const Params& p, const ChainLayer& layer, Take take) {
    const Cut cut(p, kTileKeys, layer.window, max(__ldg(p.position), 0));
#pragma unroll 1
    for (int tile = 0, key = cut.begin; tile < cut.tiles; ++tile, key += kTileKeys) {
      const size_t at = cell_at(p, layer, cut.kv_head, key);
      take(layer.k_cache + at, layer.v_cache + at);
    }
  }

  /// `place` is where the first tile is in the ring, see chain_products(); `uses` what gathered is marked with. @returns how many tiles there were
  template <typename Params, typename Shared>
  __device__ __forceinline__ static int attend(const Params& p, const Shared& shared, const ChainLayer& layer, uint32_t epoch, uint32_t uses,
                                               int place) {
    const int lane = settled(threadIdx.x % kWarp), warp = settled(threadIdx.x / kWarp);  // nothing is computed ahead of the loop over layers
    const int asked = __ldg(p.position), position = max(asked, 0);
    const Cut& cut = *shared.cut;
    if (cut.window != layer.window) {
      meet_chain();
      if (threadIdx.x == 0) *shared.cut = Cut(p, kTileKeys, layer.window, position);
      meet_chain();
    }
    if (cut.part >= cut.parts) return 0;
    const Memory memory(shared, p.group);
    receive_heads(p, layer, memory, cut, position, asked >= 0, epoch - kChainEpochs + ChainEpoch::kHeads, warp, lane);
    meet_chain();

    const AttentionSlices own(p.group, Products::kHeads, warp);
    Products products;
    products.begin(memory.queries + own.set * Products::kHeads * Memory::kQueryPitch, Memory::kQueryPitch, lane);
    const int unseen = layer.window == 0 ? 0 : position - layer.window + 1 - cut.begin;  // keys of the part that are too far away
    // A set takes steps in turn, two of them tiles.
    const int halved = own.one_set && kSteps == 2, all = cut.tiles << halved;
    int at = own.slice;
#pragma unroll 1
    for (; at < all; at += own.slices) {
      const int tile = at >> halved, round = rounds_of(p, place + tile), stage = place + tile - round * p.stages;
      barrier_wait(shared.full + (round & 1) * kMostChainStages + stage, round >> 1 & 1);
      const uint8_t* const keys = shared.ring + stage * Shared::kStageBytes;
#pragma unroll 1
      for (int step = at & halved, end = own.one_set ? step + 1 : kSteps; step < end; ++step) {
        const int key = tile * kTileKeys + step * Products::kKeys;
        const uint8_t* const from = keys + step * (Products::kKeys * kDim * 2);
        if (key < cut.old) products.step(from, from + kTileBytes, unseen - key, min(Products::kKeys, cut.old - key), p.scale, lane);
      }
      __syncwarp();
      // A stage is empty when two say so: two sets, or warps that have a step of it each, or one that has all of it.
      if (lane == 0) {
        barrier_arrive(shared.empty + stage);
        if (own.one_set && kSteps == 1) barrier_arrive(shared.empty + stage);
      }
    }
    if (at == all && cut.end > position) products.step(memory.newest, memory.newest + kDim, 0, 1, p.scale, lane);
    products.store(memory.sums + warp * memory.heads * Memory::kSumRow, Memory::kSumRow, memory.heads, lane);
    meet_chain();
#pragma unroll 1
    for (int i = warp; i < p.group; i += kChainWarps)
      merge(p, memory, cut, min(own.slices, all + (cut.end > position)), own.slices, i, epoch, uses, lane);
    meet_chain();  // x may take the place
    return cut.tiles;
  }

 private:
  /// Of a key or value in the cache, in elements.
  template <typename Params>
  __device__ __forceinline__ static size_t cell_at(const Params& p, const ChainLayer& layer, int kv_head, int key) {
    return ((size_t(__ldg(layer.pages + key / kPageTokens)) * p.kv_heads + kv_head) * kPageTokens + key % kPageTokens) * kDim;
  }

  /// The block's heads, turned, into shared memory; in the block of the last part the newest key and value too, and into the cache.
  template <typename Params>
  __device__ __forceinline__ static void receive_heads(const Params& p, const ChainLayer& layer, const Memory& memory, const Cut& cut, int position,
                                                       bool is_live, uint32_t epoch, int warp, int lane) {
    const int before = cut.end > position ? 2 : 0;
    // Columns of heads that are not there: zeros.
    for (int i = p.group * Memory::kQueryPitch / 8 + threadIdx.x; i < (memory.newest - memory.queries) / 8; i += kChainThreads)
      reinterpret_cast<uint4*>(memory.queries)[i] = make_uint4(0, 0, 0, 0);
    Turns<1> turns;
    turns.load(p.table, kDim, lane);
#pragma unroll 1
    for (int task = warp; task < before + p.group; task += kChainWarps) {
      const bool is_query = task >= before, is_value = !is_query && task == 1;
      const int head = is_query ? cut.kv_head * p.group + task - before : p.query_heads + cut.kv_head + (is_value ? p.kv_heads : 0);
      const uint64_t* from = p.heads + head * (kDim / 2) + lane % (kDim / 4) * 2;
      const uint4 packets = receive(from, epoch);
      HeadCells<1> cells;
      cells.own[0] = 4 * lane < kDim ? make_uint2(packets.x, packets.z) : make_uint2(0, 0);
      cells.partner[0] = make_uint2(__shfl_xor_sync(0xffffffffu, cells.own[0].x, kDim / 8), __shfl_xor_sync(0xffffffffu, cells.own[0].y, kDim / 8));
      HeadRow<1> x;
      x.take(cells);
      if (!is_value) x.turn(cells, is_query ? layer.q_norm : layer.k_norm, p.head_eps, turns, kDim, lane);
      if (is_query) {
        x.store_half(memory.queries + (task - before) * Memory::kQueryPitch, kDim, lane);
      } else {
        x.store_half(memory.newest + is_value * kDim, kDim, lane);
        const size_t at = cell_at(p, layer, cut.kv_head, position);
        if (is_live) x.store_half((is_value ? layer.v_cache : layer.k_cache) + at, kDim, lane);
      }
    }
  }

  /// From the sums of the warps, `used` of them in each set of `slices`, to what head number i of the group gathers, by way of one of its blocks
  /// where there are several. A lane has four dims.
  template <typename Params>
  __device__ __forceinline__ static void merge(const Params& p, const Memory& memory, const Cut& cut, int used, int slices, int i, uint32_t epoch,
                                               uint32_t uses, int lane) {
    const int head = cut.kv_head * p.group + i, d = 4 * lane % kDim;
    const int pitch = memory.heads * Memory::kSumRow;
    const float* rows = memory.sums + i / Products::kHeads * slices * pitch + i % Products::kHeads * Memory::kSumRow;
    // Integers that are in the order of these numbers: the maximum of a warp is one instruction for them.
    const auto in_order = [](int bits) { return bits ^ (bits >> 31 & 0x7fffffff); };
    const auto weigh = [&](float highest, float& best) {
      best = __int_as_float(in_order(__reduce_max_sync(0xffffffffu, in_order(__float_as_int(highest)))));
      return power_of_two(highest - best);
    };
    const auto add = [](float4& sum, float by, const float4& part) {
      sum.x += by * part.x, sum.y += by * part.y, sum.z += by * part.z, sum.w += by * part.w;
    };
    float best, total = 0.f;
    const bool has_slice = lane < used;
    const float share = weigh(has_slice ? rows[lane * pitch + kDim] : -INFINITY, best);
    float4 sum = make_float4(0.f, 0.f, 0.f, 0.f);
#pragma unroll 4
    for (int s = 0; s < used; ++s) {
      const float by = __shfl_sync(0xffffffffu, share, s);
      add(sum, by, *reinterpret_cast<const float4*>(rows + s * pitch + d));
      total += by * rows[s * pitch + kDim + 1];
    }
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
      const float share = weigh(has_part ? __uint_as_float(facts.x) : -INFINITY, best);
      total = warp_sum(has_part ? share * __uint_as_float(facts.z) : 0.f);
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
    const float inverse = __fdividef(1.f, total);
    const uint2 four = make_uint2(half_pair(sum.x * inverse, sum.y * inverse), half_pair(sum.z * inverse, sum.w * inverse));
    const uint4 eight = make_uint4(four.x, four.y, __shfl_down_sync(0xffffffffu, four.x, 1), __shfl_down_sync(0xffffffffu, four.y, 1));
    if (4 * lane < kDim && lane % 2 == 0) send(p.gathered + (head * kDim + d) / 8, HalfPackets{uses}.marked(eight));
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
