// The C functions of elfatt_attention.h: check a shape, cut the work, launch the kernels.
#include "elfatt_attention.h"

#include "kernels.cuh"

namespace elfatt {

namespace {

int up(int value, int divisor) { return (value + divisor - 1) / divisor; }

bool head_dim_supported(int channels, int heads) {
  if (channels == 0) return heads == 0;
  if (heads <= 0 || channels % heads != 0) return false;
  const int dim = channels / heads;
  return dim % 8 == 0 && dim >= 16 && dim <= 64;
}

bool block_supported(const ElfattAttentionShape& s) {
  if (s.global_channels == s.channels) return s.block_rows == 0 && s.block_cols == 0;
  if (s.block_rows == s.rows && s.block_cols == s.cols) return true;
  return s.block_rows >= 1 && s.block_rows <= 32 && s.block_cols >= 1 && s.block_cols <= 32;
}

bool supported(const ElfattAttentionShape& s) {
  constexpr long long most = 0x7fffffff;
  if (s.batch < 1 || s.rows < 1 || s.cols < 1 || s.channels < 1) return false;
  if (s.global_channels < 0 || s.global_channels > s.channels) return false;
  const int block_channels = s.channels - s.global_channels;
  if (!head_dim_supported(s.global_channels, s.global_heads)) return false;
  if (!head_dim_supported(block_channels, s.local_heads)) return false;
  if (!block_supported(s)) return false;
  // Tokens of a map and thread blocks of a launch are counted in int; 4096: an edge's padding.
  const long long map = static_cast<long long>(s.rows + 32LL) * (s.cols + 32LL);
  const long long heads = static_cast<long long>(s.global_heads) + s.local_heads;
  return map < most / 4096 && s.channels < most / 32 &&
         static_cast<double>(map) * s.batch * heads < static_cast<double>(most);
}

// How the sum over tokens is cut: enough chunks to fill a GPU, few enough that reading them again
// costs little.
void plan_linear(const ElfattAttentionShape& s, Problem* p) {
  const int tokens = s.rows * s.cols, pairs = s.batch * s.global_heads;
  const int useful = up(256, pairs);
  int chunks = up(tokens, 256);
  if (chunks > useful) chunks = useful;
  if (chunks > kMostChunks) chunks = kMostChunks;
  p->chunk_tokens = up(up(tokens, chunks), 64) * 64;
  p->chunks = up(tokens, p->chunk_tokens);
  // A thread block of the second kernel first joins the chunks: at least 128 tokens then share it.
  const double even = static_cast<double>(tokens) * pairs / 1024;
  const int share = even > tokens ? tokens : static_cast<int>(even);
  p->apply_tokens = share <= 128 ? 128 : up(share, 64) * 64;
  p->apply_parts = up(tokens, p->apply_tokens);
  p->linear_dim = s.global_channels / s.global_heads;
  p->linear_grid = pairs * p->chunks;
}

void plan_blocks(const ElfattAttentionShape& s, Problem* p) {
  p->block_dim = (s.channels - s.global_channels) / s.local_heads;
  p->blocks_across = up(s.cols, s.block_cols);
  p->blocks = up(s.rows, s.block_rows) * p->blocks_across;
  p->query_tiles = up(s.block_rows * s.block_cols, kQueries);
  p->block_grid = s.batch * p->blocks * s.local_heads * p->query_tiles;
  p->block_gain = kLog2E / sqrtf(static_cast<float>(p->block_dim));
}

Problem plan(const ElfattAttentionShape& s) {
  Problem p = {};
  p.batch = s.batch;
  p.rows = s.rows;
  p.cols = s.cols;
  p.channels = s.channels;
  p.linear_channels = s.global_channels;
  p.linear_heads = s.global_heads;
  p.block_heads = s.local_heads;
  p.block_rows = s.block_rows;
  p.block_cols = s.block_cols;
  p.lepe = s.lepe;
  if (s.global_heads > 0) plan_linear(s, &p);
  if (s.local_heads > 0) plan_blocks(s, &p);
  return p;
}

template <typename T, int D>
int launch(const Problem& p, const void* qkv, const void* lepe_weight, const void* lepe_bias,
           void* workspace, void* out, cudaStream_t stream) {
  const T* tokens = static_cast<const T*>(qkv);
  const T* weight = static_cast<const T*>(lepe_weight);
  const T* bias = static_cast<const T*>(lepe_bias);
  T* result = static_cast<T*>(out);
  float* partials = static_cast<float*>(workspace);
  auto first = attend<T, D>;
  ELFATT_LAUNCH(first, p.linear_grid + p.block_grid, kThreads, stream, p, tokens, weight, bias,
                partials, result);
  const cudaError_t status = cudaGetLastError();
  if (status != cudaSuccess || p.linear_grid == 0) return static_cast<int>(status);
  auto second = apply_context<T, D>;
  ELFATT_LAUNCH(second, p.batch * p.linear_heads * p.apply_parts, kThreads, stream, p, tokens,
                weight, bias, partials, result);
  return static_cast<int>(cudaGetLastError());
}

}  // namespace
}  // namespace elfatt

extern "C" int elfatt_attention_supported(const ElfattAttentionShape* shape) {
  return elfatt::supported(*shape) ? 1 : 0;
}

extern "C" size_t elfatt_attention_workspace_bytes(const ElfattAttentionShape* shape) {
  if (!elfatt::supported(*shape)) return 0;
  const elfatt::Problem p = elfatt::plan(*shape);
  return p.linear_grid * elfatt::partial_floats(p) * sizeof(float);
}

extern "C" int elfatt_attention_launches(const ElfattAttentionShape* shape) {
  if (!elfatt::supported(*shape)) return 0;
  return shape->global_heads > 0 ? 2 : 1;
}

extern "C" int elfatt_attention_launch(const ElfattAttentionShape* shape, const void* qkv,
                                       const void* lepe_weight, const void* lepe_bias,
                                       void* workspace, void* out, cudaStream_t stream) {
  if (!elfatt::supported(*shape)) return -1;
  const elfatt::Problem p = elfatt::plan(*shape);
  const bool wide = p.linear_dim > 32 || p.block_dim > 32;
  const auto run = shape->half ? (wide ? elfatt::launch<__half, 64> : elfatt::launch<__half, 32>)
                               : (wide ? elfatt::launch<float, 64> : elfatt::launch<float, 32>);
  return run(p, qkv, lepe_weight, lepe_bias, workspace, out, stream);
}
