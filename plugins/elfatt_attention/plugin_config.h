/* What an ElfattAttention node is told: its checks, its bytes in a plan, the call it makes.
 * No TensorRT types here, and nothing that throws. */
#ifndef ELFATT_PLUGIN_CONFIG_H
#define ELFATT_PLUGIN_CONFIG_H

#include <cstddef>
#include <cstdint>

#include "elfatt_attention.h"

namespace elfatt {

/* The INT attributes of the node, as the exporter writes them. */
struct Config {
  std::int32_t rows;
  std::int32_t cols;
  std::int32_t global_channels;
  std::int32_t global_heads; /* 0 when global_channels is 0 */
  std::int32_t local_heads;  /* 0 when there is no block part, as both below */
  std::int32_t block_rows;
  std::int32_t block_cols;
  std::int32_t lepe; /* 1: lepe_weight and lepe_bias are inputs 1 and 2 */
};

struct Attribute {
  const char* name;
  std::int32_t Config::* value;
};

constexpr int kAttributes = 8;

/* All attributes, in the order of their bytes in a plan. */
const Attribute* attributes() noexcept;

/* Returns what is wrong with a node, or nullptr. */
const char* problem_of(const Config& config) noexcept;

constexpr std::size_t kBlobBytes = 4 + 4 + 4 * kAttributes;

/* Writes kBlobBytes: a mark, the version of this form, the attributes. */
void write_blob(const Config& config, void* bytes) noexcept;

/* Returns why the bytes of a plan are not a node of ours, or nullptr; only then is `config` set. */
const char* read_blob(const void* bytes, std::size_t length, Config* config) noexcept;

/* The size of one qkv: [batch, tokens, width], width being three times the channels. */
struct Extent {
  std::int64_t batch;
  std::int64_t tokens;
  std::int64_t width;
};

/* Returns why no call fits a node and its qkv, or nullptr; only then is `shape` set. */
const char* shape_of(const Config& config, const Extent& qkv, bool half,
                     ElfattAttentionShape* shape) noexcept;

/* Bytes that are enough for this call and for each of a smaller batch. */
std::size_t workspace_of(const ElfattAttentionShape& shape) noexcept;

}  // namespace elfatt

#endif  // ELFATT_PLUGIN_CONFIG_H
