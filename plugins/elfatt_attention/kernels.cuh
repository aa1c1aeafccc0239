// The two kernels of a call.
#pragma once

#include "tensor_linear.cuh"

namespace elfatt {

template <typename T, int D>
struct AttendLayout {
  static constexpr int sums = LinearSums<T, D>::bytes;
  static constexpr int blocks = BlockHeads<T, D>::bytes;
  static constexpr int bytes = sums > blocks ? sums : blocks;  // a thread block does only one
};

// First kernel: sums of the linear heads, then all of the block heads. The linear part comes first
// because the second kernel waits for it.
template <typename T, int D>
__global__ void __launch_bounds__(kThreads, 2)
    attend(Problem p, const T* qkv, const T* lepe_weight, const T* lepe_bias, float* workspace,
           T* out) {
  ELFATT_SHARED(storage, (AttendLayout<T, D>::bytes));
  const int cta = static_cast<int>(blockIdx.x);
  if (cta < p.linear_grid) {
    LinearSums<T, D>::run(p, qkv, workspace + cta * partial_floats(p), cta, storage);
  } else {
    BlockHeads<T, D>::run(p, qkv, lepe_weight, lepe_bias, out, cta - p.linear_grid, storage);
  }
}

// Second kernel: output of the linear heads.
template <typename T, int D>
__global__ void __launch_bounds__(kThreads, 2)
    apply_context(Problem p, const T* qkv, const T* lepe_weight, const T* lepe_bias,
                  const float* workspace, T* out) {
  ELFATT_SHARED(storage, (LinearApply<T, D>::bytes));
  LinearApply<T, D>::run(p, qkv, lepe_weight, lepe_bias, workspace, out, storage);
}

}  // namespace elfatt
