/* The one CUDA type that the glue needs, for machines without CUDA's headers. */
#pragma once

typedef struct CUstream_st* cudaStream_t;
