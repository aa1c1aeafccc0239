// Linear heads: softmax_channels(Q) (softmax_tokens(K)^T V) + LePE.
// The sum over tokens is cut into chunks; each leaves, for every channel c of K, the maximum m_c,
// s_c = sum_t exp(K_tc - m_c) and x_ce = sum_t exp(K_tc - m_c) V_te in the workspace.
#pragma once

#include "common.cuh"

namespace elfatt {

// Which chunk of which head a thread block sums up; `k` points at its first channel of token 0.
template <typename T>
struct Chunk {
  const T* k;
  int first, last;  // tokens

  ELFATT_DEVICE Chunk(const Problem& p, const T* qkv, int cta) {
    const int pair = cta / p.chunks, tokens = p.rows * p.cols;
    const size_t image = static_cast<size_t>(pair / p.linear_heads) * tokens * 3 * p.channels;
    k = qkv + image + p.channels + pair % p.linear_heads * p.linear_dim;
    first = cta % p.chunks * p.chunk_tokens;
    last = min(first + p.chunk_tokens, tokens);
  }
};

// Write a chunk's partial sums: `contexts` [teams, D, D] and `sums` [groups, D] are added up.
// Call after a barrier.
template <int D>
ELFATT_DEVICE void store_partial(const Problem& p, float* partial, int teams, int groups,
                                 const SharedView<float>& contexts, const SharedView<float>& tops,
                                 const SharedView<float>& sums) {
  const int thread = static_cast<int>(threadIdx.x), d = p.linear_dim;
  if (thread < d) {
    float total = 0.0f;
    for (int g = 0; g < groups; ++g) total += sums.get(g * D + thread);
    partial[thread] = tops.get(thread);
    partial[d + thread] = total;
  }
  for (int i = 4 * thread; i < d * d; i += 4 * kThreads) {
    float4 total = zero4();
    for (int t = 0; t < teams; ++t)
      multiply_add(total, 1.0f, contexts.get4((t * D + i / d) * D + i % d));
    store4(partial + 2 * d + i, total);
  }
}

template <int D>
struct PartialLayout {
  static constexpr int tile = 2048 / D;          // tokens held at a time
  static constexpr int groups = kThreads / D;    // threads that share a channel of K
  static constexpr int teams = D == 32 ? 4 : 1;  // each holds a whole context in registers
  static constexpr int keys = 0;
  static constexpr int values = keys + tile * D * 4;
  static constexpr int maxima = values + tile * D * 4;
  static constexpr int factors = maxima + groups * D * 4;
  static constexpr int bytes = factors + D * 4;
  static_assert(teams * D * D * 4 <= maxima, "the teams' contexts lie over keys and values");
};

// Bring tokens [first, last) of K and V into shared memory; beyond `last` exp(K) and V are 0.
template <typename T, int D>
ELFATT_DEVICE void load_tile(const Problem& p, const T* k, int first, int last,
                             const SharedView<float>& keys, const SharedView<float>& values) {
  const int quads = p.linear_dim / 4;
  const T* v = k + p.channels;
  for (int i = threadIdx.x; i < PartialLayout<D>::tile * quads; i += kThreads) {
    const int token = i / quads, quad = i % quads;
    float4 key = make_float4(-INFINITY, -INFINITY, -INFINITY, -INFINITY), value = zero4();
    if (first + token < last) {
      const size_t at = static_cast<size_t>(first + token) * 3 * p.channels + 4 * quad;
      key = load4(k + at);
      value = load4(v + at);
    }
    keys.set4(token * D + 4 * quad, key);
    values.set4(token * D + 4 * quad, value);
  }
}

// What a thread does for the softmax over tokens: one channel of K, every groups-th token.
template <int D>
struct PlainColumn {
  int c, group;
  bool works;
  float top, sum;  // running maximum, the same in all groups, and this group's sum

  ELFATT_DEVICE explicit PlainColumn(int d)
      : c(static_cast<int>(threadIdx.x) % D),
        group(static_cast<int>(threadIdx.x) / D),
        works(c < d),
        top(-INFINITY),
        sum(0.0f) {}

  ELFATT_DEVICE void find_maximum(const SharedView<float>& keys,
                                  const SharedView<float>& maxima) const {
    if (!works) return;
    float highest = -INFINITY;
    for (int t = group; t < PartialLayout<D>::tile; t += PartialLayout<D>::groups)
      highest = fmaxf(highest, keys.get(t * D + c));
    maxima.set(group * D + c, highest);
  }

