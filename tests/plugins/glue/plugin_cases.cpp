/* Cases on what a plugin answers to the builder and the runtime. */
#include <cstddef>
#include <cstring>

#include "checks.h"

using nvinfer1::DataType;
using nvinfer1::DimsInteger;
using nvinfer1::DynamicPluginTensorDesc;
using nvinfer1::PluginTensorDesc;
using nvinfer1::TensorFormat;

namespace {

nvinfer1::Dims dims(std::initializer_list<DimsInteger> sizes) {
  nvinfer1::Dims result{};
  for (const DimsInteger size : sizes) result.d[result.nbDims++] = size;
  return result;
}

PluginTensorDesc tensor(std::initializer_list<DimsInteger> sizes, DataType type = DataType::kFLOAT,
                        TensorFormat format = TensorFormat::kLINEAR) {
  return {dims(sizes), type, format, 1.0F};
}

/* Inputs as configurePlugin gets them: a batch of 1 to 8. */
std::vector<DynamicPluginTensorDesc> inputs(DimsInteger tokens = 168, DimsInteger width = 192) {
  return {{tensor({-1, tokens, width}), dims({1, tokens, width}), dims({8, tokens, width})},
          {tensor({64, 9}), dims({64, 9}), dims({64, 9})},
          {tensor({64}), dims({64}), dims({64})}};
}

void configure(Plugin& plugin, const std::vector<DynamicPluginTensorDesc>& in) {
  const DynamicPluginTensorDesc out{tensor({-1, 168, 64}), dims({1, 168, 64}), dims({8, 168, 64})};
  plugin.configurePlugin(in.data(), static_cast<int32_t>(in.size()), &out, 1);
}

/* Dimensions by their values. */
struct Number : nvinfer1::IDimensionExpr {
  explicit Number(DimsInteger value_) : value(value_) {}
  DimsInteger value;
};

class Builder final : public nvinfer1::IExprBuilder {
 public:
  const nvinfer1::IDimensionExpr* constant(DimsInteger value) noexcept override {
    made_.emplace_back(new Number(value));
    return made_.back().get();
  }
  const nvinfer1::IDimensionExpr* operation(
      nvinfer1::DimensionOperation operation, const nvinfer1::IDimensionExpr& first,
      const nvinfer1::IDimensionExpr& second) noexcept override {
    CHECK(operation == nvinfer1::DimensionOperation::kFLOOR_DIV);
    return constant(static_cast<const Number&>(first).value /
                    static_cast<const Number&>(second).value);
  }

 private:
  std::vector<std::unique_ptr<Number>> made_;
};

}  // namespace

void formats() {
  const Owned plugin = create(kNode);
  const auto takes = [&](int32_t position, const std::vector<PluginTensorDesc>& tensors) {
    return plugin->supportsFormatCombination(position, tensors.data(), 3, 1);
  };
  for (const DataType type : {DataType::kFLOAT, DataType::kHALF}) {
    const DataType other = type == DataType::kFLOAT ? DataType::kHALF : DataType::kFLOAT;
    const std::vector<PluginTensorDesc> same(4, tensor({1}, type));
    for (int32_t position = 0; position < 4; ++position) {
      CHECK(takes(position, same));
      std::vector<PluginTensorDesc> mixed = same;
      mixed[static_cast<std::size_t>(position)].type = other;
      CHECK(takes(position, mixed) == (position == 0));  // the first decides for the others
      std::vector<PluginTensorDesc> vectorised = same;
      vectorised[static_cast<std::size_t>(position)].format = TensorFormat::kCHW2;
      CHECK(!takes(position, vectorised));
    }
    CHECK(!takes(-1, same));
    CHECK(!takes(4, same));
  }
  for (const DataType type : {DataType::kINT8, DataType::kINT32}) {
    CHECK(!takes(0, std::vector<PluginTensorDesc>(4, tensor({1}, type))));
  }
}

void output_dimensions() {
  const Owned plugin = create(kNode);
  Builder builder;
  nvinfer1::DimsExprs qkv{};
  qkv.nbDims = 3;
  for (const DimsInteger size : {5, 168, 192}) {
    qkv.d[size == 5 ? 0 : size == 168 ? 1 : 2] = builder.constant(size);
  }
  const nvinfer1::DimsExprs output = plugin->getOutputDimensions(0, &qkv, 1, builder);
  CHECK(output.nbDims == 3);
  CHECK(output.d[0] == qkv.d[0]);
  CHECK(output.d[1] == qkv.d[1]);
  CHECK(static_cast<const Number*>(output.d[2])->value == 64);
  qkv.nbDims = 2;
  CHECK(plugin->getOutputDimensions(0, &qkv, 1, builder).nbDims == -1);
  CHECK(logged_error("three dimensions"));
}

