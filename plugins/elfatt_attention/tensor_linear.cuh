// Linear heads on tensor cores: half storage, compute capability 7.5 and later. Sums stay in float;
// exp(K - m), exp(Q - max) and the context are rounded to half, as K, Q and V are.
#pragma once

#include "linear.cuh"
#include "tensor.cuh"

#ifdef ELFATT_TENSOR_CORES

namespace elfatt {

template <int D>
struct TensorSumsLayout {
  static constexpr int tile = 64;      // tokens held at a time
  static constexpr int width = D + 8;  // of a row in halves: eight rows lie in different banks
  static constexpr int groups = kThreads / (D / 2);  // threads that share two channels of K
  // A warp has 16 channels of K in each of `strips`, all channels of V, and 16 tokens in each of
  // `steps`: for narrow heads a whole context over a quarter of the tokens, else a quarter of the
  // context over all tokens.
  static constexpr int teams = D == 32 ? 4 : 1;
  static constexpr int strips = D == 32 ? 2 : 1;
  static constexpr int steps = D == 32 ? 1 : 4;
  static constexpr int keys = 0;
  static constexpr int values = keys + tile * width * 2;
  static constexpr int tiles = values + tile * width * 2;
  static constexpr int contexts = teams * D * D * 4;  // lie over keys and values
  static constexpr int maxima = tiles > contexts ? tiles : contexts;
  static constexpr int factors = maxima + groups * D * 4;
  static constexpr int bytes = factors + D * 4;
  static_assert(strips * 16 * (D == 32 ? 1 : 4) == D && teams * steps == 4, "four warps");
};

// Weights are held 2^10 times as large, up to 1024: half then has full precision down to 2^-24 of
// the largest one. The sums have the same factor, which falls out of their ratio.
constexpr float kWeightBits = 10.0f;

// Bring tokens [first, last) of K and V into shared memory; beyond `last` exp(K) and V are 0, and
// so are K and V in the channels up to the next multiple of 16.
template <int D>
ELFATT_DEVICE void load_half_tile(const Problem& p, const __half* k, int first, int last,
                                  const SharedView<__half>& keys,
                                  const SharedView<__half>& values) {
  using Layout = TensorSumsLayout<D>;
  constexpr unsigned lowest = 0xfc00fc00u;  // twice minus infinity
  const int eights = (p.linear_dim + 15) / 16 * 2;
  for (int i = threadIdx.x; i < Layout::tile * eights; i += kThreads) {
    const int token = i / eights, c = i % eights * 8;
    uint4 key = make_uint4(lowest, lowest, lowest, lowest), value = make_uint4(0, 0, 0, 0);
    if (c >= p.linear_dim) {
      key = value;
    } else if (first + token < last) {
      const __half* at = k + static_cast<size_t>(first + token) * 3 * p.channels + c;
      key = *reinterpret_cast<const uint4*>(at);
      value = *reinterpret_cast<const uint4*>(at + p.channels);
    }
    keys.set_words(token * Layout::width + c, key);
    values.set_words(token * Layout::width + c, value);
  }
}

// What a warp has of the context, as left by the products.
template <int D>
struct TensorContext {
  using Layout = TensorSumsLayout<D>;
  float sums[Layout::strips][D / 8][4];

  ELFATT_DEVICE static int strip(int i) {
    return D == 32 ? 16 * i : 16 * (static_cast<int>(threadIdx.x) / 32);
  }
  ELFATT_DEVICE static int first_token(int step) {
    return D == 32 ? 16 * (static_cast<int>(threadIdx.x) / 32) : 16 * step;
  }

  ELFATT_DEVICE void clear() {
#pragma unroll
    for (int i = 0; i < Layout::strips; ++i) {
#pragma unroll
      for (int j = 0; j < D / 8; ++j)
        sums[i][j][0] = sums[i][j][1] = sums[i][j][2] = sums[i][j][3] = 0.0f;
    }
  }

