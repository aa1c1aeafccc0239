// Block heads on tensor cores: half storage, compute capability 7.5 and later.
// A warp has 16 queries. Lane l holds, of every 16 x 8 tile of logits or results, rows l / 4 and
// l / 4 + 8 at columns 2 (l % 4) and the next: what leaves one product as logits is, packed to
// half, just what the next one takes as weights.
#pragma once

#include "block.cuh"

#ifdef ELFATT_TENSOR_CORES

namespace elfatt {

template <int D>
struct TensorLayout {
  static constexpr int keys_at_once = 64;
  static constexpr int width = D + 8;  // of a row in halves: eight rows lie in different banks
  static constexpr int keys = 0;
  static constexpr int values = keys + keys_at_once * width * 2;
  static constexpr int tiles = values + keys_at_once * width * 2;
  static constexpr int result = 0;  // lies over keys and values
};

// Write what lane l has of rows `row` = l / 4 and `row` + 8 of a result, times each row's gain.
template <int D>
ELFATT_DEVICE void store_fragments(const float (&o)[D / 8][4], float gain_low, float gain_high,
                                   int row, int d, const SharedView<float>& result) {
#pragma unroll
  for (int i = 0; i < D / 8; ++i) {
    if (8 * i >= d) continue;
    const int at = row * (D + 4) + 8 * i + threadIdx.x % 4 * 2;
    result.set2(at, make_float2(o[i][0] * gain_low, o[i][1] * gain_low));
    result.set2(at + 8 * (D + 4), make_float2(o[i][2] * gain_high, o[i][3] * gain_high));
  }
}

// 16 queries of a warp, rows `low` = l / 4 and `high` = l / 4 + 8 of them in lane l.
template <int D>
struct TensorQueries {
  unsigned q[D / 16][4];
  float o[D / 8][4];
  float top_low, top_high, sum_low, sum_high;

  ELFATT_DEVICE void load(const __half* from, size_t step, int token_low, int token_high, int d) {
    const int column = threadIdx.x % 4 * 2;
#pragma unroll
    for (int i = 0; i < D / 16; ++i) {
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const int token = j % 2 == 0 ? token_low : token_high, c = 16 * i + j / 2 * 8 + column;
        q[i][j] = token >= 0 && c < d
                      ? *reinterpret_cast<const unsigned*>(from + token * step + c)
                      : 0u;
      }
    }
#pragma unroll
    for (int i = 0; i < D / 8; ++i) o[i][0] = o[i][1] = o[i][2] = o[i][3] = 0.0f;
    top_low = top_high = -INFINITY;
    sum_low = sum_high = 0.0f;
  }

  // logits[2 n], logits[2 n + 1] = Q times keys 16 n .. 16 n + 15
  ELFATT_DEVICE void multiply_keys(float (&low)[4], float (&high)[4], int n, int d,
                                   const SharedView<__half>& keys) const {
    constexpr int width = TensorLayout<D>::width;
    const int lane = threadIdx.x % 32;
    const int at = (16 * n + lane / 16 * 8 + lane % 8) * width + lane / 8 % 2 * 8;
#pragma unroll
    for (int j = 0; j < 4; ++j) low[j] = high[j] = 0.0f;
#pragma unroll
    for (int i = 0; i < D / 16; ++i) {
      if (16 * i >= d) continue;
      unsigned b[4];
      load_matrices(b, keys, at + 16 * i);
      mma_k16(low, q[i], b[0], b[1]);
      mma_k16(high, q[i], b[2], b[3]);
    }
  }

  // Results += weights of keys 16 n .. 16 n + 15 times their values.
  ELFATT_DEVICE void multiply_values(const unsigned (&weights)[4], int n, int d,
                                     const SharedView<__half>& values) {
    constexpr int width = TensorLayout<D>::width;
    const int lane = threadIdx.x % 32;
    const int at = (16 * n + lane % 16) * width + lane / 16 * 8;
#pragma unroll
    for (int i = 0; i < D / 16; ++i) {
      if (16 * i >= d) continue;
      unsigned b[4];
      load_transposed(b, values, at + 16 * i);
      mma_k16(o[2 * i], weights, b[0], b[1]);
      mma_k16(o[2 * i + 1], weights, b[2], b[3]);
    }
  }

