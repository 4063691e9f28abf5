"""Models that RetroSparse converted to sparse attention, in plain PyTorch (method: RTPurbo, arXiv 2605.16928).

    model = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)

A readable reference, meant to be right rather than fast. Everything but the attention is transformers' own code of the
model's family; the attention differs per query head:

- A local head sees the first `sink_tokens` tokens and the `window` latest ones, in every row.
- A retrieval head attends to everything while it reads a prompt. When it decodes (one new token after cached ones) it
  sees sinks, window, and the far tokens between them that its index picks. The index keeps `index_dim` numbers per
  token and key/value group beside the key/value cache.

"Row" means a query token. Shapes: T new tokens after S - T cached ones, H query heads in K groups of G = H / K, head
dimension D, index dimension r. Memory beside the cache is linear in T. Rows in padding on the left are left out; masks of
another form are refused.
"""

import math
from dataclasses import dataclass, field

import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import LlamaForCausalLM, MistralForCausalLM, Qwen2ForCausalLM, Qwen3ForCausalLM, Qwen3MoeForCausalLM
from transformers.cache_utils import DynamicLayer
from transformers.models.llama.modeling_llama import LlamaAttention, apply_rotary_pos_emb
from transformers.models.mistral.modeling_mistral import MistralAttention
from transformers.models.qwen2.modeling_qwen2 import Qwen2Attention
from transformers.models.qwen3.modeling_qwen3 import Qwen3Attention
from transformers.models.qwen3_moe.modeling_qwen3_moe import Qwen3MoeAttention

from .configuration_retrosparse import (
    RetroSparseLlamaConfig,
    RetroSparseMistralConfig,
    RetroSparseQwen2Config,
    RetroSparseQwen3Config,
    RetroSparseQwen3MoeConfig,
    SparseSettings,
)

ROW_BLOCK = 256  # prefill rows that share one mask


# --- Which far tokens a row picks -------------------------------------------------------------------------------------


def pick_far_tokens(selection, gate, scores, first_far, end_far, gate_logit, local_lse):
    """The far tokens that one row of one retrieval head attends to, as int64 positions, best score first.

    scores      float32 [S], index scores of all tokens up to the row's own
    first_far, end_far   the far tokens are those in [first_far, end_far)
    gate_logit  w . q + b, a correction of the far mass that the index alone would claim
    local_lse   log-sum-exp of the exact scaled attention scores over sinks and window

    Tokens go in the order of descending score, of equal ones the lower position first. Probabilities are summed in
    float64, so that the count does not depend on the order of summation.
    """
    if selection == "paper":  # the fewest of all tokens that hold p by the index; sinks and window are seen anyway
        order = torch.sort(scores, descending=True, stable=True).indices
        count = fewest_that_reach(gate.p, torch.softmax(scores[order].double(), dim=0))
        picked = order[:count]
        return picked[(picked >= first_far) & (picked < end_far)]

    num_far = max(end_far - first_far, 0)
    if num_far == 0:
        return scores.new_zeros(0, dtype=torch.int64)
    far_scores, order = torch.sort(scores[first_far:end_far], descending=True, stable=True)
    if selection == "top_k":
        count = gate.max_tokens
    else:
        far_scores = far_scores.double()
        far_mass = torch.sigmoid(torch.logsumexp(far_scores, dim=0) + gate_logit - local_lse).item()
        wanted = 1 - (1 - gate.p) / far_mass if far_mass > 1 - gate.p else 0.0  # share of the far mass
        count = fewest_that_reach(wanted, torch.softmax(far_scores, dim=0)) if wanted > 0 else 0
        count = min(max(count, gate.min_tokens), gate.max_tokens)
    return first_far + order[: min(count, num_far)]


def fewest_that_reach(share, probabilities):
    """How many of the descending `probabilities` it takes for their sum to reach `share`."""
    return min(int((probabilities.cumsum(0) < share).sum()) + 1, len(probabilities))


# --- Attention of the heads of one key/value group: q [g, T, D] over k and v [S, D] -> [g, T, D] ----------------------


