/* What TensorRT and the kernels are to the glue under test: they record, and answer as told. */
#pragma once

#pragma GCC diagnostic ignored "-Wdeprecated-declarations"

#include <NvInferRuntime.h>

#include <string>
#include <vector>

#include "elfatt_attention.h"

struct Message {
  nvinfer1::ILogger::Severity severity;
  std::string text;
};

/* All that was logged since the last take. */
std::vector<Message> take_messages();

/* Whether something was logged since the last take, all of it errors, one of them with `part`. */
bool logged_error(const std::string& part);

struct Entry {
  nvinfer1::IPluginCreator* creator;
  std::string name_space;
};

/* What is registered now. */
const std::vector<Entry>& registered();

/* Returns the creator that a parser would find, or nullptr. */
nvinfer1::IPluginCreator* find_creator(const std::string& name, const std::string& version,
                                       const std::string& name_space);

/* Does what IPluginRegistry::loadLibrary is documented to do; nullptr where it refuses. */
void* load_library(const char* path);

struct Call {
  ElfattAttentionShape shape;
  const void* qkv;
  const void* weight;
  const void* bias;
  void* workspace;
  void* out;
  cudaStream_t stream;
};

/* The launches so far, what the next one answers, and whether shapes are supported. */
extern std::vector<Call> calls;
extern int launch_status;
extern int supported;
