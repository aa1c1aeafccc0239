// Block heads: softmax(Q K^T d^-0.5) V inside each rectangle of the map, LePE inside it too.
// Tokens are read straight from the map. A rectangle that reaches over the map's edge has rows of
// zero Q, K and V there, which take part in the softmax. Keys come in tiles under a running
// maximum, so a rectangle may be of any size. This file is the path without tensor cores.
#pragma once

#include "common.cuh"

namespace elfatt {

// Which 64 queries a thread block has.
struct BlockTile {
  int image, head, first_query;
  int top, left;  // of the rectangle, on the map

  ELFATT_DEVICE BlockTile(const Problem& p, int cta) {
    const int tile = cta % p.query_tiles, pair = cta / p.query_tiles;
    const int rest = pair / p.block_heads, block = rest % p.blocks;
    head = pair % p.block_heads;
    image = rest / p.blocks;
    first_query = tile * kQueries;
    top = block / p.blocks_across * p.block_rows;
    left = block % p.blocks_across * p.block_cols;
  }

  // Token of place i of the rectangle; -1 past its end or outside the map.
  ELFATT_DEVICE int token(const Problem& p, int i) const {
    const int row = top + i / p.block_cols, col = left + i % p.block_cols;
    const bool on_map = i < p.block_rows * p.block_cols && row < p.rows && col < p.cols;
    return on_map ? row * p.cols + col : -1;
  }

  // Token of query i of this thread block, or -1.
  ELFATT_DEVICE int row_token(const Problem& p, int i) const { return token(p, first_query + i); }

  // First element of Q of token 0 for this head.
  template <typename T>
  ELFATT_DEVICE const T* queries(const Problem& p, const T* qkv) const {
    const size_t tokens = static_cast<size_t>(image) * p.rows * p.cols;
    return qkv + tokens * 3 * p.channels + p.linear_channels + head * p.block_dim;
  }
};

// Add LePE to the result in shared memory and store it. Call after a barrier.
template <typename T, int D>
ELFATT_DEVICE void store_block(const Problem& p, const BlockTile& tile, const T* qkv,
                               const T* lepe_weight, const T* lepe_bias, T* out,
                               const SharedView<float>& result) {
  const Frame frame = {tile.top, tile.left, min(tile.top + p.block_rows, p.rows),
                       min(tile.left + p.block_cols, p.cols)};
  const int channel = p.linear_channels + tile.head * p.block_dim;
  const size_t tokens = static_cast<size_t>(tile.image) * p.rows * p.cols;
  store_rows<T, D>(p, tile, p.block_dim, channel, tile.queries(p, qkv) + 2 * p.channels,
                   lepe_weight, lepe_bias, out + tokens * p.channels + channel, frame, result);
}

template <int D>
struct PlainLayout {
  static constexpr int keys_at_once = 2048 / D;
  static constexpr int keys = 0;
  static constexpr int values = keys + keys_at_once * D * 4;
  static constexpr int tiles = values + keys_at_once * D * 4;
  static constexpr int result = 0;  // lies over keys and values
  static constexpr int tops = tiles > ResultLayout<D>::bytes ? tiles : ResultLayout<D>::bytes;
  static constexpr int sums = tops + kThreads * 4;
  static constexpr int bytes = sums + kThreads * 4;
};

// What one thread has of one query: half of the keys, all channels.
template <int D>
struct PlainQuery {
  float q[D], o[D], top, sum;

  // Take in keys k..k+3 of a tile, of which those below `count` are real.
  ELFATT_DEVICE void attend(int k, int count, int d, const SharedView<float>& keys,
                            const SharedView<float>& values) {
    float logits[4] = {0.0f, 0.0f, 0.0f, 0.0f};
#pragma unroll
    for (int c = 0; c < D; c += 4) {
      if (c >= d) continue;
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const float4 key = keys.get4((k + j) * D + c);
        logits[j] = fmaf(q[c], key.x, logits[j]);
        logits[j] = fmaf(q[c + 1], key.y, logits[j]);
        logits[j] = fmaf(q[c + 2], key.z, logits[j]);
        logits[j] = fmaf(q[c + 3], key.w, logits[j]);
      }
    }
    float now = top;
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      if (k + j >= count) logits[j] = -INFINITY;
      now = fmaxf(now, logits[j]);
    }
    const float factor = exp2f(top - now);
    top = now;
    sum *= factor;
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      logits[j] = exp2f(logits[j] - now);
      sum += logits[j];
    }
