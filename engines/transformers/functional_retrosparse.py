"""Which far tokens a row picks, and attention that is dense or local. Pure functions; "row" means a query token."""

import torch
from torch.nn.functional import pad, scaled_dot_product_attention

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


# --- The tail: the far tokens that a row did not pick, by the index and the mean values of their blocks ---------------


def attend_tail(scores, picked, block_means, block, first_far, end_far, gate_logit):
    """Attention of one row to the far tokens that it did not pick, as (value [D], log-sum-exp); None: it picked all.

    The index scores stand for the exact ones, with gate_logit added, and the mean of its block for a token's value.

    scores, first_far, end_far, gate_logit   those of pick_far_tokens
    block_means   float32 [blocks, D], means of `block` values each from first_far on
    """
    num_far = max(end_far - first_far, 0)
    if len(picked) == num_far:
        return None
    left = scores[first_far:end_far].index_fill(0, picked - first_far, -torch.inf)
    shares = pad(torch.softmax(left, dim=0), (0, -num_far % block)).view(-1, block).sum(dim=1)
    return shares @ block_means[: len(shares)], left.double().logsumexp(0) + gate_logit


def merge(value, lse, other_value, other_lse):
    """Attention to two sets of tokens together: (exp(lse) value + exp(other_lse) other_value) / the sum of both."""
    return torch.lerp(value, other_value, torch.sigmoid(other_lse - lse).to(value.dtype))


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
