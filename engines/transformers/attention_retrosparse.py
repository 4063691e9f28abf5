"""The attention of one layer of a converted model: its index, its cache, and who sees what."""

from dataclasses import dataclass, field

import torch
from torch import nn
from torch.nn.functional import pad
from transformers.cache_utils import DynamicLayer
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from .configuration_retrosparse import SparseSettings
from .functional_retrosparse import attend_dense, attend_local, attend_tail, local_positions, merge, pick_far_tokens
from .kernels_retrosparse import attend_prompt, attend_token, serve, serve_decoding


# --- Parameters -------------------------------------------------------------------------------------------------------


class HeadProjections(nn.Module):
    """One matrix [r, D] for each of `count` heads, as `weight` [count, r, D]."""

    def __init__(self, count, index_dim, head_dim):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(count, index_dim, head_dim))

    def forward(self, x):
        """[count, T, D] -> float32 [count, T, r]"""
        return x.float() @ self.weight.float().transpose(1, 2)


class HeadGates(nn.Module):
    """w . q + b for each of `count` heads."""

    def __init__(self, count, head_dim):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(count, head_dim))
        self.bias = nn.Parameter(torch.empty(count))

    def forward(self, q):
        """[count, T, D] -> float32 [count, T]"""
        return (q.float() * self.weight.float()[:, None]).sum(-1) + self.bias.float()[:, None]


class Indexer(nn.Module):
    """The index of a layer with R retrieval heads in Kr key/value groups. Its score of token n for row m is
    (q_proj q_m) . (k_proj k_n), with q and k before RoPE; queries are projected per head, keys per group."""

    def __init__(self, num_heads, num_groups, index_dim, head_dim):
        super().__init__()
        self.q_proj = HeadProjections(num_heads, index_dim, head_dim)
        self.k_proj = HeadProjections(num_groups, index_dim, head_dim)
        self.gate = HeadGates(num_heads, head_dim)


