#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "sparse/head_plan.h"

namespace retrosparse {

/// The cheap index of one layer's retrieval heads. R retrieval heads in Kr KV groups, D head_dim, r index_dim.
/// The score of key n for query m, q and k before RoPE, is (q_proj[h] q_m) . (k_proj[g] k_n).
struct LayerIndexer {
  std::vector<int64_t> heads, groups;  ///< query heads and KV groups, ascending
  at::Tensor q_proj;                   ///< float32 [R, r, D]
  at::Tensor k_proj;                   ///< float32 [Kr, r, D]
  at::Tensor gate_weight, gate_bias;   ///< float32 [R, D], [R]
  at::Tensor head_index, group_index;  ///< int64 [R], [Kr]: heads and groups
  at::Tensor group_of_head;            ///< int64 [R]: which row of groups a head belongs to

  int64_t num_heads() const { return static_cast<int64_t>(heads.size()); }
  /// The key/value head that each head reads: int64 [R].
  at::Tensor key_heads() const { return group_index.index_select(0, group_of_head); }

  /// [R, n, r] float32 of q_pre_rope [n, H, D].
  at::Tensor queries(const at::Tensor& q_pre_rope) const;
  /// [Kr, n, r] float32 of k_pre_rope [n, K, D].
  at::Tensor keys(const at::Tensor& k_pre_rope) const;
  /// [R, n, S] of index queries [R, n, r] and index keys [Kr, S, r].
  at::Tensor scores(const at::Tensor& index_queries, const at::Tensor& index_keys) const;
  /// The gate's part of the far-mass estimate, w_h . q + b_h: [R, n] of q_pre_rope [n, H, D].
  at::Tensor gate(const at::Tensor& q_pre_rope) const;
};

/// The indexers of all layers; a layer without retrieval heads has an empty one.
struct Indexer {
  int64_t index_dim = 0;
  std::vector<LayerIndexer> layers;

  /// Zero weights of the right shapes.
  static Indexer allocate(const HeadPlan& plan, int64_t head_dim, int64_t index_dim, at::Device device);

  /// Starts from RoPE: both projections pick the dimensions of the index_dim / 2 slowest rotary pairs, which hardly
  /// turn with position, scaled by head_dim^-1/4 so that the score starts near the true one; plus normal noise of
  /// spread `noise`. index_dim is even and at most head_dim.
  void initialize_from_rope(int64_t head_dim, double noise, uint64_t seed);

  /// Starts from normal noise of spread head_dim^-1/2, as a linear layer does.
  void initialize_random(int64_t head_dim, uint64_t seed);

  /// By the names of the exported checkpoint: model.layers.{l}.self_attn.indexer.{q_proj.weight, ...}.
  std::map<std::string, at::Tensor> named_tensors() const;

  /// Takes the values of named_tensors() back. Throws Error naming a tensor that is missing or of wrong shape.
  void load(const std::map<std::string, at::Tensor>& tensors);

  /// Projections (q_proj, k_proj of all layers), and gates, as an optimizer wants them.
  std::vector<at::Tensor> projections() const;
  std::vector<at::Tensor> gates() const;
};

}  // namespace retrosparse
