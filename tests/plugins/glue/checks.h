/* What the cases share: CHECK, a node, and ways to make a plugin of it. */
#pragma once

#include <cstdint>
#include <cstdio>
#include <initializer_list>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "fakes.h"

/* Checks that did not hold. */
extern int failures;

#define CHECK(condition)                                                    \
  do {                                                                      \
    if (!(condition)) {                                                     \
      std::printf("%s:%d: %s is not so\n", __FILE__, __LINE__, #condition); \
      ++failures;                                                           \
    }                                                                       \
  } while (false)

using Plugin = nvinfer1::IPluginV2DynamicExt;

struct Destroy {
  void operator()(nvinfer1::IPluginV2* plugin) const { plugin->destroy(); }
};
using Owned = std::unique_ptr<Plugin, Destroy>;

inline Owned owned(nvinfer1::IPluginV2* plugin) { return Owned(static_cast<Plugin*>(plugin)); }

/* A 12 x 14 map of 64 channels: 32 of them linear, 32 in blocks of 7 x 5. */
using Values = std::map<std::string, int32_t>;
const Values kNode = {{"rows", 12},        {"cols", 14},       {"global_channels", 32},
                      {"global_heads", 2}, {"local_heads", 1}, {"block_rows", 7},
                      {"block_cols", 5},   {"lepe", 1}};

inline Values with(std::initializer_list<std::pair<const char*, int32_t>> changes) {
  Values values = kNode;
  for (const auto& change : changes) values[change.first] = change.second;
  return values;
}

/* The creator that a node finds. */
inline nvinfer1::IPluginCreator* creator() {
  return find_creator("ElfattAttention", "1", "elfatt");
}

inline std::vector<nvinfer1::PluginField> fields_of(const Values& values) {
  std::vector<nvinfer1::PluginField> fields;
  for (const auto& value : values) {
    fields.emplace_back(value.first.c_str(), &value.second, nvinfer1::PluginFieldType::kINT32, 1);
  }
  return fields;
}

inline Owned create(const std::vector<nvinfer1::PluginField>& fields) {
  const nvinfer1::PluginFieldCollection all{static_cast<int32_t>(fields.size()), fields.data()};
  return owned(creator()->createPlugin("block3", &all));
}

inline Owned create(const Values& values) { return create(fields_of(values)); }

/* The cases of creator_cases.cpp and plugin_cases.cpp. */
void registration();
void creation();
void fields();
void attributes();
void cloning();
void serialization();
void foreign_bytes();
void formats();
void output_dimensions();
void configuration();
void workspace();
void launch();
