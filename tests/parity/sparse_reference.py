"""The selection rule and a sparse checkpoint, written from the text of the method and not from any implementation: what
the engine and the program are judged by. Slow: one row and one head at a time, in float64."""

import math
from dataclasses import dataclass

import torch


def sparse_row(settings, gate, q, q_pre, keys, keys_pre, values, index, scale):
    """One query row m of a retrieval head, position m being the last of the S keys.

    q, q_pre [D] after and before RoPE; keys, keys_pre, values [S, D]; index: dict of q_proj [r, D], k_proj [r, D],
    gate_weight [D] and gate_bias []. Returns the output [D], the picked far tokens (a set), and by how much the choice
    could have gone the other way.
    """
    m = len(keys) - 1
    sinks = [n for n in range(m + 1) if n < settings["sink_tokens"]]
    window = [n for n in range(m + 1) if n > m - settings["window"] and n not in sinks]
    far = [n for n in range(m + 1) if n not in sinks and n not in window]
    exact = scale * (keys @ q)
    z = ((index["k_proj"] @ keys_pre.T).T @ (index["q_proj"] @ q_pre)).tolist()
    picked, margin = pick(settings["selection"], gate, z, far, log_sum_exp(exact[sinks + window].tolist()),
                          float(index["gate_weight"] @ q_pre + index["gate_bias"]))
    seen = sorted({*sinks, *window, *picked})
    left = [n for n in far if n not in picked]
    if not settings.get("tail_block") or not left:
        return torch.softmax(exact[seen], 0) @ values[seen], picked & set(far), margin
    gate_logit = float(index["gate_weight"] @ q_pre + index["gate_bias"])
    parts = [(exact[n].exp(), values[n]) for n in seen]
    parts += [(math.exp(z[n] + gate_logit), block_mean(settings, values, n)) for n in left]
    return sum(share * value for share, value in parts) / sum(share for share, _ in parts), picked & set(far), margin


def block_mean(settings, values, n):
    """The mean value of the tokens of the block that token n is in. Blocks begin behind the sinks."""
    size, sinks = settings["tail_block"], settings["sink_tokens"]
    begin = n - (n - sinks) % size
    assert sinks <= begin <= n < begin + size <= len(values), "a far token in a block that is not whole"
    return sum(values[begin : begin + size]) / size


def pick(selection, gate, z, far, lse_local, gate_logit):
    """The picked tokens, and how far the numbers that decided were from deciding otherwise, at the closest."""
    candidates = list(range(len(z))) if selection == "paper" else far
    order = sorted(candidates, key=lambda n: (-z[n], n))
    if selection == "top_k":
        count = min(gate["max_tokens"], len(order))
        return set(order[:count]), gap(z, order, count)
    if not order:
        return set(), math.inf
    lse = log_sum_exp([z[n] for n in order])
    if selection == "paper":
        wanted, margin = gate["p"], math.inf
    else:
        far_mass = 1 / (1 + math.exp(-(lse + gate_logit - lse_local)))
        wanted = 1 - (1 - gate["p"]) / far_mass
        margin = abs(wanted)
    count, total = 0, 0.0
    while wanted > 0 and total < wanted and count < len(order):
        margin = min(margin, wanted - total)
        total += math.exp(z[order[count]] - lse)
        count += 1
    margin = min(margin, abs(total - wanted))
    if selection == "top_p":
        clamped = min(max(count, gate["min_tokens"]), gate["max_tokens"], len(order))
        count, margin = clamped, margin if clamped == count else math.inf
    return set(order[:count]), min(margin, gap(z, order, count))


def gap(z, order, count):
    """Between the last score that was picked and the first that was not."""
    return z[order[count - 1]] - z[order[count]] if 0 < count < len(order) else math.inf


def log_sum_exp(numbers):
    largest = max(numbers)
    return largest + math.log(math.fsum(math.exp(x - largest) for x in numbers))


def windowed_row(settings, q, keys, values, scale):
    m = len(keys) - 1
    seen = [n for n in range(m + 1) if n < settings["sink_tokens"] or n > m - settings["window"]]
    return torch.softmax(scale * (keys[seen] @ q), 0) @ values[seen]


