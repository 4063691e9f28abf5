"""Models that RetroSparse converted to sparse attention, in plain PyTorch (method: RTPurbo, arXiv 2605.16928).

    model = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)

A readable reference, meant to be right rather than fast. Everything but the attention is transformers' own code of the
model's family; the attention (attention_retrosparse.py) differs per query head:

- A local head sees the first `sink_tokens` tokens and the `window` latest ones, in every row.
- A retrieval head attends to everything while it reads a prompt. When it decodes (one new token after cached ones) it
  sees sinks, window, and the far tokens between them that its index picks. The index keeps `index_dim` numbers per
  token and key/value group beside the key/value cache.
- With `tail_block` it also sees the tail, all far tokens that were not picked: each with its index score and the mean
  value of the `tail_block` tokens of its block, which are kept beside the index.

"Row" means a query token. Shapes: T new tokens after S - T cached ones, H query heads in K groups of G = H / K, head
dimension D, index dimension r. Memory beside the cache is linear in T. Rows in padding on the left are left out; masks
of another form are refused.
"""

import math

import torch
from torch import nn
from transformers import LlamaForCausalLM, MistralForCausalLM, Qwen2ForCausalLM, Qwen3ForCausalLM, Qwen3MoeForCausalLM
from transformers.models.llama.modeling_llama import LlamaAttention
from transformers.models.mistral.modeling_mistral import MistralAttention
from transformers.models.qwen2.modeling_qwen2 import Qwen2Attention
from transformers.models.qwen3.modeling_qwen3 import Qwen3Attention
from transformers.models.qwen3_moe.modeling_qwen3_moe import Qwen3MoeAttention

from .attention_retrosparse import HeadGates, HeadProjections, Run, SparseAttention
from .configuration_retrosparse import (
    RetroSparseLlamaConfig,
    RetroSparseMistralConfig,
    RetroSparseQwen2Config,
    RetroSparseQwen3Config,
    RetroSparseQwen3MoeConfig,
    SparseSettings,
)
# transformers 4 brings along what is named here only.
from .functional_retrosparse import pick_far_tokens  # noqa: F401
from .kernels_retrosparse import serve  # noqa: F401


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
        """From now on each forward pass over several tokens runs its last `count` rows as decoding would, so that
        teacher-forced answers are scored in one pass. 0, the default: none. A single token after cached ones is always
        sparse."""
        if count < 0:
            raise ValueError(f"sparse rows: expected 0 or more, found {count}")
        self.run.sparse_rows = count

    def set_kernels(self, use=True):
        """Whether the operators of libretrosparse_ops.so run where they are loaded and serve (kernels_retrosparse.py);
        the default. "cpu": on a CPU too, where they are slow references."""
        self.run.kernels = use

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
                raise ValueError(
                    f"{len(tensors)} index tensors do not fit config.json's key 'retrosparse.retrieval_heads': "
                    f"{problem.replace('_', ' ')}: {', '.join(tensors[:5])}")
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
    """transformers 5 stacks the experts' matrices while loading, by rules that it looks up by model type.
    transformers 4 keeps them apart and has no rules."""
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
