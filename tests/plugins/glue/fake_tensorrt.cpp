/* The functions of libnvinfer that the glue calls. */
#include <dlfcn.h>

#include <algorithm>

#include "fakes.h"

namespace {

std::vector<Message>& messages() {
  static std::vector<Message> all;
  return all;
}

std::vector<Entry>& entries() {
  static std::vector<Entry> all;
  return all;
}

class Logger final : public nvinfer1::ILogger {
 public:
  void log(Severity severity, const char* message) noexcept override {
    messages().push_back({severity, message});
  }
};

bool add(nvinfer1::IPluginCreator& creator, const char* name_space) {
  if (find_creator(creator.getPluginName(), creator.getPluginVersion(), name_space) != nullptr) {
    return false;
  }
  creator.setPluginNamespace(name_space);
  entries().push_back({&creator, name_space});
  return true;
}

bool remove(const nvinfer1::IPluginCreator& creator) {
  const auto found = std::find_if(entries().begin(), entries().end(),
                                  [&](const Entry& entry) { return entry.creator == &creator; });
  if (found == entries().end()) {
    getLogger()->log(nvinfer1::ILogger::Severity::kWARNING, "deregistered, and was not registered");
    return false;
  }
  entries().erase(found);
  return true;
}

class Registry final : public nvinfer1::IPluginRegistry {
 public:
#if FAKE_TENSORRT < 1100
  bool registerCreator(nvinfer1::IPluginCreator& creator, const char* text) noexcept override {
    return add(creator, text);
  }
  bool deregisterCreator(const nvinfer1::IPluginCreator& creator) noexcept override {
    return remove(creator);
  }
#endif
#if FAKE_TENSORRT >= 1000
  bool registerCreator(nvinfer1::IPluginCreatorInterface& creator,
                       const char* text) noexcept override {
    return add(static_cast<nvinfer1::IPluginCreator&>(creator), text);
  }
  bool deregisterCreator(const nvinfer1::IPluginCreatorInterface& creator) noexcept override {
    return remove(static_cast<const nvinfer1::IPluginCreator&>(creator));
  }
#endif
};

}  // namespace

std::vector<Message> take_messages() {
  std::vector<Message> taken;
  taken.swap(messages());
  return taken;
}

bool logged_error(const std::string& part) {
  bool found = false;
  const std::vector<Message> taken = take_messages();
  for (const Message& message : taken) {
    if (message.severity != nvinfer1::ILogger::Severity::kERROR) return false;
    found = found || message.text.find(part) != std::string::npos;
  }
  return found;
}

const std::vector<Entry>& registered() { return entries(); }

nvinfer1::IPluginCreator* find_creator(const std::string& name, const std::string& version,
                                       const std::string& name_space) {
  for (const Entry& entry : entries()) {
    if (name == entry.creator->getPluginName() && version == entry.creator->getPluginVersion() &&
        name_space == entry.name_space) {
      return entry.creator;
    }
  }
  return nullptr;
}

void* load_library(const char* path) {
#if FAKE_TENSORRT >= 1000
  using Creators = nvinfer1::IPluginCreatorInterface* const* (*)(int32_t&);
  const char* const symbol = "getCreators";
#else
  using Creators = nvinfer1::IPluginCreator* const* (*)(int32_t&);
  const char* const symbol = "getPluginCreators";
#endif
  void* library = dlopen(path, RTLD_LAZY);
  if (library == nullptr || dlsym(library, "setLoggerFinder") == nullptr) return nullptr;
  const auto creators = reinterpret_cast<Creators>(dlsym(library, symbol));
  if (creators == nullptr) return nullptr;
  int32_t count = 0;
  auto* const* list = creators(count);
  for (int32_t index = 0; index < count; ++index) {
    auto& creator = static_cast<nvinfer1::IPluginCreator&>(*list[index]);
    if (!add(creator, creator.getPluginNamespace())) {
      dlclose(library);
      return nullptr;
    }
  }
  return library;
}

extern "C" {

nvinfer1::IPluginRegistry* getPluginRegistry() noexcept {
  static Registry registry;
  return &registry;
}

nvinfer1::ILogger* getLogger() noexcept {
  static Logger logger;
  return &logger;
}

/* For a program that cannot call registered(). */
int fake_registered() { return static_cast<int>(entries().size()); }

}  // extern "C"