  // keys = exp(keys - m), and what sums under the former maximum are to be multiplied by.
  ELFATT_DEVICE void soften(const SharedView<float>& keys, const SharedView<float>& maxima,
                            const SharedView<float>& factors) {
    if (!works) return;
    float now = top;
#pragma unroll
    for (int g = 0; g < PartialLayout<D>::groups; ++g) now = fmaxf(now, maxima.get(g * D + c));
    const float factor = exp2f((top - now) * kLog2E);
    if (group == 0) factors.set(c, factor);
    sum *= factor;
    top = now;
    for (int t = group; t < PartialLayout<D>::tile; t += PartialLayout<D>::groups) {
      const float weight = exp2f((keys.get(t * D + c) - now) * kLog2E);
      keys.set(t * D + c, weight);
      sum += weight;
    }
  }

  ELFATT_DEVICE void store(const SharedView<float>& tops, const SharedView<float>& sums) const {
    if (!works) return;
    sums.set(group * D + c, sum);
    if (group == 0) tops.set(c, top);
  }
};

// What a thread holds of its team's context: four channels of K times eight of V.
template <int D>
struct PlainContext {
  int team, key4, value8;
  bool works;
  float4 held[4][2];

  ELFATT_DEVICE explicit PlainContext(int d) {
    constexpr int members = kThreads / PartialLayout<D>::teams;
    const int thread = static_cast<int>(threadIdx.x);
    team = thread / members;
    key4 = thread % members / (d / 8) * 4;
    value8 = thread % members % (d / 8) * 8;
    works = key4 < d;
#pragma unroll
    for (int i = 0; i < 4; ++i) held[i][0] = held[i][1] = zero4();
  }

  // held = factor held + weights^T values over the team's tokens of one tile
  ELFATT_DEVICE void add(const SharedView<float>& factors, const SharedView<float>& weights,
                         const SharedView<float>& values) {
    if (!works) return;
    const float4 factor = factors.get4(key4);
    const float factor_of[4] = {factor.x, factor.y, factor.z, factor.w};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        const float4 before = held[i][j];
        held[i][j] = zero4();
        multiply_add(held[i][j], factor_of[i], before);
      }
    }
#pragma unroll 4
    for (int t = team; t < PartialLayout<D>::tile; t += PartialLayout<D>::teams) {
      const float4 weight = weights.get4(t * D + key4);
      const float4 low = values.get4(t * D + value8), high = values.get4(t * D + value8 + 4);
      const float weight_of[4] = {weight.x, weight.y, weight.z, weight.w};
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        multiply_add(held[i][0], weight_of[i], low);
        multiply_add(held[i][1], weight_of[i], high);
      }
    }
  }

  ELFATT_DEVICE void store(const SharedView<float>& contexts) const {
    if (!works) return;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int at = (team * D + key4 + i) * D + value8;
      contexts.set4(at, held[i][0]);
      contexts.set4(at + 4, held[i][1]);
    }
  }
};

// One chunk of one head, without tensor cores.
template <typename T, int D>
struct PlainSums {
  using Layout = PartialLayout<D>;
  static constexpr int bytes = Layout::bytes;

  ELFATT_DEVICE static void run(const Problem& p, const T* qkv, float* partial, int cta,
                                SharedStorage storage) {
    const SharedView<float> keys(storage, Layout::keys, Layout::tile * D);
    const SharedView<float> values(storage, Layout::values, Layout::tile * D);
    const SharedView<float> contexts(storage, Layout::keys, Layout::teams * D * D);
    const SharedView<float> maxima(storage, Layout::maxima, Layout::groups * D);
    const SharedView<float> factors(storage, Layout::factors, D);
    const Chunk<T> chunk(p, qkv, cta);
    PlainColumn<D> column(p.linear_dim);
    PlainContext<D> context(p.linear_dim);
    for (int start = chunk.first; start < chunk.last; start += Layout::tile) {
      load_tile<T, D>(p, chunk.k, start, chunk.last, keys, values);
      __syncthreads();
      column.find_maximum(keys, maxima);
      __syncthreads();
      column.soften(keys, maxima, factors);
      __syncthreads();
      context.add(factors, keys, values);
      __syncthreads();
    }
    context.store(contexts);
    column.store(factors, maxima);
    __syncthreads();
    store_partial<D>(p, partial, Layout::teams, Layout::groups, contexts, factors, maxima);
  }
};