  // sums = factor sums + weights^T values over one tile of tokens
  ELFATT_DEVICE void add(int d, const SharedView<float>& factors, const SharedView<__half>& weights,
                         const SharedView<__half>& values) {
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int i = 0; i < Layout::strips; ++i) {
      if (strip(i) >= d) continue;
      const int c = strip(i) + lane / 4;
      const float low = factors.get(c), high = c + 8 < d ? factors.get(c + 8) : 0.0f;
#pragma unroll
      for (int j = 0; j < D / 8; ++j) {
        sums[i][j][0] *= low;
        sums[i][j][1] *= low;
        sums[i][j][2] *= high;
        sums[i][j][3] *= high;
      }
    }
#pragma unroll
    for (int step = 0; step < Layout::steps; ++step) {
      const int t = first_token(step);
      unsigned a[Layout::strips][4];
#pragma unroll
      for (int i = 0; i < Layout::strips; ++i) {
        if (strip(i) >= d) continue;
        const int row = t + lane / 16 * 8 + lane % 8;
        load_transposed(a[i], weights, row * Layout::width + strip(i) + lane / 8 % 2 * 8);
      }
#pragma unroll
      for (int j = 0; j < D / 16; ++j) {
        if (16 * j >= d) continue;
        unsigned b[4];
        load_transposed(b, values, (t + lane % 16) * Layout::width + 16 * j + lane / 16 * 8);
#pragma unroll
        for (int i = 0; i < Layout::strips; ++i) {
          if (strip(i) >= d) continue;
          mma_k16(sums[i][2 * j], a[i], b[0], b[1]);
          mma_k16(sums[i][2 * j + 1], a[i], b[2], b[3]);
        }
      }
    }
  }

  // Write what belongs to the context [d, d] of this warp's team.
  ELFATT_DEVICE void store(int d, const SharedView<float>& contexts) const {
    const int lane = threadIdx.x % 32;
    const int team = D == 32 ? static_cast<int>(threadIdx.x) / 32 : 0;
#pragma unroll
    for (int i = 0; i < Layout::strips; ++i) {
      const int c = strip(i) + lane / 4;
#pragma unroll
      for (int j = 0; j < D / 8; ++j) {
        if (8 * j >= d) continue;
        const int at = (team * D + c) * D + 8 * j + lane % 4 * 2;
        if (c < d) contexts.set2(at, make_float2(sums[i][j][0], sums[i][j][1]));
        if (c + 8 < d) contexts.set2(at + 8 * D, make_float2(sums[i][j][2], sums[i][j][3]));
      }
    }
  }
};

// What a thread does for the softmax over tokens: two channels of K, every groups-th token.
template <int D>
struct TensorColumns {
  using Layout = TensorSumsLayout<D>;
  int c, group;
  bool works;
  float top[2], sum[2];  // running maximum, the same in all groups, and this group's sum

  ELFATT_DEVICE explicit TensorColumns(int d)
      : c(static_cast<int>(threadIdx.x) % (D / 2) * 2),
        group(static_cast<int>(threadIdx.x) / (D / 2)),
        works(c < d) {
    top[0] = top[1] = -INFINITY;
    sum[0] = sum[1] = 0.0f;
  }

  ELFATT_DEVICE void find_maximum(const SharedView<__half>& keys,
                                  const SharedView<float>& maxima) const {
    if (!works) return;
    float2 highest = make_float2(-INFINITY, -INFINITY);
    for (int t = group; t < Layout::tile; t += Layout::groups) {
      const float2 key = unpacked(keys.get_word(t * Layout::width + c));
      highest.x = fmaxf(highest.x, key.x);
      highest.y = fmaxf(highest.y, key.y);
    }
    maxima.set2(group * D + c, highest);
  }

  // keys = 2^10 exp(keys - m), and what sums under the former maximum are to be multiplied by.
  ELFATT_DEVICE void soften(const SharedView<__half>& keys, const SharedView<float>& maxima,
                            const SharedView<float>& factors) {
    if (!works) return;
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      float now = top[j];
      for (int g = 0; g < Layout::groups; ++g) now = fmaxf(now, maxima.get(g * D + c + j));
      const float factor = exp2f((top[j] - now) * kLog2E);
      if (group == 0) factors.set(c + j, factor);
      sum[j] *= factor;
      top[j] = now;
    }
    for (int t = group; t < Layout::tile; t += Layout::groups) {
      const float2 key = unpacked(keys.get_word(t * Layout::width + c));
      const float low = exp2f(fmaf(key.x - top[0], kLog2E, kWeightBits));
      const float high = exp2f(fmaf(key.y - top[1], kLog2E, kWeightBits));
      keys.set_word(t * Layout::width + c, packed(low, high));
      sum[0] += low;
      sum[1] += high;
    }
  }

  ELFATT_DEVICE void store(const SharedView<float>& tops, const SharedView<float>& sums) const {
    if (!works) return;
    sums.set2(group * D + c, make_float2(sum[0], sum[1]));
    if (group == 0) tops.set2(c, make_float2(top[0], top[1]));
  }
};

