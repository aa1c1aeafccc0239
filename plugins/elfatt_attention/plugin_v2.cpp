#include "plugin_v2.h"

#include <cstdio>
#include <cstring>
#include <new>

namespace elfatt {
namespace {

using nvinfer1::DataType;
using nvinfer1::DynamicPluginTensorDesc;
using nvinfer1::ILogger;
using nvinfer1::PluginField;
using nvinfer1::PluginFieldCollection;
using nvinfer1::PluginFieldType;
using nvinfer1::PluginTensorDesc;

constexpr ILogger::Severity kError = ILogger::Severity::kERROR;
constexpr std::size_t kPartBytes = 256;
constexpr std::size_t kLineBytes = 1024;

bool is_half(DataType type) noexcept { return type == DataType::kHALF; }

const char* shape_of_qkv(const Config& config, const nvinfer1::Dims& dims, DataType type,
                         ElfattAttentionShape* shape) noexcept {
  if (dims.nbDims != 3) return "qkv has not three dimensions: batch, tokens, 3 x channels";
  const Extent extent{dims.d[0], dims.d[1], dims.d[2]};
  return shape_of(config, extent, is_half(type), shape);
}

bool has_sizes(const nvinfer1::Dims& dims, int32_t rank, int64_t first, int64_t second) noexcept {
  return dims.nbDims == rank && dims.d[0] == first && (rank == 1 || dims.d[1] == second);
}

void report_field(const char* layer, const char* field, const char* what) noexcept {
  char line[kPartBytes];
  std::snprintf(line, sizeof(line), "attribute %s %s", field, what);
  report(kError, layer, line);
}

const PluginField* find_field(const PluginFieldCollection& fields, const char* name) noexcept {
  for (int32_t index = 0; index < fields.nbFields; ++index) {
    const PluginField& field = fields.fields[index];
    if (field.name != nullptr && std::strcmp(field.name, name) == 0) return &field;
  }
  return nullptr;
}

/* Fields of other names are let pass: TensorRT hands over those of getFieldNames only. */
bool read_fields(const char* layer, const PluginFieldCollection& fields, Config* config) noexcept {
  for (int index = 0; index < kAttributes; ++index) {
    const Attribute& attribute = attributes()[index];
    const PluginField* field = find_field(fields, attribute.name);
    if (field == nullptr) {
      report_field(layer, attribute.name, "is missing");
      return false;
    }
    if (field->type != PluginFieldType::kINT32 || field->length != 1 || field->data == nullptr) {
      report_field(layer, attribute.name, "is not one 32-bit integer");
      return false;
    }
    std::memcpy(&(config->*attribute.value), field->data, sizeof(int32_t));
  }
  return true;
}

}  // namespace

void report(ILogger::Severity severity, const char* where, const char* what) noexcept {
  ILogger* logger = getLogger();
  if (logger == nullptr) return;
  char line[kLineBytes];
  std::snprintf(line, sizeof(line), "%s %s: %s", kPluginName, where == nullptr ? "" : where, what);
  logger->log(severity, line);
}

void Namespace::set(const char* text) noexcept {
  std::snprintf(text_, sizeof(text_), "%s", text == nullptr ? "" : text);
}

Plugin::Plugin(const Config& config, const char* name_space) noexcept
    : config_(config), namespace_(name_space) {}

nvinfer1::IPluginV2DynamicExt* Plugin::clone() const noexcept {
  return new (std::nothrow) Plugin(*this);
}

nvinfer1::DimsExprs Plugin::getOutputDimensions(int32_t, const nvinfer1::DimsExprs* inputs,
                                                int32_t input_count,
                                                nvinfer1::IExprBuilder& builder) noexcept {
  nvinfer1::DimsExprs output{};
  output.nbDims = -1; /* TensorRT's mark of invalid dimensions */
  if (input_count < 1 || inputs[0].nbDims != 3) {
    report(kError, "shape", "qkv has not three dimensions: batch, tokens, 3 x channels");
    return output;
  }
  output.nbDims = 3;
  output.d[0] = inputs[0].d[0];
  output.d[1] = inputs[0].d[1];
  output.d[2] = builder.operation(nvinfer1::DimensionOperation::kFLOOR_DIV, *inputs[0].d[2],
                                  *builder.constant(3));
  return output;
}

bool Plugin::supportsFormatCombination(int32_t position, const PluginTensorDesc* tensors,
                                       int32_t input_count, int32_t output_count) noexcept {
  if (position < 0 || position >= input_count + output_count) return false;
  const PluginTensorDesc& tensor = tensors[position];
  if (tensor.format != nvinfer1::TensorFormat::kLINEAR) return false;
  if (position > 0) return tensor.type == tensors[0].type;
  return tensor.type == DataType::kFLOAT || tensor.type == DataType::kHALF;
}

const char* Plugin::problem_of_inputs(const DynamicPluginTensorDesc* inputs,
                                      int32_t input_count) const noexcept {
  if (input_count != (config_.lepe == 0 ? 1 : 3)) {
    return "inputs are qkv, and with lepe=1 lepe_weight and lepe_bias";
  }
  ElfattAttentionShape shape{};
  /* The largest batch; a smaller one is checked when it runs. */
  const char* problem = shape_of_qkv(config_, inputs[0].max, inputs[0].desc.type, &shape);
  if (problem != nullptr) return problem;
  if (config_.lepe == 0) return nullptr;
  if (!has_sizes(inputs[1].desc.dims, 2, shape.channels, 9)) {
    return "lepe_weight is not [channels, 9]";
  }
  if (!has_sizes(inputs[2].desc.dims, 1, shape.channels, 0)) return "lepe_bias is not [channels]";
  return nullptr;
}

void Plugin::configurePlugin(const DynamicPluginTensorDesc* inputs, int32_t input_count,
                             const DynamicPluginTensorDesc*, int32_t) noexcept {
  const char* problem = problem_of_inputs(inputs, input_count);
  refused_ = problem != nullptr;
  if (refused_) report(kError, "configuration", problem);
}

size_t Plugin::getWorkspaceSize(const PluginTensorDesc* inputs, int32_t input_count,
                                const PluginTensorDesc*, int32_t) const noexcept {
  ElfattAttentionShape shape{};
  if (input_count < 1) return 0;
  const char* problem = shape_of_qkv(config_, inputs[0].dims, inputs[0].type, &shape);
  return problem == nullptr ? workspace_of(shape) : 0;
}

int32_t Plugin::enqueue(const PluginTensorDesc* inputs, const PluginTensorDesc*,
                        const void* const* input_data, void* const* output_data, void* workspace,
                        cudaStream_t stream) noexcept {
  ElfattAttentionShape shape{};
  const char* problem = shape_of_qkv(config_, inputs[0].dims, inputs[0].type, &shape);
  if (problem != nullptr) {
    report(kError, "run", problem);
    return -1;
  }
  const void* weight = config_.lepe == 0 ? nullptr : input_data[1];
  const void* bias = config_.lepe == 0 ? nullptr : input_data[2];
  const int status = elfatt_attention_launch(&shape, input_data[0], weight, bias, workspace,
                                             output_data[0], stream);
  if (status != 0) {
    char line[kPartBytes];
    std::snprintf(line, sizeof(line), "the launch failed with CUDA error %d", status);
    report(kError, "run", line);
  }
  return status;
}

DataType Plugin::getOutputDataType(int32_t, const DataType* input_types,
                                   int32_t input_count) const noexcept {
  return input_count < 1 ? DataType::kFLOAT : input_types[0];
}

Creator::Creator(const char* name_space) noexcept
    : namespace_(name_space), fields_{kAttributes, names_} {
  for (int index = 0; index < kAttributes; ++index) {
    names_[index] = PluginField(attributes()[index].name, nullptr, PluginFieldType::kINT32, 1);
  }
}

nvinfer1::IPluginV2* Creator::createPlugin(const char* layer,
                                           const PluginFieldCollection* fields) noexcept {
  Config config{};
  if (fields == nullptr || (fields->nbFields > 0 && fields->fields == nullptr)) {
    report(kError, layer, "there are no attributes");
    return nullptr;
  }
  if (!read_fields(layer, *fields, &config)) return nullptr;
  const char* problem = problem_of(config);
  if (problem != nullptr) {
    report(kError, layer, problem);
    return nullptr;
  }
  return new (std::nothrow) Plugin(config, namespace_.get());
}

nvinfer1::IPluginV2* Creator::deserializePlugin(const char* layer, const void* bytes,
                                                size_t length) noexcept {
  Config config{};
  const char* problem = read_blob(bytes, length, &config);
  if (problem != nullptr) {
    report(kError, layer, problem);
    return nullptr;
  }
  return new (std::nothrow) Plugin(config, namespace_.get());
}

}  // namespace elfatt