def dense_row(q, keys, values, scale):
    return torch.softmax(scale * (keys @ q), 0) @ values


@dataclass
class Reference:
    logits: torch.Tensor  # float64 [T, vocab]
    picked: dict  # (layer, head, position) -> set of far tokens
    margin: dict  # the same keys -> how close the choice was


@torch.no_grad()
def reference_forward(base, settings, index, ids, is_sparse):
    """Logits of a whole sequence. `base` is transformers' own dense model in float64, of which all but the attention is
    used.

    index: the index tensors by their names in the checkpoint. is_sparse(position): whether the row's retrieval heads
    pick tokens (as in decoding) or see everything (as in prefill).
    """
    config = base.config
    group_size = config.num_attention_heads // config.num_key_value_heads
    x = base.model.embed_tokens(torch.tensor([ids]))
    cos, sin = (t[0] for t in base.model.rotary_emb(x, torch.arange(len(ids))[None]))
    result = Reference(torch.empty(0), {}, {})
    for number, layer in enumerate(base.model.layers):
        attention = layer.self_attn
        h = layer.input_layernorm(x)[0]
        q_pre, k_pre, v = (projection(h).view(len(ids), -1, attention.head_dim).transpose(0, 1)
                           for projection in (attention.q_proj, attention.k_proj, attention.v_proj))
        if hasattr(attention, "q_norm"):
            q_pre, k_pre = attention.q_norm(q_pre), attention.k_norm(k_pre)
        q, k = rotate(q_pre, cos, sin), rotate(k_pre, cos, sin)
        scale = attention.head_dim**-0.5
        retrieval = settings["retrieval_heads"].get(str(number), [])
        groups = sorted({head // group_size for head in retrieval})
        out = torch.empty_like(q)
        for head in range(len(q)):
            group = head // group_size
            for m in range(len(ids)):
                keys, values, query = k[group, : m + 1], v[group, : m + 1], q[head, m]
                if head not in retrieval:
                    out[head, m] = windowed_row(settings, query, keys, values, scale)
                elif not is_sparse(m):
                    out[head, m] = dense_row(query, keys, values, scale)
                else:
                    place, name = retrieval.index(head), f"model.layers.{number}.self_attn.indexer."
                    parts = dict(q_proj=index[name + "q_proj.weight"][place].double(),
                                 k_proj=index[name + "k_proj.weight"][groups.index(group)].double(),
                                 gate_weight=index[name + "gate.weight"][place].double(),
                                 gate_bias=index[name + "gate.bias"][place].double())
                    gate = settings["gates"][str(number)][place]
                    out[head, m], result.picked[number, head, m], result.margin[number, head, m] = sparse_row(
                        settings, gate, query, q_pre[head, m], keys, k_pre[group, : m + 1], values, parts, scale)
        x = x + attention.o_proj(out.transpose(0, 1).reshape(1, len(ids), -1))
        forwarded = layer.mlp(layer.post_attention_layernorm(x))
        x = x + (forwarded[0] if isinstance(forwarded, tuple) else forwarded)  # experts in transformers 4: with logits
    result.logits = base.lm_head(base.model.norm(x))[0]
    return result


def rotate(x, cos, sin):
    half = x.shape[-1] // 2
    return x * cos + torch.cat([-x[..., half:], x[..., :half]], -1) * sin


def random_index(settings, num_key_value_heads, num_attention_heads, head_dim, seed=0):
    """Random index tensors by their names in the checkpoint; large enough that scores differ clearly."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(shape, generator=generator)

    group_size = num_attention_heads // num_key_value_heads
    tensors = {}
    for layer, heads in settings["retrieval_heads"].items():
        name = f"model.layers.{layer}.self_attn.indexer."
        num_groups = len({head // group_size for head in heads})
        tensors[name + "q_proj.weight"] = normal(len(heads), settings["index_dim"], head_dim) * 0.3
        tensors[name + "k_proj.weight"] = normal(num_groups, settings["index_dim"], head_dim) * 0.3
        tensors[name + "gate.weight"] = normal(len(heads), head_dim) * 0.3
        tensors[name + "gate.bias"] = normal(len(heads))
    return tensors