  // Take in one tile of keys, of which `count` are real.
  ELFATT_DEVICE void attend(int count, int d, float gain, const SharedView<__half>& keys,
                            const SharedView<__half>& values) {
    constexpr int pairs = TensorLayout<D>::keys_at_once / 16;
    const int column = threadIdx.x % 4 * 2;
    float logits[2 * pairs][4];
    float now_low = top_low, now_high = top_high;
#pragma unroll
    for (int n = 0; n < pairs; ++n) {
      if (16 * n >= count) continue;
      multiply_keys(logits[2 * n], logits[2 * n + 1], n, d, keys);
#pragma unroll
      for (int j = 0; j < 8; ++j) {
        float& logit = logits[2 * n + j / 4][j % 4];
        const bool real = 16 * n + j / 4 * 8 + column + j % 2 < count;
        logit = real ? logit * gain : -INFINITY;
        if (j % 4 < 2) now_low = fmaxf(now_low, logit);
        if (j % 4 >= 2) now_high = fmaxf(now_high, logit);
      }
    }
#pragma unroll
    for (int step = 1; step < 4; step *= 2) {
      now_low = fmaxf(now_low, __shfl_xor_sync(0xffffffffu, now_low, step));
      now_high = fmaxf(now_high, __shfl_xor_sync(0xffffffffu, now_high, step));
    }
    const float factor_low = exp2f(top_low - now_low), factor_high = exp2f(top_high - now_high);
    top_low = now_low;
    top_high = now_high;
    sum_low *= factor_low;
    sum_high *= factor_high;
#pragma unroll
    for (int i = 0; i < D / 8; ++i) {
      o[i][0] *= factor_low;
      o[i][1] *= factor_low;
      o[i][2] *= factor_high;
      o[i][3] *= factor_high;
    }
#pragma unroll
    for (int n = 0; n < pairs; ++n) {
      if (16 * n >= count) continue;
      unsigned weights[4];
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        float(&l)[4] = logits[2 * n + j];
        l[0] = exp2f(l[0] - top_low);
        l[1] = exp2f(l[1] - top_low);
        l[2] = exp2f(l[2] - top_high);
        l[3] = exp2f(l[3] - top_high);
        sum_low += l[0] + l[1];
        sum_high += l[2] + l[3];
        weights[2 * j] = packed(l[0], l[1]);
        weights[2 * j + 1] = packed(l[2], l[3]);
      }
      multiply_values(weights, n, d, values);
    }
  }

  // Write the normalised results; `row` is l / 4 of this warp's rows.
  ELFATT_DEVICE void finish(int row, int d, const SharedView<float>& result) {
#pragma unroll
    for (int step = 1; step < 4; step *= 2) {
      sum_low += __shfl_xor_sync(0xffffffffu, sum_low, step);
      sum_high += __shfl_xor_sync(0xffffffffu, sum_high, step);
    }
    store_fragments<D>(o, 1.0f / sum_low, 1.0f / sum_high, row, d, result);
  }
};

// Bring keys [first, first + 64) of a rectangle and their values into shared memory. Channels are
// filled up with zeros to a multiple of 16, the depth of a product.
template <int D>
ELFATT_DEVICE void load_halves(const Problem& p, const BlockTile& tile, const __half* q, int first,
                               const SharedView<__half>& keys, const SharedView<__half>& values) {
  using Layout = TensorLayout<D>;
  const int eights = (p.block_dim + 15) / 16 * 2, count = Layout::keys_at_once * eights;
  const size_t step = 3 * static_cast<size_t>(p.channels);
  for (int i = threadIdx.x; i < count; i += kThreads) {
    const int key = i / eights, c = i % eights * 8, token = tile.token(p, first + key);
    uint4 words = make_uint4(0, 0, 0, 0), value_words = words;
    if (token >= 0 && c < p.block_dim) {
      const __half* at = q + p.channels + token * step + c;
      words = *reinterpret_cast<const uint4*>(at);
      value_words = *reinterpret_cast<const uint4*>(at + p.channels);
    }
    keys.set_words(key * Layout::width + c, words);
    values.set_words(key * Layout::width + c, value_words);
  }
}

template <int D>
struct BlockHeads<__half, D> {
  static constexpr int bytes = TensorLayout<D>::tiles > ResultLayout<D>::bytes
                                   ? TensorLayout<D>::tiles
                                   : ResultLayout<D>::bytes;

  ELFATT_DEVICE static void run(const Problem& p, const __half* qkv, const __half* lepe_weight,
                                const __half* lepe_bias, __half* out, int cta,
                                SharedStorage storage) {
    using Layout = TensorLayout<D>;
    const SharedView<__half> keys(storage, Layout::keys, Layout::keys_at_once * Layout::width);
    const SharedView<__half> values(storage, Layout::values, Layout::keys_at_once * Layout::width);
    const BlockTile tile(p, cta);
    const int d = p.block_dim, tokens = p.block_rows * p.block_cols;
    const int warp_row = threadIdx.x / 32 * 16, row = warp_row + threadIdx.x % 32 / 4;
    const bool works = tile.first_query + warp_row < tokens;  // the same for the whole warp
    const __half* q = tile.queries(p, qkv);

    TensorQueries<D> queries;
    queries.load(q, 3 * static_cast<size_t>(p.channels), tile.token(p, tile.first_query + row),
                 tile.token(p, tile.first_query + row + 8), d);
    for (int first = 0; first < tokens; first += Layout::keys_at_once) {
      load_halves<D>(p, tile, q, first, keys, values);
      __syncthreads();
      const int count = min(Layout::keys_at_once, tokens - first);
      if (works) queries.attend(count, d, p.block_gain, keys, values);
      __syncthreads();
    }
    const SharedView<float> result(storage, Layout::result, kQueries * (D + 4));
    if (works) queries.finish(row, d, result);
    __syncthreads();
    store_block<__half, D>(p, tile, qkv, lepe_weight, lepe_bias, out, result);
  }
};

}  // namespace elfatt

#endif  // ELFATT_TENSOR_CORES