def attend(q, k, v, scale, mask=None, is_causal=False):
    """Scaled dot-product attention of g query heads that share their keys. mask: bool [T, S]."""
    k, v = (x.expand(1, len(q), *x.shape) for x in (k, v))
    return scaled_dot_product_attention(q[None], k, v, attn_mask=mask, is_causal=is_causal, scale=scale)[0]


def attend_dense(q, k, v, scale):
    """Full causal attention of the last T of S tokens."""
    num_rows, num_tokens = q.shape[1], len(k)
    if num_rows == num_tokens:
        return attend(q, k, v, scale, is_causal=True)
    out = torch.empty_like(q)
    for begin in range(0, num_rows, ROW_BLOCK):
        end = min(begin + ROW_BLOCK, num_rows)
        seen = num_tokens - num_rows + end
        row = torch.arange(seen - (end - begin), seen, device=q.device)
        mask = torch.arange(seen, device=q.device) <= row[:, None]
        out[:, begin:end] = attend(q[:, begin:end], k[:seen], v[:seen], scale, mask)
    return out


def attend_local(q, k, v, scale, sink_tokens, window):
    """Attention of the last T of S tokens to the sinks and the window of each."""
    num_rows, num_tokens = q.shape[1], len(k)
    out = torch.empty_like(q)
    for begin in range(0, num_rows, ROW_BLOCK):
        end = min(begin + ROW_BLOCK, num_rows)
        seen = num_tokens - num_rows + end
        row = torch.arange(seen - (end - begin), seen, device=q.device)[:, None]
        position = local_positions(seen - (end - begin), seen, sink_tokens, window, q.device)
        mask = (position <= row) & ((position > row - window) | (position < sink_tokens))
        out[:, begin:end] = attend(q[:, begin:end], k[position], v[position], scale, mask)
    return out


