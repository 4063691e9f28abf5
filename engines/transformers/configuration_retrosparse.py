"""Configurations of models that RetroSparse converted to sparse attention.

Each family's configuration is transformers' own with one key more, `retrosparse`: what the sparse attention needs
beside the weights. `SparseSettings` is that key, checked.
"""

import math
from dataclasses import dataclass

from transformers import LlamaConfig, MistralConfig, Qwen2Config, Qwen3Config, Qwen3MoeConfig

SELECTIONS = ("top_p", "top_k", "paper")
PREFILL_MODES = ("dense", "tiles")


@dataclass(frozen=True)
class Gate:
    """How many far tokens a retrieval head may pick for one query token."""

    p: float
    min_tokens: int
    max_tokens: int


@dataclass(frozen=True)
class SparseSettings:
    """The key `retrosparse` of config.json."""

    sink_tokens: int
    window: int
    index_dim: int
    selection: str
    tail_block: int  # tokens that share one mean value in the tail; 0: no tail
    retrieval_heads: dict[int, tuple[int, ...]]  # layer -> its retrieval heads, ascending
    gates: dict[int, tuple[Gate, ...]]  # layer -> one for each of them

    @classmethod
    def of(cls, config):
        """Reads and checks `config.retrosparse`. ValueError: names the key, what was expected and what was found."""
        stored = getattr(config, "retrosparse", None)
        _require(isinstance(stored, dict), "", "the settings of a converted model", stored)
        _require(stored.get("version") == 1, "version", "1 (made by a newer RetroSparse?)", stored.get("version"))
        settings = cls(
            sink_tokens=_integer(stored, "sink_tokens", 0),
            window=_integer(stored, "window", 1),
            index_dim=_integer(stored, "index_dim", 1),
            selection=_one_of(stored.get("selection"), "selection", SELECTIONS),
            tail_block=_tail_block(stored),
            retrieval_heads=_retrieval_heads(stored.get("retrieval_heads"), config),
            gates=_gates(stored.get("gates")),
        )
        counts = {layer: len(heads) for layer, heads in settings.retrieval_heads.items()}
        found = {layer: len(gates) for layer, gates in settings.gates.items()}
        _require(found == counts, "gates", f"one gate per retrieval head: {counts}", found)
        prefill = stored.get("prefill", {"mode": "dense"})
        _require(isinstance(prefill, dict), "prefill", "an object", prefill)
        _one_of(prefill.get("mode"), "prefill.mode", PREFILL_MODES)
        _refuse_sliding_window(config)
        return settings


class RetroSparseLlamaConfig(LlamaConfig):
    model_type = "retrosparse_llama"
    retrosparse: dict | None = None


class RetroSparseMistralConfig(MistralConfig):
    model_type = "retrosparse_mistral"
    retrosparse: dict | None = None


class RetroSparseQwen2Config(Qwen2Config):
    model_type = "retrosparse_qwen2"
    retrosparse: dict | None = None


class RetroSparseQwen3Config(Qwen3Config):
    model_type = "retrosparse_qwen3"
    retrosparse: dict | None = None


class RetroSparseQwen3MoeConfig(Qwen3MoeConfig):
    model_type = "retrosparse_qwen3_moe"
    retrosparse: dict | None = None


def _require(condition, key, expected, found):
    if not condition:
        name = "retrosparse" + (f".{key}" if key else "")
        raise ValueError(f"config.json: key '{name}': expected {expected}, found {found!r}")


def _is_integer(value):
    return isinstance(value, int) and not isinstance(value, bool)


def _integer(stored, key, lowest, prefix=""):
    value = stored.get(key)
    _require(_is_integer(value) and value >= lowest, prefix + key, f"a whole number of at least {lowest}", value)
    return value


def _one_of(value, key, names):
    _require(value in names, key, f"one of {', '.join(names)}", value)
    return value


def _tail_block(stored):
    """At most the window, so that every block with a far token is whole. `paper` has no gate, which a tail needs."""
    value, window = stored.get("tail_block", 0), stored["window"]
    _require(_is_integer(value) and 0 <= value <= window, "tail_block",
             f"a whole number from 0 (no tail) to the window, {window}", value)
    _require(value == 0 or stored["selection"] != "paper", "tail_block", "no tail beside the selection 'paper'", value)
    return value


def _by_layer(stored, key):
    """A json object with layers as keys, each with a list."""
    _require(isinstance(stored, dict), key, "an object with a list for each layer", stored)
    for layer, entries in stored.items():
        _require(str(layer).isdecimal(), key, "layers as keys", layer)
        _require(isinstance(entries, (list, tuple)), f"{key}.{layer}", "a list", entries)
    return {int(layer): entries for layer, entries in stored.items()}


def _retrieval_heads(stored, config):
    layers = _by_layer(stored, "retrieval_heads")
    for layer, heads in layers.items():
        key = f"retrieval_heads.{layer}"
        _require(layer < config.num_hidden_layers, key, f"layers below {config.num_hidden_layers}", layer)
        in_range = all(_is_integer(head) and 0 <= head < config.num_attention_heads for head in heads)
        _require(len(heads) > 0 and in_range, key, f"heads from 0 to {config.num_attention_heads - 1}", heads)
        _require(list(heads) == sorted(set(heads)), key, "heads in ascending order", heads)
    return {layer: tuple(heads) for layer, heads in layers.items()}


def _gates(stored):
    def gate(entry, key):
        _require(isinstance(entry, dict), key, "an object with p, min_tokens and max_tokens", entry)
        p = entry.get("p")
        is_number = isinstance(p, (int, float)) and not isinstance(p, bool) and math.isfinite(p)
        _require(is_number and 0 < p <= 1, f"{key}.p", "a number above 0, at most 1", p)
        min_tokens = _integer(entry, "min_tokens", 0, f"{key}.")
        return Gate(float(p), min_tokens, _integer(entry, "max_tokens", min_tokens, f"{key}."))

    return {
        layer: tuple(gate(entry, f"gates.{layer}[{place}]") for place, entry in enumerate(entries))
        for layer, entries in _by_layer(stored, "gates").items()
    }


def _refuse_sliding_window(config):
    """A window of the model's own (Mistral 7B v0.1, say) beside ours is not what was trained and validated."""
    layer_types = getattr(config, "layer_types", None)
    sliding_window = getattr(config, "sliding_window", None)
    slides = any(kind != "full_attention" for kind in layer_types) if layer_types else sliding_window is not None
    if slides:
        raise ValueError("config.json: key 'sliding_window': expected no sliding window of the model's own, found "
                         f"{sliding_window!r}")
