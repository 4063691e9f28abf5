"""The operators of libretrosparse_ops.so in place of plain PyTorch, once somebody has loaded them:

    torch.ops.load_library("libretrosparse_ops.so")

They serve bfloat16 on Hopper, without gradients: prompts with dense retrieval heads, and single new tokens. Everything
else stays what attention_retrosparse.py says. The index keys are kept in bfloat16 for them.
"""

import torch

LOCAL, DENSE, SELECTED = 0, 1, 2  # what the operators call a head that has no index, reads a prompt, decodes
HEAD_DIMS, INDEX_DIM, MOST_TOKENS = (64, 128), 16, 4096  # what the kernels are made for
ON_CPU = "cpu"


def operators():
    """The loaded operators, None without."""
    return torch.ops.retrosparse if hasattr(torch.ops.retrosparse, "sparse_decode") else None


def has_cuda():
    """Whether the loaded library was built with its kernels."""
    return torch._C._dispatch_has_kernel_for_dispatch_key("retrosparse::sparse_decode", "CUDA")


def serve(use, tensors, head_dim):
    """Whether the operators are to run on queries, keys and values. `use`: True, False, or "cpu", which means the slow
    references that the library has for CPUs."""
    if not use or operators() is None or any(x.requires_grad for x in tensors):
        return False
    x = tensors[0]
    if x.device.type == "cpu":
        return use == ON_CPU
    return (x.is_cuda and has_cuda() and x.dtype == torch.bfloat16 and head_dim in HEAD_DIMS
            and torch.cuda.get_device_capability(x.device) == (9, 0))


def serve_decoding(settings, gates):
    """Whether they select as `settings` want it for a layer with these gates (none: it has no retrieval head)."""
    return not gates or (settings.selection != "paper" and settings.tail_block == 0
                         and settings.index_dim == INDEX_DIM and max(gate.max_tokens for gate in gates) <= MOST_TOKENS)


def head_modes(num_heads, retrieval_heads, mode):
    return [mode if head in retrieval_heads else LOCAL for head in range(num_heads)]


def attend_prompt(q, k, v, retrieval_heads, settings, scale):
    """One sequence: the last T of S tokens, retrieval heads dense. q [H, T, D], k and v [K, S, D] -> [H, T, D]."""
    q, k, v = (x.transpose(0, 1) for x in (q, k, v))
    modes = head_modes(q.shape[1], retrieval_heads, DENSE)
    out, _ = operators().prefill_attention(q, k, v, modes, settings.sink_tokens, settings.window, scale)
    return out.transpose(0, 1)


def attend_token(q, k, v, index, retrieval_heads, gates, settings, scale):
    """The last of S tokens of each sequence: q [B, H, 1, D], k and v [B, K, S, D] -> [B, H, 1, D]. `index` of R retrieval
    heads in Kr groups: queries float32 [B, R, 1, 16], gate logits float32 [B, R, 1], keys bfloat16 [B, Kr, S, 16]; None
    without."""
    batch, num_heads, num_tokens = len(q), q.shape[1], k.shape[2]
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    counts = torch.full((batch,), num_tokens, dtype=torch.int32, device=q.device)
    step = (q, k, v, counts, None)
    where = (head_modes(num_heads, retrieval_heads, SELECTED), settings.sink_tokens, settings.window, scale, num_tokens)
    if index is None:
        out, _ = operators().decode_attention(*step, *where)
        return out.transpose(1, 2)
    queries, gate_logits, keys = index
    fewest = "max_tokens" if settings.selection == "top_k" else "min_tokens"
    rules = ([gate.p for gate in gates], [getattr(gate, fewest) for gate in gates], [gate.max_tokens for gate in gates])
    out, _, _ = operators().sparse_decode(*step, queries.transpose(1, 2), gate_logits.transpose(1, 2), keys, *where,
                                          *rules)
    return out.transpose(1, 2)