template <int D>
struct LinearSums<__half, D> {
  using Layout = TensorSumsLayout<D>;
  static constexpr int bytes = Layout::bytes;

  ELFATT_DEVICE static void run(const Problem& p, const __half* qkv, float* partial, int cta,
                                SharedStorage storage) {
    const SharedView<__half> keys(storage, Layout::keys, Layout::tile * Layout::width);
    const SharedView<__half> values(storage, Layout::values, Layout::tile * Layout::width);
    const SharedView<float> contexts(storage, Layout::keys, Layout::teams * D * D);
    const SharedView<float> maxima(storage, Layout::maxima, Layout::groups * D);
    const SharedView<float> factors(storage, Layout::factors, D);
    const Chunk<__half> chunk(p, qkv, cta);
    TensorColumns<D> columns(p.linear_dim);
    TensorContext<D> context;
    context.clear();
    for (int start = chunk.first; start < chunk.last; start += Layout::tile) {
      load_half_tile<D>(p, chunk.k, start, chunk.last, keys, values);
      __syncthreads();
      columns.find_maximum(keys, maxima);
      __syncthreads();
      columns.soften(keys, maxima, factors);
      __syncthreads();
      context.add(p.linear_dim, factors, keys, values);
      __syncthreads();
    }
    context.store(p.linear_dim, contexts);
    columns.store(factors, maxima);
    __syncthreads();
    store_partial<D>(p, partial, Layout::teams, Layout::groups, contexts, factors, maxima);
  }
};

template <int D>
struct TensorApplyLayout {
  static constexpr int width = D + 8;
  static constexpr int context = 0;
  static constexpr int result = context + D * width * 2;
  static constexpr int gains = result;  // gone before the first result comes
  static constexpr int bytes = result + ResultLayout<D>::bytes;
  static_assert(kMostChunks * D * 4 <= ResultLayout<D>::bytes, "the gains lie over the result");
};

// Token of row i of a tile of a thread block's tokens.
struct LinearRows {
  int first, last;
  ELFATT_DEVICE int row_token(const Problem&, int i) const {
    return first + i < last ? first + i : -1;
  }
};

// 16 tokens of a warp, rows l / 4 (0) and l / 4 + 8 (1) of them in lane l.
template <int D>
struct TensorRows {
  float q[D / 16][8];  // pairs of channels of rows 0, 1, 0, 1; then exp(Q - maximum)
  float o[D / 8][4];
  float top[2], sum[2];

