/* The part of TensorRT's plugin interface that our glue uses, written from its documentation for
 * tests without TensorRT. FAKE_TENSORRT, such as 802 or 1101, chooses the version:
 *   from  806  loadLibrary and what it calls
 *   from 1000  64-bit dimensions, creators that derive from IPluginCreatorInterface
 *   from 1100  a registry that takes creators by that interface only
 * Numbers of enumerators and the order of virtual functions are not TensorRT's: a plugin that is
 * built with this header must not be loaded by a real one. */
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

#ifndef FAKE_TENSORRT
#define FAKE_TENSORRT 802
#endif
#define NV_TENSORRT_MAJOR (FAKE_TENSORRT / 100)
#define NV_TENSORRT_MINOR (FAKE_TENSORRT % 100)
#define TENSORRTAPI
#if FAKE_TENSORRT >= 1000
#define FAKE_DEPRECATED __attribute__((deprecated))
#else
#define FAKE_DEPRECATED
#endif

namespace nvinfer1 {

#if FAKE_TENSORRT >= 1000
using DimsInteger = int64_t;
#else
using DimsInteger = int32_t;
#endif

enum class DataType : int32_t { kFLOAT, kHALF, kINT8, kINT32 };
enum class TensorFormat : int32_t { kLINEAR, kCHW2 };
enum class DimensionOperation : int32_t { kSUM, kFLOOR_DIV, kCEIL_DIV };
enum class PluginFieldType : int32_t { kFLOAT32, kINT32, kCHAR, kUNKNOWN };

class Dims {
 public:
  int32_t nbDims;
  DimsInteger d[8];
};

class ILogger {
 public:
  enum class Severity : int32_t { kINTERNAL_ERROR, kERROR, kWARNING, kINFO, kVERBOSE };
  virtual void log(Severity severity, const char* message) noexcept = 0;
  virtual ~ILogger() = default;
};

class IDimensionExpr {
 public:
  virtual ~IDimensionExpr() = default;
};

class IExprBuilder {
 public:
  virtual const IDimensionExpr* constant(DimsInteger value) noexcept = 0;
  virtual const IDimensionExpr* operation(DimensionOperation operation, const IDimensionExpr& first,
                                          const IDimensionExpr& second) noexcept = 0;
  virtual ~IExprBuilder() = default;
};

class DimsExprs {
 public:
  int32_t nbDims;
  const IDimensionExpr* d[8];
};

struct PluginTensorDesc {
  Dims dims;
  DataType type;
  TensorFormat format;
  float scale;
};

struct DynamicPluginTensorDesc {
  PluginTensorDesc desc;
  Dims min;
  Dims max;
};

class PluginField {
 public:
  const char* name;
  const void* data;
  PluginFieldType type;
  int32_t length;

  PluginField(const char* name_ = nullptr, const void* data_ = nullptr,
              PluginFieldType type_ = PluginFieldType::kUNKNOWN, int32_t length_ = 0) noexcept
      : name(name_), data(data_), type(type_), length(length_) {}
};

struct PluginFieldCollection {
  int32_t nbFields;
  const PluginField* fields;
};

class FAKE_DEPRECATED IPluginV2 {
 public:
  virtual const char* getPluginType() const noexcept = 0;
  virtual const char* getPluginVersion() const noexcept = 0;
  virtual int32_t getNbOutputs() const noexcept = 0;
  virtual int32_t initialize() noexcept = 0;
  virtual void terminate() noexcept = 0;
  virtual size_t getSerializationSize() const noexcept = 0;
  virtual void serialize(void* buffer) const noexcept = 0;
  virtual void destroy() noexcept = 0;
  virtual void setPluginNamespace(const char* text) noexcept = 0;
  virtual const char* getPluginNamespace() const noexcept = 0;

 protected:
  virtual ~IPluginV2() noexcept = default;
};

class FAKE_DEPRECATED IPluginV2DynamicExt : public IPluginV2 {
 public:
  virtual IPluginV2DynamicExt* clone() const noexcept = 0;
  virtual DimsExprs getOutputDimensions(int32_t index, const DimsExprs* inputs, int32_t count,
                                        IExprBuilder& builder) noexcept = 0;
  virtual bool supportsFormatCombination(int32_t position, const PluginTensorDesc* tensors,
                                         int32_t inputs, int32_t outputs) noexcept = 0;
  virtual void configurePlugin(const DynamicPluginTensorDesc* in, int32_t inputs,
                               const DynamicPluginTensorDesc* out, int32_t outputs) noexcept = 0;
  virtual size_t getWorkspaceSize(const PluginTensorDesc* in, int32_t inputs,
                                  const PluginTensorDesc* out, int32_t outputs) const noexcept = 0;
  virtual int32_t enqueue(const PluginTensorDesc* in, const PluginTensorDesc* out,
                          const void* const* inputs, void* const* outputs, void* workspace,
                          cudaStream_t stream) noexcept = 0;
  virtual DataType getOutputDataType(int32_t index, const DataType* inputs,
                                     int32_t count) const noexcept = 0;

 protected:
  ~IPluginV2DynamicExt() noexcept override = default;
};

#if FAKE_TENSORRT >= 1000
class IPluginCreatorInterface {
 public:
  virtual const char* getInterfaceKind() const noexcept = 0;
  virtual ~IPluginCreatorInterface() noexcept = default;
};
#endif

class FAKE_DEPRECATED IPluginCreator
#if FAKE_TENSORRT >= 1000
    : public IPluginCreatorInterface
#endif
{
 public:
  virtual const char* getPluginName() const noexcept = 0;
  virtual const char* getPluginVersion() const noexcept = 0;
  virtual const PluginFieldCollection* getFieldNames() noexcept = 0;
  virtual IPluginV2* createPlugin(const char* name,
                                  const PluginFieldCollection* fields) noexcept = 0;
  virtual IPluginV2* deserializePlugin(const char* name, const void* data,
                                       size_t length) noexcept = 0;
  virtual void setPluginNamespace(const char* text) noexcept = 0;
  virtual const char* getPluginNamespace() const noexcept = 0;
  virtual ~IPluginCreator() = default;
#if FAKE_TENSORRT >= 1000
  const char* getInterfaceKind() const noexcept override { return "PLUGIN CREATOR_V1"; }
#endif
};

class IPluginRegistry {
 public:
#if FAKE_TENSORRT < 1100
  virtual bool registerCreator(IPluginCreator& creator, const char* text) noexcept = 0;
  virtual bool deregisterCreator(const IPluginCreator& creator) noexcept = 0;
#endif
#if FAKE_TENSORRT >= 1000
  virtual bool registerCreator(IPluginCreatorInterface& creator, const char* text) noexcept = 0;
  virtual bool deregisterCreator(const IPluginCreatorInterface& creator) noexcept = 0;
#endif
  virtual ~IPluginRegistry() = default;
};

#if FAKE_TENSORRT >= 806
class ILoggerFinder {
 public:
  virtual ILogger* findLogger() = 0;
  virtual ~ILoggerFinder() = default;
};
#endif

}  // namespace nvinfer1

extern "C" TENSORRTAPI nvinfer1::IPluginRegistry* getPluginRegistry() noexcept;
extern "C" TENSORRTAPI nvinfer1::ILogger* getLogger() noexcept;