void configuration() {
  const Owned plugin = create(kNode);
  configure(*plugin, inputs());
  CHECK(plugin->initialize() == 0);
  CHECK(take_messages().empty());
  const auto refuses = [&](const std::vector<DynamicPluginTensorDesc>& in, const char* part) {
    configure(*plugin, in);
    return plugin->initialize() != 0 && logged_error(part);
  };
  CHECK(refuses(inputs(167), "tokens"));
  CHECK(refuses(inputs(168, 193), "three times"));
  CHECK(refuses(inputs(168, 0), "three times"));
  CHECK(refuses(inputs(168, 90), "more than the channels"));
  CHECK(refuses(inputs(168, 96), "local_heads"));
  std::vector<DynamicPluginTensorDesc> in = inputs();
  in[0].max = dims({0, 168, 192});
  CHECK(refuses(in, "batch"));
  in = inputs();
  in[0].max = dims({8, 168});
  CHECK(refuses(in, "three dimensions"));
  in = inputs();
  in[1].desc = tensor({9, 64});
  CHECK(refuses(in, "lepe_weight"));
  in = inputs();
  in[2].desc = tensor({65});
  CHECK(refuses(in, "lepe_bias"));
  in = inputs();
  in.resize(1);
  CHECK(refuses(in, "inputs are"));
  supported = 0;
  CHECK(refuses(inputs(), "kernels"));
  supported = 1;
  configure(*plugin, inputs());
  CHECK(plugin->initialize() == 0);
  const Owned plain = create(with({{"lepe", 0}}));
  configure(*plain, {inputs()[0]});
  CHECK(plain->initialize() == 0);
  CHECK(take_messages().empty());
}

void workspace() {
  const Owned plugin = create(kNode);
  const PluginTensorDesc out = tensor({1, 168, 64});
  const auto bytes = [&](DimsInteger batch) {
    const PluginTensorDesc in[3] = {tensor({batch, 168, 192}), tensor({64, 9}), tensor({64})};
    return plugin->getWorkspaceSize(in, 3, &out, 1);
  };
  CHECK(bytes(2) == 2000);
  CHECK(bytes(4) == 9000);  // what a batch of 3 needs
  CHECK(bytes(128) == 128000);
  CHECK(bytes(0) == 0);
  supported = 0;
  CHECK(bytes(2) == 0);
}

void launch() {
  unsigned char memory[8] = {};
  const auto stream = reinterpret_cast<cudaStream_t>(&memory[5]);
  const void* input_data[3] = {&memory[0], &memory[1], &memory[2]};
  void* output_data[1] = {&memory[3]};
  for (const DataType type : {DataType::kFLOAT, DataType::kHALF}) {
    const Owned plugin = create(kNode);
    const PluginTensorDesc in[3] = {tensor({4, 168, 192}, type), tensor({64, 9}, type),
                                    tensor({64}, type)};
    const PluginTensorDesc out = tensor({4, 168, 64}, type);
    calls.clear();
    CHECK(plugin->enqueue(in, &out, input_data, output_data, &memory[4], stream) == 0);
    CHECK(calls.size() == 1);
    const ElfattAttentionShape expected{4, 12, 14, 64, 32, 2, 1, 7, 5, 1, type == DataType::kHALF};
    const Call& call = calls.at(0);
    CHECK(std::memcmp(&call.shape, &expected, sizeof(expected)) == 0);
    CHECK(call.qkv == &memory[0] && call.weight == &memory[1] && call.bias == &memory[2]);
    CHECK(call.workspace == &memory[4] && call.out == &memory[3] && call.stream == stream);
  }
  const Owned plain = create(with({{"lepe", 0}}));
  const PluginTensorDesc in = tensor({1, 168, 192});
  const PluginTensorDesc out = tensor({1, 168, 64});
  CHECK(plain->enqueue(&in, &out, input_data, output_data, nullptr, stream) == 0);
  CHECK(calls.back().shape.lepe == 0 && calls.back().weight == nullptr);
  CHECK(calls.back().bias == nullptr && calls.back().workspace == nullptr);
  CHECK(take_messages().empty());
  launch_status = 209;
  CHECK(plain->enqueue(&in, &out, input_data, output_data, nullptr, stream) == 209);
  CHECK(logged_error("CUDA error 209"));
  const std::size_t so_far = calls.size();
  const PluginTensorDesc other = tensor({1, 167, 192});
  CHECK(plain->enqueue(&other, &out, input_data, output_data, nullptr, stream) == -1);
  CHECK(calls.size() == so_far);
  CHECK(logged_error("tokens"));
}
