#pragma once
// Reading index keys, and their scores.
#include "sm90/selection_shared.cuh"

namespace retrosparse::kernels::sm90 {

/// The index keys of a sequence and an index group, contiguous or in pages.
class IndexKeys {
 public:
  __device__ IndexKeys(const IndexCache& cache, int32_t group, int64_t sequence)
      : keys_(static_cast<const uint16_t*>(cache.keys) + group * cache.group_stride +
              (cache.page_table == nullptr ? sequence * cache.sequence_stride : 0)),
        pages_(cache.page_table == nullptr ? nullptr : cache.page_table + sequence * cache.page_table_stride),
        page_stride_(cache.sequence_stride),
        page_mask_(cache.page_size - 1) {}

  __device__ const uint16_t* contiguous_key(int32_t n) const { return keys_ + static_cast<int64_t>(n) * kIndexDim; }

  __device__ const uint16_t* key(int32_t n) const {
    if (pages_ == nullptr) {
      return contiguous_key(n);
    }
    return keys_ + __ldg(pages_ + (n >> __popc(page_mask_))) * page_stride_ + (n & page_mask_) * kIndexDim;
  }

 private:
  const uint16_t* keys_;
  const int32_t* pages_;
  int64_t page_stride_;
  int32_t page_mask_;
};

/// Eight bf16 elements.
__device__ inline void unpack(const uint4& packed, float (&values)[8]) {
  const uint32_t words[4] = {packed.x, packed.y, packed.z, packed.w};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    values[2 * i] = __uint_as_float(words[i] << 16);
    values[2 * i + 1] = __uint_as_float(words[i] & 0xffff0000u);
  }
}

/// Adds eight products to a score. A key's two halves, one after the other, give the reference's score bit for bit.
__device__ inline void add_products(float& score, const float* query, const float (&values)[8]) {
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    score = __fmaf_rn(query[i], values[i], score);
  }
}

}  // namespace retrosparse::kernels::sm90
