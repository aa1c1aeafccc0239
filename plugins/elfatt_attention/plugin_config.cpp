#include "plugin_config.h"

#include <cstring>
#include <limits>

namespace elfatt {
namespace {

constexpr Attribute kTable[kAttributes] = {
    {"rows", &Config::rows},
    {"cols", &Config::cols},
    {"global_channels", &Config::global_channels},
    {"global_heads", &Config::global_heads},
    {"local_heads", &Config::local_heads},
    {"block_rows", &Config::block_rows},
    {"block_cols", &Config::block_cols},
    {"lepe", &Config::lepe},
};

constexpr char kMark[4] = {'E', 'L', 'F', 'A'};
/* One more with every change of what the bytes mean: an older plan is then refused, not misread. */
constexpr std::uint32_t kBlobVersion = 1;
constexpr std::int64_t kLargest = std::numeric_limits<std::int32_t>::max();

}  // namespace

const Attribute* attributes() noexcept { return kTable; }

const char* problem_of(const Config& config) noexcept {
  for (const Attribute& attribute : kTable) {
    if (config.*attribute.value < 0) return "an attribute is negative";
  }
  if (config.rows == 0 || config.cols == 0) return "rows or cols is 0";
  if (std::int64_t{config.rows} * config.cols > kLargest) return "rows times cols is too large";
  const bool linear = config.global_channels > 0;
  if (linear != (config.global_heads > 0)) {
    return "global_heads must be 0 when global_channels is 0, and only then";
  }
  if (linear && config.global_channels % config.global_heads != 0) {
    return "global_heads does not divide global_channels";
  }
  const bool blocks = config.local_heads > 0;
  if (blocks != (config.block_rows > 0) || blocks != (config.block_cols > 0)) {
    return "local_heads, block_rows and block_cols must be 0 together";
  }
  if (!linear && !blocks) return "there is neither a linear nor a block part";
  if (config.lepe > 1) return "lepe must be 0 or 1";
  return nullptr;
}

void write_blob(const Config& config, void* bytes) noexcept {
  auto* out = static_cast<unsigned char*>(bytes);
  std::memcpy(out, kMark, sizeof(kMark));
  std::memcpy(out + 4, &kBlobVersion, sizeof(kBlobVersion));
  out += 8;
  for (const Attribute& attribute : kTable) {
    std::memcpy(out, &(config.*attribute.value), sizeof(std::int32_t));
    out += sizeof(std::int32_t);
  }
}

const char* read_blob(const void* bytes, std::size_t length, Config* config) noexcept {
  const auto* in = static_cast<const unsigned char*>(bytes);
  if (in == nullptr || length < 8 || std::memcmp(in, kMark, sizeof(kMark)) != 0) {
    return "the plan holds bytes of another plugin";
  }
  std::uint32_t version = 0;
  std::memcpy(&version, in + 4, sizeof(version));
  if (version != kBlobVersion)
    return "the plan is of another version of this plugin: build it anew";
  if (length != kBlobBytes) return "the bytes in the plan are cut short, or too many";
  in += 8;
  Config read{};
  for (const Attribute& attribute : kTable) {
    std::memcpy(&(read.*attribute.value), in, sizeof(std::int32_t));
    in += sizeof(std::int32_t);
  }
  const char* problem = problem_of(read);
  if (problem == nullptr) *config = read;
  return problem;
}

const char* shape_of(const Config& config, const Extent& qkv, bool half,
                     ElfattAttentionShape* shape) noexcept {
  if (qkv.batch < 1 || qkv.batch > kLargest) return "the batch is not a positive number";
  if (qkv.tokens != std::int64_t{config.rows} * config.cols) {
    return "the tokens of qkv are not rows times cols";
  }
  if (qkv.width < 3 || qkv.width > kLargest || qkv.width % 3 != 0) {
    return "the last dimension of qkv is not three times the channels";
  }
  const auto channels = static_cast<std::int32_t>(qkv.width / 3);
  const std::int32_t local = channels - config.global_channels;
  if (local < 0) return "global_channels is more than the channels";
  if ((local > 0) != (config.local_heads > 0)) {
    return "local_heads must be 0 when global_channels is all channels, and only then";
  }
  if (local > 0 && local % config.local_heads != 0) {
    return "local_heads does not divide the channels of the block part";
  }
  ElfattAttentionShape call{};
  call.batch = static_cast<int>(qkv.batch);
  call.rows = config.rows;
  call.cols = config.cols;
  call.channels = channels;
  call.global_channels = config.global_channels;
  call.global_heads = config.global_heads;
  call.local_heads = config.local_heads;
  call.block_rows = config.block_rows;
  call.block_cols = config.block_cols;
  call.lepe = config.lepe;
  call.half = half ? 1 : 0;
  if (elfatt_attention_supported(&call) == 0) {
    return "the kernels do not take this map, block or head dimension";
  }
  *shape = call;
  return nullptr;
}

std::size_t workspace_of(const ElfattAttentionShape& shape) noexcept {
  std::size_t bytes = 0;
  ElfattAttentionShape call = shape;
  for (call.batch = shape.batch; call.batch >= 1; --call.batch) {
    const std::size_t needed = elfatt_attention_workspace_bytes(&call);
    if (needed > bytes) bytes = needed;
  }
  return bytes;
}

}  // namespace elfatt