  // Channels beyond the head are minus infinity, rows without a token 0.
  ELFATT_DEVICE void load(const __half* from, size_t step, int token_low, int token_high, int d) {
    top[0] = top[1] = -INFINITY;
#pragma unroll
    for (int i = 0; i < D / 16; ++i) {
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const int row = j % 2, token = row == 0 ? token_low : token_high;
        const int c = 16 * i + j / 2 * 8 + threadIdx.x % 4 * 2;
        float2 pair = make_float2(-INFINITY, -INFINITY);
        if (c < d) pair = make_float2(0.0f, 0.0f);
        if (c < d && token >= 0)
          pair = unpacked(*reinterpret_cast<const unsigned*>(from + token * step + c));
        q[i][2 * j] = pair.x;
        q[i][2 * j + 1] = pair.y;
        top[row] = fmaxf(top[row], fmaxf(pair.x, pair.y));
      }
    }
  }

  ELFATT_DEVICE void soften() {
#pragma unroll
    for (int row = 0; row < 2; ++row) {
      top[row] = fmaxf(top[row], __shfl_xor_sync(0xffffffffu, top[row], 1));
      top[row] = fmaxf(top[row], __shfl_xor_sync(0xffffffffu, top[row], 2));
      sum[row] = 0.0f;
    }
#pragma unroll
    for (int i = 0; i < D / 16; ++i) {
#pragma unroll
      for (int j = 0; j < 8; ++j) {
        const int row = j / 2 % 2;
        q[i][j] = exp2f((q[i][j] - top[row]) * kLog2E);
        sum[row] += q[i][j];
      }
    }
#pragma unroll
    for (int row = 0; row < 2; ++row) {
      sum[row] += __shfl_xor_sync(0xffffffffu, sum[row], 1);
      sum[row] += __shfl_xor_sync(0xffffffffu, sum[row], 2);
    }
  }

  ELFATT_DEVICE void multiply(int d, const SharedView<__half>& context) {
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int i = 0; i < D / 8; ++i) o[i][0] = o[i][1] = o[i][2] = o[i][3] = 0.0f;
#pragma unroll
    for (int i = 0; i < D / 16; ++i) {
      if (16 * i >= d) continue;
      unsigned a[4];
#pragma unroll
      for (int j = 0; j < 4; ++j) a[j] = packed(q[i][2 * j], q[i][2 * j + 1]);
      const int at = (16 * i + lane % 16) * TensorApplyLayout<D>::width + lane / 16 * 8;
#pragma unroll
      for (int j = 0; j < D / 16; ++j) {
        if (16 * j >= d) continue;
        unsigned b[4];
        load_transposed(b, context, at + 16 * j);
        mma_k16(o[2 * j], a, b[0], b[1]);
        mma_k16(o[2 * j + 1], a, b[2], b[3]);
      }
    }
  }
};

template <int D>
struct LinearApply<__half, D> {
  using Layout = TensorApplyLayout<D>;
  static constexpr int bytes = Layout::bytes;

  ELFATT_DEVICE static void run(const Problem& p, const __half* qkv, const __half* lepe_weight,
                                const __half* lepe_bias, const float* workspace, __half* out,
                                SharedStorage storage) {
    const SharedView<__half> context(storage, Layout::context, D * Layout::width);
    const SharedView<float> gains(storage, Layout::gains, kMostChunks * D);
    const SharedView<float> result(storage, Layout::result, kQueries * (D + 4));
    const Part<__half> part(p, static_cast<int>(blockIdx.x));
    const int d = p.linear_dim, filled = (d + 15) / 16 * 16, thread = static_cast<int>(threadIdx.x);
    const float* partials = part.partials(p, workspace);
    weigh_chunks<D>(p, partials, gains);
    __syncthreads();
    for (int i = 4 * thread; i < filled * filled; i += 4 * kThreads) {
      const int c = i / filled, e = i % filled;
      const float4 four = c < d && e < d ? joined<D>(p, partials, c * d + e, gains) : zero4();
      uint2 words;
      words.x = packed(four.x, four.y);
      words.y = packed(four.z, four.w);
      context.set_words(c * Layout::width + e, words);
    }
    __syncthreads();

    const Frame frame = {0, 0, p.rows, p.cols};
    const __half* q = part.queries(p, qkv);
    const int warp_row = thread / 32 * 16, row = warp_row + thread % 32 / 4;
    for (int first = part.first; first < part.last; first += kQueries) {
      const LinearRows rows = {first, part.last};
      if (first + warp_row < part.last) {  // the same for the whole warp
        TensorRows<D> own;
        own.load(q, 3 * static_cast<size_t>(p.channels), rows.row_token(p, row),
                 rows.row_token(p, row + 8), d);
        own.soften();
        own.multiply(d, context);
        store_fragments<D>(own.o, 1.0f / own.sum[0], 1.0f / own.sum[1], row, d, result);
      }
      __syncthreads();
      store_rows<__half, D>(p, rows, d, part.head * d, q + 2 * p.channels, lepe_weight, lepe_bias,
                            part.result(p, out), frame, result);
      __syncthreads();
    }
  }
};

}  // namespace elfatt

#endif  // ELFATT_TENSOR_CORES
