// The CPU's side of platform.cuh: CUDA's names on top of fibers, checked shared memory, and the
// tensor-core operations lane by lane with the fragment layouts of the PTX manual.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <string>

#include "cuda_runtime_api.h"
#include "fibers.h"
#include "half.h"

#define __global__
#define __device__
#define __host__
#define __launch_bounds__(...)
#define ELFATT_DEVICE inline
#define ELFATT_TEXT(line) #line
#define ELFATT_PLACE(file, line) file ":" ELFATT_TEXT(line)
#define __syncthreads() elfatt_host::block_barrier(ELFATT_PLACE(__FILE__, __LINE__))
#define __shfl_xor_sync(mask, value, step) \
  elfatt_host::shuffled(ELFATT_PLACE(__FILE__, __LINE__), mask, value, step)
#define ELFATT_LAUNCH(kernel, grid, threads, stream, ...) \
  elfatt_host::launch((grid), (threads), [=] {            \
    static_cast<void>(stream);                            \
    kernel(__VA_ARGS__);                                  \
  })
#define ELFATT_SHARED(name, bytes) \
  elfatt_host::SharedBytes& name = elfatt_host::SharedBytes::of_block(bytes)

struct alignas(8) float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
struct alignas(8) uint2 {
  unsigned x, y;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};

inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }
inline float2 __half22float2(__half2 pair) { return {__half2float(pair.x), __half2float(pair.y)}; }

inline int max(int a, int b) { return a > b ? a : b; }
inline int min(int a, int b) { return a < b ? a : b; }