#pragma unroll
    for (int c = 0; c < D; c += 4) {
      if (c >= d) continue;
      float4 mix = make_float4(o[c] * factor, o[c + 1] * factor, o[c + 2] * factor,
                               o[c + 3] * factor);
#pragma unroll
      for (int j = 0; j < 4; ++j) multiply_add(mix, logits[j], values.get4((k + j) * D + c));
      o[c] = mix.x;
      o[c + 1] = mix.y;
      o[c + 2] = mix.z;
      o[c + 3] = mix.w;
    }
  }
};

// Join the two halves of every query: result = (o_0 f_0 + o_1 f_1) / (s_0 f_0 + s_1 f_1).
template <int D>
ELFATT_DEVICE void join_halves(const PlainQuery<D>& query, int d, SharedStorage storage,
                               const SharedView<float>& result) {
  using Layout = PlainLayout<D>;
  const SharedView<float> tops(storage, Layout::tops, kThreads);
  const SharedView<float> sums(storage, Layout::sums, kThreads);
  const int thread = static_cast<int>(threadIdx.x), other = (thread + kQueries) % kThreads;
  const int row = thread % kQueries * (D + 4);
  tops.set(thread, query.top);
  sums.set(thread, query.sum);
  __syncthreads();
  const float top = fmaxf(query.top, tops.get(other));
  const float mine = exp2f(query.top - top), theirs = exp2f(tops.get(other) - top);
  const float gain = mine / (query.sum * mine + sums.get(other) * theirs);
  // One half after the other: it adds to what the first one left.
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    if (thread / kQueries == half) {
#pragma unroll
      for (int c = 0; c < D; c += 4) {
        if (c >= d) continue;
        float4 sum = half == 0 ? zero4() : result.get4(row + c);
        multiply_add(sum, gain,
                     make_float4(query.o[c], query.o[c + 1], query.o[c + 2], query.o[c + 3]));
        result.set4(row + c, sum);
      }
    }
    __syncthreads();
  }
}

template <typename T, int D>
struct PlainHeads {
  static constexpr int bytes = PlainLayout<D>::bytes;

  ELFATT_DEVICE static void run(const Problem& p, const T* qkv, const T* lepe_weight,
                                const T* lepe_bias, T* out, int cta, SharedStorage storage) {
    using Layout = PlainLayout<D>;
    const SharedView<float> keys(storage, Layout::keys, Layout::keys_at_once * D);
    const SharedView<float> values(storage, Layout::values, Layout::keys_at_once * D);
    const BlockTile tile(p, cta);
    const int thread = static_cast<int>(threadIdx.x), d = p.block_dim, quads = d / 4;
    const int tokens = p.block_rows * p.block_cols, half = thread / kQueries;
    const size_t step = 3 * static_cast<size_t>(p.channels);
    const T* q = tile.queries(p, qkv);
    const int own = tile.token(p, tile.first_query + thread % kQueries);

    PlainQuery<D> query;
    query.top = -INFINITY;
    query.sum = 0.0f;
#pragma unroll
    for (int c = 0; c < D; c += 4) {
      const float4 four = own >= 0 && c < d ? load4(q + own * step + c) : zero4();
      query.q[c] = four.x * p.block_gain;
      query.q[c + 1] = four.y * p.block_gain;
      query.q[c + 2] = four.z * p.block_gain;
      query.q[c + 3] = four.w * p.block_gain;
      query.o[c] = query.o[c + 1] = query.o[c + 2] = query.o[c + 3] = 0.0f;
    }
    for (int first = 0; first < tokens; first += Layout::keys_at_once) {
      for (int i = thread; i < Layout::keys_at_once * quads; i += kThreads) {
        const int key = i / quads, quad = i % quads, token = tile.token(p, first + key);
        float4 key4 = zero4(), value4 = zero4();
        if (token >= 0) {
          const T* at = q + p.channels + token * step + 4 * quad;
          key4 = load4(at);
          value4 = load4(at + p.channels);
        }
        keys.set4(key * D + 4 * quad, key4);
        values.set4(key * D + 4 * quad, value4);
      }
      __syncthreads();
      const int count = min(Layout::keys_at_once, tokens - first);
      for (int k = 4 * half; k < count; k += 8) query.attend(k, count, d, keys, values);
      __syncthreads();
    }
    const SharedView<float> result(storage, Layout::result, kQueries * (D + 4));
    join_halves<D>(query, d, storage, result);
    store_block<T, D>(p, tile, qkv, lepe_weight, lepe_bias, out, result);
  }
};

// Which path a storage type takes on this architecture; tensor.cuh adds the other one.
template <typename T, int D>
struct BlockHeads : PlainHeads<T, D> {};

}  // namespace elfatt
