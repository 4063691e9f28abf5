#pragma once
#include <ATen/core/Tensor.h>
#include <retrosparse_kernels/prefill_attention.h>

#include <cstdint>
#include <functional>

#include "model/planned_attention.h"
#include "sparse/indexer.h"

namespace retrosparse {

/// Queries of a tile, counted from the sequence's first token, whatever chunks it comes in.
inline constexpr int64_t kQueryTile = kernels::kPrefillQueryTile;

/// How many rows with scores [num_heads, rows, num_keys] to take at a time, so that memory does not grow with their
/// number: 1 or more. On the CPU few, so that the C library keeps their memory for the next ones instead of having it
/// cleared by the system again.
int64_t rows_at_a_time(const at::Tensor& q, int64_t num_heads, int64_t num_keys);

/// Queries of one query tile, and their index scores.
struct RowBlock {
  int64_t first_query, num_queries;  ///< of the n
  int64_t query_tile;                ///< the first query's tile is 0
  at::Tensor scores;  ///< float32 [R, num_queries, far_end], far_end one past the last far key; -inf where not far
};

/// Visits those of n queries that have far keys, in order, in blocks, so that memory stays linear in the S keys.
/// index_queries float32 [R, n, r]: LayerIndexer::queries; index_keys float32 [Kr, S, r]: LayerIndexer::keys, the last
/// of them the last query's own.
void for_each_row_block(const LayerIndexer& layer, const at::Tensor& index_queries, const at::Tensor& index_keys,
                        LocalWindow local, const std::function<void(const RowBlock&)>& visit);

}  // namespace retrosparse