namespace elfatt_host {

struct ThreadIndex {
  struct {
    operator unsigned() const { return static_cast<unsigned>(thread_index()); }
  } x;
};
struct BlockIndex {
  struct {
    operator unsigned() const { return static_cast<unsigned>(block_index()); }
  } x;
};

inline std::uint32_t bits_of(float value) {
  std::uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

inline float float_of(std::uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

// Half `part` of a register.
inline float half_of(std::uint32_t word, int part) {
  return __half2float({static_cast<std::uint16_t>(word >> (16 * part))});
}

inline float shuffled(const char* place, unsigned mask, float value, int step) {
  if (mask != 0xffffffffu) fail("a shuffle of part of a warp is not emulated");
  const std::uint32_t bits = bits_of(value);
  warp_exchange(place, &bits, 1);
  return float_of(*left_by((thread_index() % kWarp) ^ step));
}

}  // namespace elfatt_host

static const elfatt_host::ThreadIndex threadIdx;
static const elfatt_host::BlockIndex blockIdx;

namespace elfatt {

using SharedStorage = elfatt_host::SharedBytes&;

// As in platform.cuh, but every access is checked: inside the view, aligned, written before it is
// read, and ordered by a barrier after what another thread did to the same place.
template <typename T>
class SharedView {
 public:
  SharedView(SharedStorage storage, int offset_bytes, int count)
      : storage_(&storage), offset_(offset_bytes), count_(count) {
    const int end = offset_bytes + count * static_cast<int>(sizeof(T));
    if (offset_bytes % 16 != 0 || end > storage.size())
      elfatt_host::fail("a view reaches outside the shared memory, or is not aligned");
  }
  T get(int i) const { return load<T>(i); }
  void set(int i, T value) const { store(i, value); }
  float4 get4(int i) const { return load<float4>(i); }
  void set4(int i, float4 value) const { store(i, value); }
  void set2(int i, float2 value) const { store(i, value); }
  void set_words(int i, uint4 words) const { store(i, words); }
  void set_words(int i, uint2 words) const { store(i, words); }
  void set_word(int i, unsigned word) const { store(i, word); }
  unsigned get_word(int i) const { return load<unsigned>(i); }

  // Eight halves from place i, as a matrix row is loaded.
  uint4 row(int i) const { return load<uint4>(i); }

 private:
  template <typename V>
  V load(int i) const {
    V value;
    std::memcpy(&value, place<V>(i, false), sizeof value);
    return value;
  }
  template <typename V>
  void store(int i, V value) const {
    std::memcpy(place<V>(i, true), &value, sizeof value);
  }
  template <typename V>
  unsigned char* place(int i, bool write) const {
    const int byte = i * static_cast<int>(sizeof(T)), elements = sizeof(V) / sizeof(T);
    if (i < 0 || i + elements > count_)
      elfatt_host::fail("element " + std::to_string(i) + " of a view of " + std::to_string(count_));
    if ((offset_ + byte) % static_cast<int>(sizeof(V)) != 0)
      elfatt_host::fail("element " + std::to_string(i) + " of a view is not aligned");
    return storage_->at(offset_ + byte, sizeof(V), write);
  }

  elfatt_host::SharedBytes* storage_;
  int offset_, count_;
};

#if __CUDA_ARCH__ >= 750
#define ELFATT_TENSOR_CORES 1

// One lane's four sums of a [16, 8 steps] x [8 steps, 8] product of halves, with the fragments of
// PTX's m16n8k8 and m16n8k16. In lane l of 32, with two halves in a register, low one first:
//   a: rows l / 4 and l / 4 + 8 at columns 2 (l % 4) and the next, then the same eight columns on;
//   b: rows 2 (l % 4) and the next at column l / 4, then eight rows on;
//   c: rows l / 4 (first two) and l / 4 + 8 at columns 2 (l % 4) and the next.
// Every lane leaves its halves as float: 4 a step of a, then 2 a step of b.
inline void multiply_fragments(const char* place, float (&c)[4], const unsigned* a,
                               const unsigned* b, int steps) {
  std::uint32_t words[elfatt_host::kExchangeWords];
  for (int i = 0; i < 6 * steps; ++i) {
    const unsigned word = i < 4 * steps ? a[i / 2] : b[i / 2 - 2 * steps];
    words[i] = elfatt_host::bits_of(elfatt_host::half_of(word, i % 2));
  }
  elfatt_host::warp_exchange(place, words, 6 * steps);
  const int lane = elfatt_host::thread_index() % elfatt_host::kWarp;
  for (int i = 0; i < 4; ++i) {
    float sum = 0.0f;
    for (int quarter = 0; quarter < 4; ++quarter) {
      const std::uint32_t* row = elfatt_host::left_by(lane / 4 * 4 + quarter) + i / 2 * 2;
      const std::uint32_t* column = elfatt_host::left_by((lane % 4 * 2 + i % 2) * 4 + quarter);
      for (int k = 0; k < 2 * steps; ++k)
        sum += elfatt_host::float_of(row[k / 2 * 4 + k % 2]) *
               elfatt_host::float_of(column[4 * steps + k]);
    }
    c[i] += sum;
  }
}

inline void mma_k8(float (&c)[4], unsigned a0, unsigned a1, unsigned b0) {
  const unsigned a[] = {a0, a1};
  multiply_fragments("mma.m16n8k8", c, a, &b0, 1);
}

inline void mma_k16(float (&c)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
#if __CUDA_ARCH__ >= 800
  const unsigned b[] = {b0, b1};
  multiply_fragments("mma.m16n8k16", c, a, b, 2);
#else
  mma_k8(c, a[0], a[1], b0);
  mma_k8(c, a[2], a[3], b1);
#endif
}

// Lane 8 i + r brings row r of matrix i; every lane gets two neighbours of row l / 4 of each, or,
// transposed, of column l / 4.
inline void load_rows(unsigned (&m)[4], const SharedView<__half>& from, int i, bool transposed) {
  const uint4 row = from.row(i);
  const std::uint32_t words[] = {row.x, row.y, row.z, row.w};
  elfatt_host::warp_exchange(transposed ? "ldmatrix.trans" : "ldmatrix", words, 4);
  const int lane = elfatt_host::thread_index() % elfatt_host::kWarp;
  for (int matrix = 0; matrix < 4; ++matrix) {
    if (!transposed) {
      m[matrix] = elfatt_host::left_by(8 * matrix + lane / 4)[lane % 4];
      continue;
    }
    const int column = lane / 4, low = 8 * matrix + lane % 4 * 2;
    const unsigned shift = column % 2 * 16;
    m[matrix] = (elfatt_host::left_by(low)[column / 2] >> shift & 0xffffu) |
                (elfatt_host::left_by(low + 1)[column / 2] >> shift & 0xffffu) << 16;
  }
}

inline void load_matrices(unsigned (&m)[4], const SharedView<__half>& from, int i) {
  load_rows(m, from, i, false);
}

inline void load_transposed(unsigned (&m)[4], const SharedView<__half>& from, int i) {
  load_rows(m, from, i, true);
}

#endif  // tensor cores

}  // namespace elfatt
