// What the kernels need from the machine: launches, checked shared memory, tensor-core operations.
// The same names are defined by host/platform.h, which runs the kernels on a CPU.
#pragma once

#ifdef ELFATT_HOST
#include "host/platform.h"
#else

#include <cuda_fp16.h>
#include <cuda_runtime.h>

#define ELFATT_LAUNCH(kernel, grid, threads, stream, ...) \
  kernel<<<(grid), (threads), 0, (stream)>>>(__VA_ARGS__)

// Everything is inlined: arrays that are indexed by constants then live in registers.
#define ELFATT_DEVICE __device__ __forceinline__

// The one block of shared memory of a kernel; SharedView cuts it up.
#define ELFATT_SHARED(name, bytes) __shared__ __align__(16) unsigned char name[bytes]

namespace elfatt {

using SharedStorage = unsigned char*;

// `count` elements of T in shared memory. Places are aligned to what is read or written.
template <typename T>
class SharedView {
 public:
  ELFATT_DEVICE SharedView(SharedStorage storage, int offset_bytes, int /*count*/)
      : data_(reinterpret_cast<T*>(storage + offset_bytes)) {}
  ELFATT_DEVICE T get(int i) const { return data_[i]; }
  ELFATT_DEVICE void set(int i, T value) const { data_[i] = value; }
  ELFATT_DEVICE float4 get4(int i) const { return *reinterpret_cast<const float4*>(data_ + i); }
  ELFATT_DEVICE void set4(int i, float4 value) const {
    *reinterpret_cast<float4*>(data_ + i) = value;
  }
  ELFATT_DEVICE void set2(int i, float2 value) const {
    *reinterpret_cast<float2*>(data_ + i) = value;
  }
  // Eight, four and two halves.
  ELFATT_DEVICE void set_words(int i, uint4 words) const {
    *reinterpret_cast<uint4*>(data_ + i) = words;
  }
  ELFATT_DEVICE void set_words(int i, uint2 words) const {
    *reinterpret_cast<uint2*>(data_ + i) = words;
  }
  ELFATT_DEVICE void set_word(int i, unsigned word) const {
    *reinterpret_cast<unsigned*>(data_ + i) = word;
  }
  ELFATT_DEVICE unsigned get_word(int i) const { return *reinterpret_cast<unsigned*>(data_ + i); }
  ELFATT_DEVICE unsigned address(int i) const {
    return static_cast<unsigned>(__cvta_generic_to_shared(data_ + i));
  }

 private:
  T* data_;
};

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 750
#define ELFATT_TENSOR_CORES 1

// c += a b with a [16, 8] (two registers), b [8, 8] (one), c [16, 8] in float.
ELFATT_DEVICE void mma_k8(float (&c)[4], unsigned a0, unsigned a1, unsigned b0) {
  asm volatile(
      "mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 "
      "{%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};\n"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a0), "r"(a1), "r"(b0));
}

// c += a b with a [16, 16] (four registers), b [16, 8] (two), c [16, 8] in float.
ELFATT_DEVICE void mma_k16(float (&c)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
#if __CUDA_ARCH__ >= 800
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};\n"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#else
  mma_k8(c, a[0], a[1], b0);
  mma_k8(c, a[2], a[3], b1);
#endif
}

// Four 8 x 8 matrices; lane 8 i + r points at row r of matrix i.
ELFATT_DEVICE void load_matrices(unsigned (&m)[4], const SharedView<__half>& from, int i) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];\n"
               : "=r"(m[0]), "=r"(m[1]), "=r"(m[2]), "=r"(m[3])
               : "r"(from.address(i))
               : "memory");
}

ELFATT_DEVICE void load_transposed(unsigned (&m)[4], const SharedView<__half>& from, int i) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];\n"
               : "=r"(m[0]), "=r"(m[1]), "=r"(m[2]), "=r"(m[3])
               : "r"(from.address(i))
               : "memory");
}

#endif  // tensor cores

}  // namespace elfatt

#endif  // ELFATT_HOST