def local_positions(first_row, end_row, sink_tokens, window, device):
    """Ascending positions of the sinks and of all windows of the rows [first_row, end_row)."""
    first = max(first_row - window + 1, 0)
    sinks = torch.arange(min(sink_tokens, first), device=device)
    return torch.cat([sinks, torch.arange(first, end_row, device=device)])


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
    """A layer of the key/value cache that also holds the index keys, float32 [batch, Kr, S, r]."""

    index_keys = None

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

    def _change_index(self, change):
        if self.index_keys is not None:
            self.index_keys = change(self.index_keys)

    def offload(self):
        super().offload()
        self._change_index(lambda keys: keys.to("cpu", non_blocking=True))

    def prefetch(self):
        super().prefetch()
        self._change_index(lambda keys: keys.to(self.keys.device, non_blocking=True))

    def reset(self):
        super().reset()
        self._change_index(torch.zeros_like)

    def reorder_cache(self, beam_idx):
        super().reorder_cache(beam_idx)
        self._change_index(lambda keys: keys.index_select(0, beam_idx.to(keys.device)))

    def crop(self, *args, **kwargs):
        super().crop(*args, **kwargs)
        self._change_index(lambda keys: keys[:, :, : self.get_seq_length()])

    def batch_repeat_interleave(self, repeats):
        super().batch_repeat_interleave(repeats)
        self._change_index(lambda keys: keys.repeat_interleave(repeats, dim=0))

    def batch_select_indices(self, indices):
        super().batch_select_indices(indices)
        self._change_index(lambda keys: keys[indices, ...])


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
        index_keys = self.indexer.k_proj(k[:, self.indexed_groups]) if self.retrieval_heads else None
        if past_key_values is not None:
            k_rotated, v, index_keys = self.update_cache(past_key_values, k_rotated, v, index_keys)

        out = torch.zeros_like(q)
        num_cached = k_rotated.shape[2] - num_rows
        for sequence in range(batch):
            padding = self.run.padding[sequence] if self.run.padding else 0
            first = max(padding - num_cached, 0)  # of the rows that are not padding
            if first < num_rows:
                out[sequence, :, first:] = self.attend_sequence(
                    sequence, q[sequence, :, first:], q_rotated[sequence, :, first:], k_rotated[sequence, :, padding:],
                    v[sequence, :, padding:], index_keys[sequence, :, padding:] if self.retrieval_heads else None)
        return self.o_proj(out.transpose(1, 2).reshape(batch, num_rows, -1)), None

    def update_cache(self, cache, k, v, index_keys):
        """Adds the new tokens and returns keys, values and index keys of all."""
        if self.retrieval_heads:
            index_keys = IndexedCacheLayer.of(cache, self.layer_idx).update_index(index_keys)
        length = cache.get_seq_length(self.layer_idx) + k.shape[2]
        k, v = cache.update(k, v, self.layer_idx)
        if k.shape[2] != length:
            raise NotImplementedError(f"RetroSparse models need a cache that keeps every token and no more, as "
                                      f"DynamicCache does; {type(cache).__name__} returned {k.shape[2]} of {length}")
        return k, v, index_keys

    def attend_sequence(self, sequence, q, q_rotated, k, v, index_keys):
        """One sequence without padding: q and q_rotated [H, T, D], k and v [K, S, D], index_keys [Kr, S, r] or None
        -> [H, T, D]."""
        settings, num_rows, num_tokens = self.run.settings, q.shape[1], k.shape[1]
        is_decoding = num_rows == 1 and num_tokens > 1
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
                index_keys)
        return out

    def attend_sparse(self, sequence, q, q_rotated, k, v, index_keys):
        """The last n of S tokens with picked far tokens, row by row and in float32: q and q_rotated [R, n, D] of the
        retrieval heads, k and v [K, S, D], index_keys [Kr, S, r] -> [R, n, D]."""
        settings, num_rows = self.run.settings, q.shape[1]
        index_queries, gate_logits = self.indexer.q_proj(q), self.indexer.gate(q)
        out = torch.empty_like(q)
        for row in range(num_rows):
            position = k.shape[1] - num_rows + row
            local = local_positions(position, position + 1, settings.sink_tokens, settings.window, q.device)
            for place, head in enumerate(self.retrieval_heads):
                group = head // self.num_key_value_groups
                query = q_rotated[place, row].float()
                local_scores = k[group, local].float() @ query * self.scaling
                tokens = pick_far_tokens(
                    settings.selection, self.gates[place],
                    index_keys[self.indexed_groups.index(group), : position + 1] @ index_queries[place, row],
                    first_far=settings.sink_tokens, end_far=position - settings.window + 1,
                    gate_logit=gate_logits[place, row].double(), local_lse=local_scores.double().logsumexp(0))
                far_scores = k[group, tokens].float() @ query * self.scaling
                probabilities = torch.softmax(torch.cat([local_scores, far_scores]), dim=0)
                values = v[group, torch.cat([local, tokens])].float()
                out[place, row] = (probabilities @ values).to(out.dtype)
                if self.run.record:
                    tokens = tokens.sort().values.cpu()
                    self.run.picked.append(PickedTokens(self.layer_idx, head, sequence, position, tokens))
        return out


# --- The models -------------------------------------------------------------------------------------------------------