class IndexedCacheLayer(DynamicLayer):
    """A layer of the key/value cache that also holds the index keys, float32 [batch, Kr, S, r], and, for models with a
    tail, the mean values of blocks of tokens, float32 [batch, Kr, blocks, D]."""

    index_keys = None
    block_means = None

    @classmethod
    def of(cls, cache, layer):
        """Layer `layer` of a DynamicCache; the first call for a new cache puts one of this kind in its place."""
        while len(cache.layers) <= layer:  # a cache that was made without a config grows with use
            cache.layers.append(DynamicLayer())
        if type(cache.layers[layer]) is DynamicLayer and cache.layers[layer].get_seq_length() == 0:
            cache.layers[layer] = cls()
        if not isinstance(cache.layers[layer], cls):
            raise NotImplementedError(
                f"RetroSparse models need an empty or their own DynamicCache to start from; layer {layer} of this "
                f"{type(cache).__name__} is a {type(cache.layers[layer]).__name__} with "
                f"{cache.layers[layer].get_seq_length()} tokens")
        return cache.layers[layer]

    def update_index(self, index_keys):
        """Adds those of the new tokens and returns all."""
        if self.index_keys is not None:
            index_keys = torch.cat([self.index_keys, index_keys], dim=2)
        self.index_keys = index_keys
        return index_keys

    def update_block_means(self, values, num_new, groups, first_tokens, block):
        """Adds those of the blocks that the last num_new of the values [batch, K, S, D] complete, and returns all. The
        blocks of a sequence begin at its own first token, so that it may have fewer than there is room for."""
        num_tokens = values.shape[2]
        num_known = [max(num_tokens - num_new - first, 0) // block for first in first_tokens]  # whatever crop() left
        num_whole = [max(num_tokens - first, 0) // block for first in first_tokens]
        if num_new == num_tokens:
            self.block_means = values.new_zeros(len(values), len(groups), 0, values.shape[3], dtype=torch.float32)
        if num_known != num_whole:
            missing = max(num_whole) - self.block_means.shape[2]
            self.block_means = pad(self.block_means, (0, 0, 0, max(missing, 0)))
        for sequence, (first, known, whole) in enumerate(zip(first_tokens, num_known, num_whole)):
            if known < whole:
                fresh = values[sequence, :, first + known * block : first + whole * block][groups].float()
                self.block_means[sequence, :, known:whole] = fresh.unflatten(1, (whole - known, block)).mean(dim=2)
        return self.block_means

    def _change(self, change):
        self.index_keys, self.block_means = (
            change(tensor) if tensor is not None else None for tensor in (self.index_keys, self.block_means))

    def offload(self):
        super().offload()
        self._change(lambda tensor: tensor.to("cpu", non_blocking=True))

    def prefetch(self):
        super().prefetch()
        self._change(lambda tensor: tensor.to(self.keys.device, non_blocking=True))

    def reset(self):
        super().reset()
        self._change(torch.zeros_like)

    def reorder_cache(self, beam_idx):
        super().reorder_cache(beam_idx)
        self._change(lambda tensor: tensor.index_select(0, beam_idx.to(tensor.device)))

    def crop(self, *args, **kwargs):
        super().crop(*args, **kwargs)
        if self.index_keys is not None:  # block means of tokens that are gone are overwritten by the next ones
            self.index_keys = self.index_keys[:, :, : self.get_seq_length()]

    def batch_repeat_interleave(self, repeats):
        super().batch_repeat_interleave(repeats)
        self._change(lambda tensor: tensor.repeat_interleave(repeats, dim=0))

    def batch_select_indices(self, indices):
        super().batch_select_indices(indices)
        self._change(lambda tensor: tensor[indices, ...])


# --- The attention of a layer -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PickedTokens:
    """What one row of one retrieval head picked beside sinks and window."""

    layer: int
    head: int
    sequence: int  # row of the batch
    position: int  # of the query token, padding not counted
    tokens: torch.Tensor  # int64 on the CPU, ascending


@dataclass
class Run:
    """What all layers of a model share from call to call."""

    settings: SparseSettings
    sparse_rows: int = 0
    record: bool = False
    picked: list[PickedTokens] = field(default_factory=list)
    padding: list[int] | None = None  # on the left of each sequence of this call; None: none
    kernels: bool | str = True  # where they are loaded and serve, see kernels_retrosparse.py


class SparseAttention:
    """Mixed into the attention class of a family, whose projections it uses; replaces everything between them."""

    def __init__(self, config, layer_idx, run):
        super().__init__(config, layer_idx)
        self.run = run
        settings, group_size = run.settings, self.num_key_value_groups
        self.retrieval_heads = list(settings.retrieval_heads.get(layer_idx, ()))
        self.gates = settings.gates.get(layer_idx, ())
        self.indexed_groups = sorted({head // group_size for head in self.retrieval_heads})
        if self.retrieval_heads:
            num_heads, num_groups = len(self.retrieval_heads), len(self.indexed_groups)
            self.indexer = Indexer(num_heads, num_groups, settings.index_dim, self.head_dim)

    def forward(self, hidden_states, position_embeddings, attention_mask=None, past_key_values=None, **kwargs):
        batch, num_rows = hidden_states.shape[:2]

        def heads(projection, norm=None):
            x = projection(hidden_states).view(batch, num_rows, -1, self.head_dim)
            return (norm(x) if norm is not None else x).transpose(1, 2)

        q = heads(self.q_proj, getattr(self, "q_norm", None))
        k = heads(self.k_proj, getattr(self, "k_norm", None))
        v = heads(self.v_proj)
        q_rotated, k_rotated = apply_rotary_pos_emb(q, k, *position_embeddings)
        use_kernels = serve(self.run.kernels, (q, k, v), self.head_dim)
        kernels_decode = use_kernels and not self.run.record and serve_decoding(self.run.settings, self.gates)
        index_keys = self.indexer.k_proj(k[:, self.indexed_groups]) if self.retrieval_heads else None
        if kernels_decode and self.retrieval_heads:
            index_keys = index_keys.bfloat16()
        if past_key_values is not None:
            k_rotated, v, index_keys = self.update_cache(past_key_values, k_rotated, v, index_keys)
        paddings = self.run.padding or [0] * batch
        block_means = None
        if self.retrieval_heads and self.run.settings.tail_block:
            layer = IndexedCacheLayer() if past_key_values is None else past_key_values.layers[self.layer_idx]
            first_tokens = [padding + self.run.settings.sink_tokens for padding in paddings]
            block_means = layer.update_block_means(v, num_rows, self.indexed_groups, first_tokens,
                                                   self.run.settings.tail_block)

        if kernels_decode and num_rows == 1 and k_rotated.shape[2] > 1:
            return self.project(self.attend_tokens(q, q_rotated, k_rotated, v, index_keys)), None
        out = torch.zeros_like(q)
        num_cached = k_rotated.shape[2] - num_rows
        for sequence, padding in enumerate(paddings):
            first = max(padding - num_cached, 0)  # of the rows that are not padding
            if first < num_rows:
                out[sequence, :, first:] = self.attend_sequence(
                    sequence, q[sequence, :, first:], q_rotated[sequence, :, first:], k_rotated[sequence, :, padding:],
                    v[sequence, :, padding:], index_keys[sequence, :, padding:] if self.retrieval_heads else None,
                    block_means[sequence] if block_means is not None else None, use_kernels)
        return self.project(out), None

    def project(self, out):
        """[B, H, T, D] -> [B, T, hidden size]"""
        return self.o_proj(out.transpose(1, 2).flatten(2))

    def attend_tokens(self, q, q_rotated, k, v, index_keys):
        """By the kernels, the last of S tokens; shapes as in attend_sequence(), with T = 1 and the batch in front."""
        index, out = None, torch.zeros_like(q)
        all_alike = self.run.padding is None
        for part, padding in [(slice(None), 0)] if all_alike else enumerate(self.run.padding):
            part = part if all_alike else slice(part, part + 1)
            if padding == k.shape[2]:
                continue  # nothing but padding
            if self.retrieval_heads:
                own = q[part, self.retrieval_heads]
                index = self.indexer.q_proj(own), self.indexer.gate(own), index_keys[part, :, padding:].bfloat16()
            out[part] = attend_token(q_rotated[part], k[part, :, padding:], v[part, :, padding:], index,
                                     self.retrieval_heads, self.gates, self.run.settings, self.scaling)
        return out

    def update_cache(self, cache, k, v, index_keys):
        """Adds the new tokens and returns keys, values and index keys of all."""
        if self.retrieval_heads:
            index_keys = IndexedCacheLayer.of(cache, self.layer_idx).update_index(index_keys)
        length = cache.get_seq_length(self.layer_idx) + k.shape[2]
        k, v = cache.update(k, v, self.layer_idx)
        if k.shape[2] != length:
            raise NotImplementedError(f"RetroSparse models need a cache that keeps every token and no more; layer "
                                      f"{self.layer_idx} of this {type(cache).__name__} returned the keys of "
                                      f"{k.shape[2]} tokens, not of {length}")
        return k, v, index_keys

    def attend_sequence(self, sequence, q, q_rotated, k, v, index_keys, block_means, use_kernels):
        """One sequence without padding: q and q_rotated [H, T, D], k and v [K, S, D], index_keys [Kr, S, r] or None,
        block_means [Kr, blocks, D] or None -> [H, T, D]."""
        settings, num_rows, num_tokens = self.run.settings, q.shape[1], k.shape[1]
        is_decoding = num_rows == 1 and num_tokens > 1
        if use_kernels and not is_decoding and self.run.sparse_rows == 0:
            return attend_prompt(q_rotated, k, v, self.retrieval_heads, settings, self.scaling)
        num_sparse = 1 if is_decoding else min(self.run.sparse_rows, num_rows)
        num_dense, num_seen = num_rows - num_sparse, num_tokens - num_sparse
        out = torch.empty_like(q)
        for group in range(len(k)):
            members = range(group * self.num_key_value_groups, (group + 1) * self.num_key_value_groups)
            local = [head for head in members if head not in self.retrieval_heads]
            retrieval = [head for head in members if head in self.retrieval_heads]
            if local:
                out[local] = attend_local(q_rotated[local], k[group], v[group], self.scaling, settings.sink_tokens,
                                          settings.window)
            if retrieval and num_dense:
                out[retrieval, :num_dense] = attend_dense(q_rotated[retrieval, :num_dense], k[group, :num_seen],
                                                          v[group, :num_seen], self.scaling)
        if self.retrieval_heads and num_sparse:
            out[self.retrieval_heads, num_dense:] = self.attend_sparse(
                sequence, q[self.retrieval_heads, num_dense:], q_rotated[self.retrieval_heads, num_dense:], k, v,
                index_keys, block_means)
        return out

    def attend_sparse(self, sequence, q, q_rotated, k, v, index_keys, block_means):
        """The last n of S tokens with picked far tokens, and a tail if there are block_means; row by row in float32:
        q and q_rotated [R, n, D] of the retrieval heads, k and v [K, S, D], index_keys [Kr, S, r] -> [R, n, D]."""
        settings, num_rows = self.run.settings, q.shape[1]
        index_queries, gate_logits = self.indexer.q_proj(q), self.indexer.gate(q)
        out = torch.empty_like(q)
        for row in range(num_rows):
            position = k.shape[1] - num_rows + row
            local = local_positions(position, position + 1, settings.sink_tokens, settings.window, q.device)
            for place, head in enumerate(self.retrieval_heads):
                group = head // self.num_key_value_groups
                indexed_group = self.indexed_groups.index(group)
                query = q_rotated[place, row].float()
                local_scores = k[group, local].float() @ query * self.scaling
                index_scores = index_keys[indexed_group, : position + 1].float() @ index_queries[place, row]
                far = dict(first_far=settings.sink_tokens, end_far=position - settings.window + 1,
                           gate_logit=gate_logits[place, row].double())
                tokens = pick_far_tokens(settings.selection, self.gates[place], index_scores,
                                         local_lse=local_scores.double().logsumexp(0), **far)
                scores = torch.cat([local_scores, k[group, tokens].float() @ query * self.scaling])
                value = torch.softmax(scores, dim=0) @ v[group, torch.cat([local, tokens])].float()
                tail = None
                if block_means is not None:
                    tail = attend_tail(index_scores, tokens, block_means[indexed_group], settings.tail_block, **far)
                if tail is not None:
                    value = merge(value, scores.double().logsumexp(0), *tail)
                out[place, row] = value.to(out.dtype)
                if self.run.record:
                    tokens = tokens.sort().values.cpu()
                    self.run.picked.append(PickedTokens(self.layer_idx, head, sequence, position, tokens))
        return out
