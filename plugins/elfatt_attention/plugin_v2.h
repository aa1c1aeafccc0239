/* The TensorRT plugin and its creator: one IPluginV2DynamicExt for TensorRT 8.2 to 11. */
#ifndef ELFATT_PLUGIN_V2_H
#define ELFATT_PLUGIN_V2_H

/* From 10 on the interface is deprecated; 8.2 has no other, and 11 still takes it. */
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"

#include <NvInferRuntime.h>

#include "plugin_config.h"

namespace elfatt {

constexpr char kPluginName[] = "ElfattAttention";
constexpr char kPluginVersion[] = "1";
constexpr char kPluginNamespace[] = "elfatt";

/* A namespace as TensorRT hands it over: at most 1024 bytes with the zero at its end. */
class Namespace {
 public:
  explicit Namespace(const char* text) noexcept { set(text); }
  void set(const char* text) noexcept;
  const char* get() const noexcept { return text_; }

 private:
  char text_[1024];
};

class Plugin final : public nvinfer1::IPluginV2DynamicExt {
 public:
  Plugin(const Config& config, const char* name_space) noexcept;

  nvinfer1::IPluginV2DynamicExt* clone() const noexcept override;
  nvinfer1::DimsExprs getOutputDimensions(int32_t index, const nvinfer1::DimsExprs* inputs,
                                          int32_t input_count,
                                          nvinfer1::IExprBuilder& builder) noexcept override;
  bool supportsFormatCombination(int32_t position, const nvinfer1::PluginTensorDesc* tensors,
                                 int32_t input_count, int32_t output_count) noexcept override;
  void configurePlugin(const nvinfer1::DynamicPluginTensorDesc* inputs, int32_t input_count,
                       const nvinfer1::DynamicPluginTensorDesc* outputs,
                       int32_t output_count) noexcept override;
  size_t getWorkspaceSize(const nvinfer1::PluginTensorDesc* inputs, int32_t input_count,
                          const nvinfer1::PluginTensorDesc* outputs,
                          int32_t output_count) const noexcept override;
  int32_t enqueue(const nvinfer1::PluginTensorDesc* inputs,
                  const nvinfer1::PluginTensorDesc* outputs, const void* const* input_data,
                  void* const* output_data, void* workspace, cudaStream_t stream) noexcept override;

  nvinfer1::DataType getOutputDataType(int32_t index, const nvinfer1::DataType* input_types,
                                       int32_t input_count) const noexcept override;
  const char* getPluginType() const noexcept override { return kPluginName; }
  const char* getPluginVersion() const noexcept override { return kPluginVersion; }
  int32_t getNbOutputs() const noexcept override { return 1; }
  /* Not 0 ends the build, which configurePlugin has no way to do. */
  int32_t initialize() noexcept override { return refused_ ? -1 : 0; }
  void terminate() noexcept override {}
  size_t getSerializationSize() const noexcept override { return kBlobBytes; }
  void serialize(void* bytes) const noexcept override { write_blob(config_, bytes); }
  void destroy() noexcept override { delete this; }
  void setPluginNamespace(const char* text) noexcept override { namespace_.set(text); }
  const char* getPluginNamespace() const noexcept override { return namespace_.get(); }

 private:
  /* Returns what is wrong with inputs of these dimensions, or nullptr. */
  const char* problem_of_inputs(const nvinfer1::DynamicPluginTensorDesc* inputs,
                                int32_t input_count) const noexcept;

  Config config_;
  Namespace namespace_;
  bool refused_ = false;
};

class Creator final : public nvinfer1::IPluginCreator {
 public:
  explicit Creator(const char* name_space) noexcept;

  const char* getPluginName() const noexcept override { return kPluginName; }
  const char* getPluginVersion() const noexcept override { return kPluginVersion; }
  const nvinfer1::PluginFieldCollection* getFieldNames() noexcept override { return &fields_; }
  nvinfer1::IPluginV2* createPlugin(
      const char* layer, const nvinfer1::PluginFieldCollection* fields) noexcept override;
  nvinfer1::IPluginV2* deserializePlugin(const char* layer, const void* bytes,
                                         size_t length) noexcept override;
  void setPluginNamespace(const char* text) noexcept override { namespace_.set(text); }
  const char* getPluginNamespace() const noexcept override { return namespace_.get(); }

 private:
  Namespace namespace_;
  nvinfer1::PluginField names_[kAttributes];
  nvinfer1::PluginFieldCollection fields_;
};

/* Writes one line to TensorRT's log: `where: what`. */
void report(nvinfer1::ILogger::Severity severity, const char* where, const char* what) noexcept;

}  // namespace elfatt

#endif  // ELFATT_PLUGIN_V2_H