class SparseCausalLM:
    """Mixed into a family's model for causal language modelling; `attention_class` is what its layers get."""

    _supports_static_cache = False
    _can_compile_fullgraph = False

    def __init__(self, config):
        super().__init__(config)
        self.run = Run(SparseSettings.of(config))
        for number, layer in enumerate(self.model.layers):
            layer.self_attn = self.attention_class(config, number, self.run)
        # A name that transformers has no masks for: it then builds none. Ours would be T x S for no use.
        self.config._attn_implementation = "retrosparse"
        if self.run.settings.retrieval_heads:
            self._keep_in_fp32_modules_strict = ["indexer"]
        self.post_init()

    def forward(self, input_ids=None, attention_mask=None, *args, **kwargs):
        self.run.padding = left_padding(attention_mask)
        return super().forward(input_ids, None, *args, **kwargs)

    def set_sparse_rows(self, count):
        """From now on each forward pass over several tokens runs its last `count` rows as decoding would: teacher-forced
        answers are scored in one pass. 0, the default: none. A single token after cached ones is always sparse."""
        if count < 0:
            raise ValueError(f"sparse rows: expected 0 or more, found {count}")
        self.run.sparse_rows = count

    def record_picked_tokens(self, on=True):
        """Starts anew, or stops, recording what retrosparse_stats() tells. Recording costs memory and time."""
        self.run.record, self.run.picked = on, []

    def retrosparse_stats(self):
        """A PickedTokens for every sparse row and retrieval head since record_picked_tokens()."""
        return list(self.run.picked)

    @classmethod
    def from_pretrained(cls, *args, output_loading_info=False, **kwargs):
        """As in transformers, but an index tensor that is missing or left over is an error: without it the model would
        run with a random index, or not the one that was trained."""
        model, info = super().from_pretrained(*args, output_loading_info=True, **kwargs)
        for problem in ("missing_keys", "unexpected_keys"):
            tensors = sorted(name for name in info[problem] if ".indexer." in name)
            if tensors:
                raise ValueError(f"{len(tensors)} index tensors do not fit config.json's key "
                                 f"'retrosparse.retrieval_heads': {problem.replace('_', ' ')}: {', '.join(tensors[:5])}")
        return (model, info) if output_loading_info else model

    def _init_weights(self, module):
        super()._init_weights(module)
        if isinstance(module, (HeadProjections, HeadGates)):
            nn.init.normal_(module.weight, std=1 / math.sqrt(module.weight.shape[-1]))
        if isinstance(module, HeadGates):
            nn.init.zeros_(module.bias)


def left_padding(attention_mask):
    """The number of padding tokens before each sequence of a mask [batch, S] of ones and zeros, or None where there are
    none. ValueError for zeros elsewhere and for other masks: they would not do what they say."""
    if attention_mask is None:
        return None
    if attention_mask.dim() != 2:
        raise ValueError(f"attention_mask: expected [batch, tokens], found {list(attention_mask.shape)}: the attention "
                         "pattern of a RetroSparse model is its own")
    kept = attention_mask.bool().cpu()
    padding = (~kept).sum(dim=1)
    if not torch.equal(kept, torch.arange(kept.shape[1]) >= padding[:, None]):
        raise ValueError("attention_mask: expected padding on the left only (tokenizer.padding_side = 'left')")
    return padding.tolist() if padding.any() else None


class RetroSparseLlamaAttention(SparseAttention, LlamaAttention):
    pass


class RetroSparseMistralAttention(SparseAttention, MistralAttention):
    pass


class RetroSparseQwen2Attention(SparseAttention, Qwen2Attention):
    pass


class RetroSparseQwen3Attention(SparseAttention, Qwen3Attention):
    pass


class RetroSparseQwen3MoeAttention(SparseAttention, Qwen3MoeAttention):
    pass


class RetroSparseLlamaForCausalLM(SparseCausalLM, LlamaForCausalLM):
    config_class = RetroSparseLlamaConfig
    attention_class = RetroSparseLlamaAttention


class RetroSparseMistralForCausalLM(SparseCausalLM, MistralForCausalLM):
    config_class = RetroSparseMistralConfig
    attention_class = RetroSparseMistralAttention


class RetroSparseQwen2ForCausalLM(SparseCausalLM, Qwen2ForCausalLM):
    config_class = RetroSparseQwen2Config
    attention_class = RetroSparseQwen2Attention


class RetroSparseQwen3ForCausalLM(SparseCausalLM, Qwen3ForCausalLM):
    config_class = RetroSparseQwen3Config
    attention_class = RetroSparseQwen3Attention


class RetroSparseQwen3MoeForCausalLM(SparseCausalLM, Qwen3MoeForCausalLM):
    config_class = RetroSparseQwen3MoeConfig
    attention_class = RetroSparseQwen3MoeAttention


def convert_weights_as_the_base_family():
    """transformers 5 stacks the experts' matrices while loading, by rules that it looks up by model type. transformers 4
    keeps them apart and has no rules."""
    try:
        from transformers.conversion_mapping import (
            get_checkpoint_conversion_mapping,
            register_checkpoint_conversion_mapping,
        )
    except ImportError:
        return
    rules = get_checkpoint_conversion_mapping("qwen3_moe")
    register_checkpoint_conversion_mapping(RetroSparseQwen3MoeConfig.model_type, rules, overwrite=True)


convert_weights_as_the_base_family()