// Which path a storage type takes on this architecture; tensor_linear.cuh adds the other one.
template <typename T, int D>
struct LinearSums : PlainSums<T, D> {};

template <int D>
struct ApplyLayout {
  // Four tokens times four channels a thread, and rows four floats longer than a head so that
  // neighbouring tokens lie in different banks: at most 128 rows of 16 + 4.
  static constexpr int query_floats = 2560;
  static constexpr int context = 0;
  static constexpr int queries = context + D * D * 4;
  static constexpr int gains = queries;  // gone before the first query comes
  static constexpr int inverses = queries + query_floats * 4;
  static constexpr int bytes = inverses + kThreads * 4;
  static_assert(kMostChunks * D <= query_floats, "the gains lie over the queries");
};

// gains_kc = exp(m_kc - m_c) / sum_k exp(m_kc - m_c) s_kc: what chunk k counts for in channel c.
template <int D>
ELFATT_DEVICE void weigh_chunks(const Problem& p, const float* partials,
                                const SharedView<float>& gains) {
  const int d = p.linear_dim, c = static_cast<int>(threadIdx.x);
  const size_t step = partial_floats(p);
  if (c >= d) return;
  float top = -INFINITY, total = 0.0f;
  for (int k = 0; k < p.chunks; ++k) top = fmaxf(top, partials[k * step + c]);
  for (int k = 0; k < p.chunks; ++k) {
    const float gain = exp2f((partials[k * step + c] - top) * kLog2E);
    gains.set(k * D + c, gain);
    total = fmaf(gain, partials[k * step + d + c], total);
  }
  for (int k = 0; k < p.chunks; ++k) gains.set(k * D + c, gains.get(k * D + c) / total);
}

// Four values of the context from place i of [d, d]: sum_k gains_kc x_kce.
template <int D>
ELFATT_DEVICE float4 joined(const Problem& p, const float* partials, int i,
                            const SharedView<float>& gains) {
  const int d = p.linear_dim;
  float4 sum = zero4();
  for (int k = 0; k < p.chunks; ++k)
    multiply_add(sum, gains.get(k * D + i / d),
                 load4(partials + k * partial_floats(p) + 2 * d + i));
  return sum;
}

// Which tokens of which head a thread block of the second kernel has.
template <typename T>
struct Part {
  int pair, image, head, first, last;

  ELFATT_DEVICE Part(const Problem& p, int cta) {
    pair = cta / p.apply_parts;
    image = pair / p.linear_heads;
    head = pair % p.linear_heads;
    first = cta % p.apply_parts * p.apply_tokens;
    last = min(first + p.apply_tokens, p.rows * p.cols);
  }

  ELFATT_DEVICE const float* partials(const Problem& p, const float* workspace) const {
    return workspace + static_cast<size_t>(pair) * p.chunks * partial_floats(p);
  }

  // Q of token 0 for this head.
  ELFATT_DEVICE const T* queries(const Problem& p, const T* qkv) const {
    const size_t tokens = static_cast<size_t>(image) * p.rows * p.cols;
    return qkv + tokens * 3 * p.channels + head * p.linear_dim;
  }

  ELFATT_DEVICE T* result(const Problem& p, T* out) const {
    const size_t tokens = static_cast<size_t>(image) * p.rows * p.cols;
    return out + tokens * p.channels + head * p.linear_dim;
  }
};

// exp(Q - maximum over the channels) of `tokens` rows in place, and one over each row's sum.
ELFATT_DEVICE void soften_queries(int tokens, int d, const SharedView<float>& queries,
                                  const SharedView<float>& inverses) {
  const int threads_a_row = d >= 32 ? 2 : 1;
  const int row = threadIdx.x / threads_a_row, part = threadIdx.x % threads_a_row;
  const int width = d / threads_a_row, begin = row * (d + 4) + part * width;
  float top = -INFINITY, sum = 0.0f;
  if (row < tokens)
    for (int c = 0; c < width; ++c) top = fmaxf(top, queries.get(begin + c));
  if (threads_a_row == 2) top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, 1));
  if (row < tokens) {
    for (int c = 0; c < width; ++c) {
      const float weight = exp2f((queries.get(begin + c) - top) * kLog2E);
      queries.set(begin + c, weight);
      sum += weight;
    }
  }
  if (threads_a_row == 2) sum += __shfl_xor_sync(0xffffffffu, sum, 1);
  if (row < tokens && part == 0) inverses.set(row, 1.0f / sum);
}

