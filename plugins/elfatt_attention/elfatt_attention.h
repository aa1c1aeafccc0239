/* ELFATT attention as plain C functions: no TensorRT types, no exceptions. */
#ifndef ELFATT_ATTENTION_H
#define ELFATT_ATTENTION_H

#include <stddef.h>

#include <cuda_runtime_api.h>

#ifdef __cplusplus
extern "C" {
#endif

/* One call. Tokens are numbered row by row; the first `global_channels` channels are the linear
 * part, the others the block part. */
typedef struct ElfattAttentionShape {
  int batch, rows, cols, channels;
  int global_channels; /* c1, 0..channels */
  int global_heads;    /* 0 when global_channels is 0 */
  int local_heads;     /* 0 when global_channels is channels */
  int block_rows;      /* 0 when global_channels is channels */
  int block_cols;
  int lepe; /* 0: no positional encoding, both pointers may be NULL */
  int half; /* 0: float storage, 1: __half storage; sums are in float either way */
} ElfattAttentionShape;

/* 1 when elfatt_attention_launch takes this shape, else 0. */
int elfatt_attention_supported(const ElfattAttentionShape* shape);

/* Bytes of device memory that `workspace` must hold, aligned to 256; 0 for an unsupported shape. */
size_t elfatt_attention_workspace_bytes(const ElfattAttentionShape* shape);

/* Kernels that one call launches (at most 3); 0 for an unsupported shape. */
int elfatt_attention_launches(const ElfattAttentionShape* shape);

/* Queue one call on `stream`. All pointers are device memory aligned to 16 bytes.
 *   qkv         [batch, rows * cols, 3 * channels]: Q, then K, then V; Q not scaled
 *   lepe_weight [channels, 9], taps row by row; lepe_bias [channels]; NULL when lepe is 0
 *   out         [batch, rows * cols, channels]
 * Returns 0, or a cudaError_t, or -1 for an unsupported shape. */
int elfatt_attention_launch(const ElfattAttentionShape* shape, const void* qkv,
                            const void* lepe_weight, const void* lepe_bias, void* workspace,
                            void* out, cudaStream_t stream);

#ifdef __cplusplus
}
#endif

#endif /* ELFATT_ATTENTION_H */
