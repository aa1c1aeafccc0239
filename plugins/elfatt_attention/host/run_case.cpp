// Runs the kernels on the cases of a file, on the CPU.
//     run_case CASES RESULTS
// A case is eleven int32 (ElfattAttentionShape) and the arrays qkv, lepe_weight, lepe_bias in the
// case's storage type; weights and bias are absent where lepe is 0. The result is `out`.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "../elfatt_attention.h"
#include "fibers.h"

namespace {

[[noreturn]] void stop(const char* what) {
  std::fprintf(stderr, "run_case: %s\n", what);
  std::exit(2);
}

// Memory of just the right size: AddressSanitizer sees every step over its end. What nobody wrote
// is not a number.
struct Array {
  explicit Array(std::size_t bytes) : data(std::malloc(bytes)), bytes(bytes) {
    if (data == nullptr) stop("no memory");
    std::memset(data, 0xff, bytes);
  }
  Array(const Array&) = delete;
  Array& operator=(const Array&) = delete;
  ~Array() { std::free(data); }

  void read(std::FILE* file) {
    if (std::fread(data, 1, bytes, file) != bytes) stop("the file ends early");
  }

  void* data;
  std::size_t bytes;
};

void run(const ElfattAttentionShape& shape, std::FILE* cases, std::FILE* results) {
  if (!elfatt_attention_supported(&shape)) stop("a shape is not supported");
  const std::size_t element = shape.half ? 2 : 4, channels = shape.channels;
  const std::size_t tokens = static_cast<std::size_t>(shape.batch) * shape.rows * shape.cols;
  Array qkv(tokens * 3 * channels * element), out(tokens * channels * element);
  Array weight(shape.lepe ? 9 * channels * element : 1), bias(shape.lepe ? channels * element : 1);
  Array workspace(elfatt_attention_workspace_bytes(&shape));
  qkv.read(cases);
  if (shape.lepe) {
    weight.read(cases);
    bias.read(cases);
  }
  const int before = elfatt_host::launches();
  const int status = elfatt_attention_launch(&shape, qkv.data, shape.lepe ? weight.data : nullptr,
                                             shape.lepe ? bias.data : nullptr, workspace.data,
                                             out.data, nullptr);
  if (status != 0) stop("the launch failed");
  if (elfatt_host::launches() - before != elfatt_attention_launches(&shape))
    stop("not as many kernels as elfatt_attention_launches says");
  if (std::fwrite(out.data, 1, out.bytes, results) != out.bytes) stop("the disk is full");
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) stop("use: run_case CASES RESULTS");
  std::FILE* cases = std::fopen(argv[1], "rb");
  std::FILE* results = std::fopen(argv[2], "wb");
  if (cases == nullptr || results == nullptr) stop("a file cannot be opened");
  int numbers[11];
  while (std::fread(numbers, sizeof numbers, 1, cases) == 1) {
    const ElfattAttentionShape shape = {
        numbers[0], numbers[1], numbers[2], numbers[3], numbers[4], numbers[5],
        numbers[6], numbers[7], numbers[8], numbers[9], numbers[10],
    };
    run(shape, cases, results);
  }
  std::fclose(cases);
  return std::fclose(results) == 0 ? 0 : 2;
}