// Bring rows [first, first + count) of Q into shared memory; beyond `last` they are 0.
template <typename T>
ELFATT_DEVICE void load_queries(const Problem& p, const T* q, int first, int count, int last,
                                const SharedView<float>& queries) {
  const int d = p.linear_dim, quads = d / 4;
  for (int i = threadIdx.x; i < count * quads; i += kThreads) {
    const int row = i / quads, c = i % quads * 4;
    float4 four = zero4();
    if (first + row < last) four = load4(q + static_cast<size_t>(first + row) * 3 * p.channels + c);
    queries.set4(row * (d + 4) + c, four);
  }
}

// sums[i] = row i `slots` + slot of the queries times four columns of the context
template <int D>
ELFATT_DEVICE void multiply_context(float4 (&sums)[4], int d, int slot, int slots, int column,
                                    const SharedView<float>& queries,
                                    const SharedView<float>& context) {
#pragma unroll
  for (int i = 0; i < 4; ++i) sums[i] = zero4();
  for (int c = 0; c < d; c += 4) {
    float4 row[4];
#pragma unroll
    for (int j = 0; j < 4; ++j) row[j] = context.get4((c + j) * D + column);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float4 weight = queries.get4((i * slots + slot) * (d + 4) + c);
      multiply_add(sums[i], weight.x, row[0]);
      multiply_add(sums[i], weight.y, row[1]);
      multiply_add(sums[i], weight.z, row[2]);
      multiply_add(sums[i], weight.w, row[3]);
    }
  }
}

// Output of one part of the tokens of one head, without tensor cores.
template <typename T, int D>
struct PlainApply {
  using Layout = ApplyLayout<D>;
  static constexpr int bytes = Layout::bytes;

  ELFATT_DEVICE static void run(const Problem& p, const T* qkv, const T* lepe_weight,
                                const T* lepe_bias, const float* workspace, T* out,
                                SharedStorage storage) {
    const SharedView<float> context(storage, Layout::context, D * D);
    const SharedView<float> queries(storage, Layout::queries, Layout::query_floats);
    const SharedView<float> gains(storage, Layout::gains, kMostChunks * D);
    const SharedView<float> inverses(storage, Layout::inverses, kThreads);
    const Part<T> part(p, static_cast<int>(blockIdx.x));
    const int thread = static_cast<int>(threadIdx.x), d = p.linear_dim;
    const T* q = part.queries(p, qkv);
    const float* partials = part.partials(p, workspace);
    weigh_chunks<D>(p, partials, gains);
    __syncthreads();
    for (int i = 4 * thread; i < d * d; i += 4 * kThreads)
      context.set4(i / d * D + i % d, joined<D>(p, partials, i, gains));
    __syncthreads();

    // A thread has four channels of every slots-th token.
    const int slots = kThreads / (d / 4), c = thread % (d / 4) * 4, slot = thread / (d / 4);
    const Lepe<T> lepe(p, lepe_weight, lepe_bias, part.head * d + c);
    const Frame frame = {0, 0, p.rows, p.cols};
    T* result = part.result(p, out) + c;
    for (int first = part.first; first < part.last; first += 4 * slots) {
      load_queries<T>(p, q, first, 4 * slots, part.last, queries);
      __syncthreads();
      soften_queries(4 * slots, d, queries, inverses);
      __syncthreads();
      float4 sums[4];
      if (slot < slots) multiply_context<D>(sums, d, slot, slots, c, queries, context);
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int row = i * slots + slot, token = first + row;
        if (slot >= slots || token >= part.last) continue;
        float4 sum = zero4();
        multiply_add(sum, inverses.get(row), sums[i]);
        lepe.add(sum, p, q + 2 * p.channels + c, token / p.cols, token % p.cols, frame);
        store4(result + static_cast<size_t>(token) * p.channels, sum);
      }
      __syncthreads();
    }
  }
};

template <typename T, int D>
struct LinearApply : PlainApply<T, D> {};

}  // namespace elfatt
