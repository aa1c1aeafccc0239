/* Runs one case on the glue: driver CASE LIBRARY COPY. Exit code 0 when all its checks hold. */
#include <dlfcn.h>

#include <functional>

#include "checks.h"

int failures = 0;

namespace {

/* A second library of the same plugin does not register, and takes nothing away when closed. */
void second_copy(void* library, const char* copy) {
  nvinfer1::IPluginCreator* first = creator();
  void* second = dlopen(copy, RTLD_LAZY);
  CHECK(second != nullptr && second != library);
  CHECK(registered().size() == 1 && creator() == first);
  const std::vector<Message> messages = take_messages();
  CHECK(messages.size() == 1);
  CHECK(messages.at(0).severity == nvinfer1::ILogger::Severity::kWARNING);
  CHECK(messages.at(0).text.find("another copy") != std::string::npos);
  CHECK(dlclose(second) == 0);
  CHECK(registered().size() == 1 && creator() == first);
  CHECK(take_messages().empty());
}

void closing(void* library, const char* path) {
  CHECK(dlclose(library) == 0);
  CHECK(registered().empty() && take_messages().empty());
  CHECK(dlopen(path, RTLD_LAZY) != nullptr);
  CHECK(registered().size() == 1 && take_messages().empty());
}

/* loadLibrary takes the library, loaded before or not, and refuses it the second time. */
void loading(const char* path) {
  CHECK(load_library(path) != nullptr);
  CHECK(registered().size() == 2);
  CHECK(creator() != nullptr && find_creator("ElfattAttention", "1", "") != nullptr);
  CHECK(create(kNode) != nullptr);
  CHECK(load_library(path) == nullptr);
  CHECK(creator() != nullptr);
  CHECK(take_messages().empty());
}

}  // namespace

int main(int count, char** words) {
  if (count != 4) {
    std::printf("usage: driver CASE LIBRARY COPY\n");
    return 2;
  }
  const std::string name = words[1];
  void* library = name == "loading_first" ? nullptr : dlopen(words[2], RTLD_LAZY);
  if (library == nullptr && name != "loading_first") {
    std::printf("%s\n", dlerror());
    return 2;
  }
  const std::map<std::string, std::function<void()>> cases = {
      {"registration", registration},
      {"creation", creation},
      {"fields", fields},
      {"attributes", attributes},
      {"cloning", cloning},
      {"serialization", serialization},
      {"foreign_bytes", foreign_bytes},
      {"formats", formats},
      {"output_dimensions", output_dimensions},
      {"configuration", configuration},
      {"workspace", workspace},
      {"launch", launch},
      {"second_copy", [&] { second_copy(library, words[3]); }},
      {"closing", [&] { closing(library, words[2]); }},
      {"loading", [&] { loading(words[2]); }},
      {"loading_first", [&] { loading(words[2]); }},
  };
  const auto found = cases.find(name);
  if (found == cases.end()) {
    std::printf("there is no case %s\n", words[1]);
    return 2;
  }
  found->second();
  return failures == 0 ? 0 : 1;
}
