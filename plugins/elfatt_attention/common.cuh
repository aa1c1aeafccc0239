// Shapes, vector loads and LePE: what all kernels share.
#pragma once

#include <math.h>
#include <string.h>

#include "platform.cuh"

namespace elfatt {

constexpr int kThreads = 128;
constexpr int kQueries = 64;  // queries that a thread block works on at a time
constexpr int kMostChunks = 16;
constexpr float kLog2E = 1.4426950408889634f;

// Everything a kernel must know, worked out once on the host.
struct Problem {
  int batch, rows, cols, channels;
  int linear_channels, linear_heads, linear_dim;  // dim: channels of a head
  int chunks, chunk_tokens;                       // how the sum over tokens is cut
  int apply_tokens, apply_parts;                  // how the second kernel cuts the tokens
  int block_heads, block_dim;
  int block_rows, block_cols, blocks_across, blocks;  // blocks: of one map
  int query_tiles;                                    // of one block
  int linear_grid, block_grid;                        // thread blocks of the first kernel
  float block_gain;  // scale of the logits, in powers of two
  int lepe;
};

__host__ __device__ inline size_t partial_floats(const Problem& p) {
  return static_cast<size_t>(p.linear_dim) * (p.linear_dim + 2);
}

// Four neighbouring channels as float, from 16 (float) or 8 (half) bytes.
ELFATT_DEVICE float4 load4(const float* from) {
  return *reinterpret_cast<const float4*>(from);
}

ELFATT_DEVICE float2 unpacked(unsigned word) {
  __half2 pair;
  memcpy(&pair, &word, sizeof pair);
  return __half22float2(pair);
}

ELFATT_DEVICE float4 load4(const __half* from) {
  const uint2 words = *reinterpret_cast<const uint2*>(from);
  const float2 low = unpacked(words.x), high = unpacked(words.y);
  return make_float4(low.x, low.y, high.x, high.y);
}

ELFATT_DEVICE void store4(float* to, float4 value) { *reinterpret_cast<float4*>(to) = value; }

ELFATT_DEVICE unsigned packed(float low, float high) {
  const __half2 pair = __floats2half2_rn(low, high);
  unsigned word;
  memcpy(&word, &pair, sizeof word);
  return word;
}

ELFATT_DEVICE void store4(__half* to, float4 value) {
  uint2 words;
  words.x = packed(value.x, value.y);
  words.y = packed(value.z, value.w);
  *reinterpret_cast<uint2*>(to) = words;
}

ELFATT_DEVICE float4 zero4() { return make_float4(0.0f, 0.0f, 0.0f, 0.0f); }

// sum += gain * value
ELFATT_DEVICE void multiply_add(float4& sum, float gain, float4 value) {
  sum.x = fmaf(gain, value.x, sum.x);
  sum.y = fmaf(gain, value.y, sum.y);
  sum.z = fmaf(gain, value.z, sum.z);
  sum.w = fmaf(gain, value.w, sum.w);
}

// The part of the map that a convolution sees: the whole map, or one block.
struct Frame {
  int top, left, bottom, right;  // bottom and right are one past the end
};

// Depthwise 3 x 3 convolution with bias of four neighbouring channels; the weights stay in
// registers while a thread walks over tokens.
template <typename T>
class Lepe {
 public:
  // weight [C, 9], bias [C]
  ELFATT_DEVICE Lepe(const Problem& p, const T* weight, const T* bias, int channel)
      : on_(p.lepe != 0), bias_(zero4()) {
    if (!on_) return;
    bias_ = load4(bias + channel);
#pragma unroll
    for (int i = 0; i < 9; ++i) {
      const float4 four = load4(weight + 9 * channel + 4 * i);
      weight_[4 * i] = four.x;
      weight_[4 * i + 1] = four.y;
      weight_[4 * i + 2] = four.z;
      weight_[4 * i + 3] = four.w;
    }
  }

  // Add the convolution at (row, col) to sum. `values` points at V of token 0 and these channels.
  ELFATT_DEVICE void add(float4& sum, const Problem& p, const T* values, int row, int col,
                         const Frame& frame) const {
    if (!on_) return;
    multiply_add(sum, 1.0f, bias_);
#pragma unroll
    for (int tap = 0; tap < 9; ++tap) {
      const int r = row + tap / 3 - 1, c = col + tap % 3 - 1;
      if (r < frame.top || r >= frame.bottom || c < frame.left || c >= frame.right) continue;
      const size_t token = static_cast<size_t>(r) * p.cols + c;
      const float4 v = load4(values + token * 3 * p.channels);
      sum.x = fmaf(weight_[tap], v.x, sum.x);
      sum.y = fmaf(weight_[9 + tap], v.y, sum.y);
      sum.z = fmaf(weight_[18 + tap], v.z, sum.z);
      sum.w = fmaf(weight_[27 + tap], v.w, sum.w);
    }
  }

 private:
  bool on_;
  float4 bias_;
  float weight_[36];  // channel by channel, nine taps each
};

// A result before LePE: [64, d] floats, in rows of D + 4 so that neighbours lie in other banks.
template <int D>
struct ResultLayout {
  static constexpr int bytes = kQueries * (D + 4) * 4;
};

// Add LePE to 64 rows of a result in shared memory and store them. `rows` says which token row i
// is, `channel` is the head's first one, `values` and `out` point at it in token 0 of the image.
template <typename T, int D, typename Rows>
ELFATT_DEVICE void store_rows(const Problem& p, const Rows& rows, int d, int channel,
                              const T* values, const T* lepe_weight, const T* lepe_bias, T* out,
                              const Frame& frame, const SharedView<float>& result) {
  const int thread = static_cast<int>(threadIdx.x), quads = d / 4, slots = kThreads / quads;
  const int c = thread % quads * 4, slot = thread / quads;
  if (slot >= slots) return;
  const Lepe<T> lepe(p, lepe_weight, lepe_bias, channel + c);
  for (int i = slot; i < kQueries; i += slots) {
    const int token = rows.row_token(p, i);
    if (token < 0) continue;
    float4 sum = result.get4(i * (D + 4) + c);
    lepe.add(sum, p, values + c, token / p.cols, token % p.cols, frame);
    store4(out + static_cast<size_t>(token) * p.channels + c, sum);
  }
}

}  // namespace elfatt
