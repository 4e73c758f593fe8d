// What the host and the kernels of sample.cu say to each other: facts of rows, how a token is chosen, launches.
#pragma once

#include "common.cuh"

namespace exllama {

/// One slice of a row.
struct SliceFacts {
  float highest;
  float sum;   // of exp(logit - highest)
  int32_t id;  // of the highest logit, the lowest among equals
  int32_t bad;  // lowest id whose logit is NaN or +infinity, or INT32_MAX
};
static_assert(sizeof(SliceFacts) == 16);

struct RowFacts {
  float highest;
  float sum;       // of exp(logit - highest)
  float target;    // logit of the target id, or 0
  int32_t id;      // of the highest logit, the lowest among equals
  int32_t bad;     // lowest id whose logit is NaN or +infinity, or INT32_MAX
  int32_t chosen;  // where the slot asks for it; -1: nothing may be chosen
  float chosen_logit;  // before adjustments
  int32_t kept;    // ids among which was drawn
};
static_assert(sizeof(RowFacts) == 32);

/// One id's changes: logit > 0 ? logit / factor : logit * factor, then + add (-infinity: never chosen).
struct Adjustment {
  double factor, add;
  int32_t id;
  float plain;  // the logit before, kept here by the kernel
};
static_assert(sizeof(Adjustment) == 24);

enum Mode : int32_t { kNothing = 0, kGreedy = 1, kDraw = 2 };

/// How a row's token is chosen.
struct SampleSlot {
  double uniform;     // in [0, 1)
  double min_distance;  // temperature * log(min-p), or -infinity
  double top_p;
  float rate, rate_rest;  // log2(e) / temperature, and what fp32 leaves of it
  int32_t mode;
  int32_t top_k;          // 0: all
  int32_t adjustments_at; // bytes into the pool
  int32_t adjustments;
  int32_t mask_at;        // bytes into the pool
  int32_t mask_words;     // -1: every id is allowed
  double newest_factor;   // of the id that was fed, which the adjustments do not know; 0: none
};
static_assert(sizeof(SampleSlot) == 64);

struct InspectParams {
  const float* logits;  // [rows, vocab]
  SliceFacts* slices;   // [rows, slices]
  int32_t vocab;
  int32_t slices_per_row;
};
static_assert(sizeof(InspectParams) == 24);

struct ChooseParams {
  float* logits;            // [rows, vocab]; adjusted in place
  const int32_t* targets;   // [rows]; -1: none
  const SliceFacts* slices; // [rows, slices]
  const SampleSlot* slots;  // [rows]
  uint8_t* pool;
  RowFacts* facts;          // [rows]
  int32_t* ids;             // [rows] what a decode step was fed, and where the next one finds its own; or null
  int32_t vocab;
  int32_t slices_per_row;
};
static_assert(sizeof(ChooseParams) == 64);

constexpr int kSlice = 4096, kInspectThreads = 256, kInspectWarps = kInspectThreads / kWarp;
constexpr int kPerThread = kSlice / kInspectThreads;

}  // namespace exllama
