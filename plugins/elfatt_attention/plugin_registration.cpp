/* How TensorRT comes to know the plugin: by itself when the library is loaded, and by the functions
 * that IPluginRegistry::loadLibrary calls (TensorRT 8.6 and later). */
#include "plugin_v2.h"

namespace elfatt {
namespace {

/* Registers in the namespace that the node names; the REGISTER_TENSORRT_PLUGIN macro has none.
 * Withdraws when the library is closed, so that the registry keeps no pointer into it. */
class Registration {
 public:
  Registration() noexcept : creator_(kPluginNamespace) {
    nvinfer1::IPluginRegistry* registry = getPluginRegistry();
    registered_ = registry != nullptr && registry->registerCreator(creator_, kPluginNamespace);
    if (!registered_) {
      report(nvinfer1::ILogger::Severity::kWARNING, "registration",
             "not registered: another copy of the library is loaded already");
    }
  }
  ~Registration() {
    if (registered_) getPluginRegistry()->deregisterCreator(creator_);
  }
  Registration(const Registration&) = delete;
  Registration& operator=(const Registration&) = delete;

 private:
  Creator creator_;
  bool registered_;
};

const Registration registration;

}  // namespace
}  // namespace elfatt

/* TensorRT 8.6 brought IPluginRegistry::loadLibrary, and 10 another type of creators for it. */
#if NV_TENSORRT_MAJOR >= 10
#define ELFATT_CREATOR nvinfer1::IPluginCreatorInterface
#define ELFATT_GET_CREATORS getCreators
#elif NV_TENSORRT_MAJOR > 8 || (NV_TENSORRT_MAJOR == 8 && NV_TENSORRT_MINOR >= 6)
#define ELFATT_CREATOR nvinfer1::IPluginCreator
#define ELFATT_GET_CREATORS getPluginCreators
#endif

#ifdef ELFATT_CREATOR
namespace {

/* loadLibrary loads the library, and so registers it, before it asks for creators, and refuses
 * those that are registered. It therefore gets one that answers to the empty namespace. */
elfatt::Creator creator_without_namespace("");
ELFATT_CREATOR* const creators[] = {&creator_without_namespace};

}  // namespace

extern "C" {

__attribute__((visibility("default"))) ELFATT_CREATOR* const* ELFATT_GET_CREATORS(
    int32_t& count) noexcept {
  count = 1;
  return creators;
}

/* loadLibrary wants it; messages go to TensorRT's own logger, which needs no finder. */
__attribute__((visibility("default"))) void setLoggerFinder(nvinfer1::ILoggerFinder*) noexcept {}

}  // extern "C"
#endif
