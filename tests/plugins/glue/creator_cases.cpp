/* Cases on what a creator makes of fields and of bytes. */
#include <cstddef>
#include <cstring>

#include "checks.h"

using nvinfer1::DataType;
using nvinfer1::PluginField;
using nvinfer1::PluginFieldCollection;
using nvinfer1::PluginFieldType;

namespace {

std::vector<unsigned char> bytes_of(const Plugin& plugin) {
  std::vector<unsigned char> bytes(plugin.getSerializationSize());
  plugin.serialize(bytes.data());
  return bytes;
}

bool reads(std::vector<unsigned char> bytes) {
  bytes.shrink_to_fit();  // the address sanitizer then sees a read past the end
  return owned(creator()->deserializePlugin("block3", bytes.data(), bytes.size())) != nullptr;
}

}  // namespace

void registration() {
  CHECK(registered().size() == 1);
  CHECK(creator() != nullptr);
  CHECK(std::strcmp(creator()->getPluginNamespace(), "elfatt") == 0);
  const PluginFieldCollection* names = creator()->getFieldNames();
  CHECK(names->nbFields == 8);
  for (int32_t index = 0; index < names->nbFields; ++index) {
    CHECK(kNode.count(names->fields[index].name) == 1);
    CHECK(names->fields[index].type == PluginFieldType::kINT32);
    CHECK(names->fields[index].data == nullptr);
  }
  CHECK(take_messages().empty());
}

void creation() {
  Owned plugin = create(kNode);
  CHECK(plugin != nullptr);
  CHECK(std::strcmp(plugin->getPluginType(), "ElfattAttention") == 0);
  CHECK(std::strcmp(plugin->getPluginVersion(), "1") == 0);
  CHECK(std::strcmp(plugin->getPluginNamespace(), "elfatt") == 0);
  CHECK(plugin->getNbOutputs() == 1);
  CHECK(plugin->initialize() == 0);
  plugin->terminate();
  const DataType half = DataType::kHALF;
  CHECK(plugin->getOutputDataType(0, &half, 1) == DataType::kHALF);
  CHECK(create(with({{"global_channels", 0}, {"global_heads", 0}})) != nullptr);
  CHECK(create(with({{"local_heads", 0}, {"block_rows", 0}, {"block_cols", 0}})) != nullptr);
  const std::string long_name(5000, 'n');
  plugin->setPluginNamespace(long_name.c_str());
  CHECK(std::strlen(plugin->getPluginNamespace()) == 1023);
  plugin->setPluginNamespace(nullptr);
  CHECK(std::strcmp(plugin->getPluginNamespace(), "") == 0);
  CHECK(take_messages().empty());
}

void fields() {
  for (const auto& value : kNode) {
    Values lacking = kNode;
    lacking.erase(value.first);
    CHECK(create(lacking) == nullptr);
    CHECK(logged_error("block3: attribute " + value.first + " is missing"));
  }
  const float real = 14.0F;
  const int32_t integer = 14;
  const PluginField wrong[] = {{"rows", &real, PluginFieldType::kFLOAT32, 1},
                               {"rows", &integer, PluginFieldType::kINT32, 2},
                               {"rows", nullptr, PluginFieldType::kINT32, 1}};
  for (const PluginField& field : wrong) {
    Values others = kNode;
    others.erase("rows");
    std::vector<PluginField> all = fields_of(others);
    all.push_back(field);
    CHECK(create(all) == nullptr);
    CHECK(logged_error("attribute rows is not one 32-bit integer"));
  }
  std::vector<PluginField> more = fields_of(kNode);
  more.emplace_back("plugin_version", "1", PluginFieldType::kCHAR, 1);
  more.emplace_back(nullptr, nullptr, PluginFieldType::kUNKNOWN, 0);
  const Owned plugin = create(more);
  CHECK(plugin != nullptr && bytes_of(*plugin) == bytes_of(*create(kNode)));
  CHECK(owned(creator()->createPlugin("block3", nullptr)) == nullptr);
  const PluginFieldCollection hollow{1, nullptr};
  CHECK(owned(creator()->createPlugin(nullptr, &hollow)) == nullptr);
  CHECK(logged_error("there are no attributes"));
}

void attributes() {
  const Values refused[] = {
      with({{"rows", 0}}),
      with({{"cols", -1}}),
      with({{"rows", 100000}, {"cols", 100000}}),
      with({{"global_heads", 0}}),
      with({{"global_channels", 0}}),
      with({{"global_heads", 3}}),
      with({{"local_heads", 0}}),
      with({{"block_rows", 0}}),
      with({{"block_cols", 0}}),
      with({{"lepe", 2}}),
      with({{"global_channels", 0},
            {"global_heads", 0},
            {"local_heads", 0},
            {"block_rows", 0},
            {"block_cols", 0}}),
  };
  for (const Values& values : refused) {
    CHECK(create(values) == nullptr);
    CHECK(logged_error("block3"));
  }
}

void cloning() {
  Owned plugin = create(kNode);
  plugin->setPluginNamespace("elsewhere");
  const Owned copy = owned(plugin->clone());
  const std::vector<unsigned char> bytes = bytes_of(*plugin);
  plugin.reset();
  CHECK(std::strcmp(copy->getPluginNamespace(), "elsewhere") == 0);
  CHECK(bytes_of(*copy) == bytes);
}

void serialization() {
  const Owned plugin = create(with({{"rows", 13}, {"cols", 15}, {"lepe", 0}}));
  const std::vector<unsigned char> bytes = bytes_of(*plugin);
  CHECK(bytes.size() == 40);
  const Owned back = owned(creator()->deserializePlugin("block3", bytes.data(), bytes.size()));
  CHECK(back != nullptr && bytes_of(*back) == bytes);
  CHECK(std::strcmp(back->getPluginNamespace(), "elfatt") == 0);
  for (const auto& value : kNode) {
    const Owned other = create(with({{value.first.c_str(), value.second * 2}}));
    if (other != nullptr) CHECK(bytes_of(*other) != bytes_of(*create(kNode)));
  }
}

void foreign_bytes() {
  const std::vector<unsigned char> bytes = bytes_of(*create(kNode));
  CHECK(reads(bytes));
  for (std::size_t length = 0; length < bytes.size(); ++length) {
    CHECK(!reads({bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(length)}));
    CHECK(logged_error(length < 8 ? "another plugin" : "cut short"));
  }
  std::vector<unsigned char> longer = bytes;
  longer.push_back(0);
  CHECK(!reads(longer));
  CHECK(logged_error("too many"));
  std::vector<unsigned char> newer = bytes;
  newer[4] = 2;
  CHECK(!reads(newer));
  CHECK(logged_error("another version"));
  for (const unsigned char fill : {0x00, 0x41, 0xff}) {
    CHECK(!reads(std::vector<unsigned char>(40, fill)));
    CHECK(logged_error("another plugin"));
  }
  std::vector<unsigned char> damaged = bytes;
  std::memset(damaged.data() + 8, 0xff, 4);
  CHECK(!reads(damaged));
  CHECK(logged_error("negative"));
  CHECK(owned(creator()->deserializePlugin("block3", nullptr, 40)) == nullptr);
}
