// Kernels that are wrong on purpose, one a mode, to see that the CPU's machine notices; and the
// conversions and collectives that it stands in for.
//     faults MODE [INPUT OUTPUT]
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "common.cuh"

namespace {

using elfatt::SharedView;
constexpr int kThreads = 64;

int thread() { return static_cast<int>(threadIdx.x); }

float right(SharedView<float> view) {
  view.set(thread(), 1.0f);
  __syncthreads();
  return view.get(kThreads - 1 - thread());
}

float race_after_write(SharedView<float> view) {
  view.set(thread(), 1.0f);
  return view.get(thread() / 2 * 2);
}

float race_after_read(SharedView<float> view) {
  view.set(thread(), 1.0f);
  __syncthreads();
  const float value = view.get((thread() + 1) % kThreads);
  view.set(thread(), 2.0f);
  return value;
}

float two_writers(SharedView<float> view) {
  view.set(thread() / 2, 1.0f);
  __syncthreads();
  return view.get(0);
}

float unwritten(SharedView<float> view) {
  if (thread() > 0) view.set(thread(), 1.0f);
  __syncthreads();
  return view.get(thread());
}

float outside(SharedView<float> view) {
  view.set(thread() + 1, 1.0f);
  return 0.0f;
}

float unaligned(SharedView<float> view) {
  view.set4(4 * (thread() % 4) + 1, elfatt::zero4());
  return 0.0f;
}

float lonely_barrier(SharedView<float> view) {
  view.set(thread(), 1.0f);
  if (thread() < 32) __syncthreads();
  return 0.0f;
}

float two_barriers(SharedView<float>) {
  if (thread() < 32) {
    __syncthreads();
  } else {
    __syncthreads();
  }
  return 0.0f;
}

float lonely_shuffle(SharedView<float>) {
  return thread() % 32 == 0 ? 0.0f : __shfl_xor_sync(0xffffffffu, 1.0f, 1);
}

float shuffle(SharedView<float>) {
  return __shfl_xor_sync(0xffffffffu, static_cast<float>(thread()), 2);
}

struct Mode {
  const char* name;
  float (*run)(SharedView<float>);
};

const Mode kModes[] = {
    {"right", right},
    {"race_after_write", race_after_write},
    {"race_after_read", race_after_read},
    {"two_writers", two_writers},
    {"unwritten", unwritten},
    {"outside", outside},
    {"unaligned", unaligned},
    {"lonely_barrier", lonely_barrier},
    {"two_barriers", two_barriers},
    {"lonely_shuffle", lonely_shuffle},
    {"shuffle", shuffle},
};

__global__ void kernel(Mode mode, float* out) {
  ELFATT_SHARED(storage, kThreads * 4);
  out[thread()] = mode.run(SharedView<float>(storage, 0, kThreads));
}

template <typename From, typename To, typename Convert>
int convert(const char* input, const char* output, Convert one) {
  std::FILE* in = std::fopen(input, "rb");
  std::FILE* out = std::fopen(output, "wb");
  if (in == nullptr || out == nullptr) return 2;
  From value;
  while (std::fread(&value, sizeof value, 1, in) == 1) {
    const To result = one(value);
    std::fwrite(&result, sizeof result, 1, out);
  }
  std::fclose(in);
  return std::fclose(out);
}

}  // namespace

int main(int argc, char** argv) {
  const std::string name = argc > 1 ? argv[1] : "";
  if (argc == 4 && name == "half_from_float")
    return convert<float, __half>(argv[2], argv[3], [](float f) { return __float2half_rn(f); });
  if (argc == 4 && name == "float_from_half")
    return convert<__half, float>(argv[2], argv[3], [](__half h) { return __half2float(h); });
  for (const Mode& mode : kModes) {
    if (name != mode.name) continue;
    std::vector<float> out(kThreads);
    float* values = out.data();
    ELFATT_LAUNCH(kernel, 2, kThreads, nullptr, mode, values);
    for (float value : out) std::printf("%g\n", value);
    return 0;
  }
  return 2;
}
