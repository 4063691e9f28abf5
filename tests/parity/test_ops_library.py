"""The operator library in Python: values against plain attention, and traced by torch.compile."""

import pytest
import torch

from conftest import BUILD

LIBRARY = BUILD / "libretrosparse_ops.so"
LOCAL, DENSE, SELECTED = 0, 1, 2
MODES = [LOCAL, SELECTED, DENSE, SELECTED]
SINKS, WINDOW, SCALE = 4, 40, 0.125


@pytest.fixture(scope="module")
def ops():
    if not LIBRARY.exists():
        pytest.skip("built on demand: ninja retrosparse_engine_ops")
    torch.ops.load_library(str(LIBRARY))
    return torch.ops.retrosparse


@pytest.fixture(params=["cpu", "cuda"])
def device(request):
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("no GPU")
    return request.param


def normal(device, *sizes, dtype=torch.bfloat16):
    return torch.randn(sizes).to(device, dtype)


def plain(q, k, v, modes):
    """Dense and local heads in float64: q [n, H, D], k and v [n, K, D]."""
    n, heads, _ = q.shape
    q, k, v = (x.double().cpu().transpose(0, 1) for x in (q, k, v))
    k, v = (x.repeat_interleave(heads // x.shape[0], 0) for x in (k, v))
    m, key = torch.arange(n)[:, None], torch.arange(n)[None]
    local = (m - key < WINDOW) | (key < SINKS)
    visible = torch.stack([(key <= m) & (local if mode == LOCAL else torch.ones_like(local)) for mode in modes])
    scores = (q @ k.transpose(1, 2) * SCALE).masked_fill(~visible, float("-inf"))
    return (scores.softmax(-1) @ v).transpose(0, 1), scores.logsumexp(-1)


def prompt(device, n=150):
    torch.manual_seed(1)
    return normal(device, n, 4, 64), normal(device, n, 2, 64), normal(device, n, 2, 64)


def sparse_arguments(device, n=150):
    q, k, v = prompt(device, n)
    index = normal(device, n, 2, 16, dtype=torch.half), normal(device, 2, n, 16, dtype=torch.half)
    gates = torch.zeros(2, n, device=device)
    return q, k, v, *index, gates, MODES, SINKS, WINDOW, SCALE, [0.01, 0.01]


def decode_arguments(device, n=150):
    torch.manual_seed(2)
    counts = torch.tensor([n, n - 7], dtype=torch.int32, device=device)
    cache = normal(device, 2, n, 2, 64), normal(device, 2, n, 2, 64)
    index = torch.randn(2, 1, 2, 16).to(device), torch.zeros(2, 1, 2, device=device), normal(device, 2, 2, n, 16)
    rules = [1.0, 1.0], [4, 4], [16, 1024]
    return normal(device, 2, 1, 4, 64), *cache, counts, None, *index, MODES, SINKS, WINDOW, SCALE, n, *rules


def close(found, expected, tolerance):
    error = (found.double().cpu() - expected).norm() / expected.norm()
    assert error < tolerance, error


def test_prefill_equals_plain_attention(ops, device):
    q, k, v = prompt(device)
    modes = [LOCAL, DENSE, DENSE, LOCAL]
    o, lse = ops.prefill_attention(q, k, v, modes, SINKS, WINDOW, SCALE)
    expected, expected_lse = plain(q, k, v, modes)
    close(o, expected, 4e-3)
    close(lse, expected_lse, 1e-4)


def test_decode_that_takes_every_key_equals_the_last_row_of_dense_prefill(ops, device):
    arguments = decode_arguments(device)
    q, k, v, counts = arguments[:4]
    o, lse, taken = ops.sparse_decode(*arguments)
    for b in range(2):
        n = int(counts[b])
        assert taken[b, 0].tolist() == [16, n - SINKS - WINDOW]  # the cap; all far keys
        whole_q = torch.cat([torch.zeros(n - 1, 4, 64, dtype=q.dtype, device=device), q[b]])
        expected, expected_lse = plain(whole_q, k[b, :n], v[b, :n], [LOCAL, DENSE, DENSE, DENSE])
        for head in (0, 2, 3):
            close(o[b, 0, head], expected[-1, head], 5e-3)
            close(lse[b, 0, head], expected_lse[head, -1], 1e-4)


def test_compile_traces_what_runs(ops, device):
    def both(*arguments):
        o, lse = ops.sparse_prefill(*arguments)
        return o.float().sum(-1), lse + 1

    arguments = sparse_arguments(device)
    compiled = torch.compile(both, backend="aot_eager", fullgraph=True, dynamic=True)
    for found, expected in zip(compiled(*arguments), both(*arguments)):
        assert torch.equal(found, expected)


@pytest.mark.parametrize("name, arguments", [("sparse_prefill", sparse_arguments), ("sparse_decode", decode_arguments)])
def test_fake_results_have_the_shapes_of_the_real_ones(ops, device, name, arguments):
    torch.library.opcheck(getattr(ops, name).default, arguments(device), test_utils=("test_schema", "test_faketensor"))


def test_wrong_arguments_are_told(ops):
    q, k, v = prompt("cpu")
    with pytest.raises(Exception, match="plan: expected 4 heads, found 3"):
        ops.prefill_attention(q, k, v, MODES[:3], SINKS, WINDOW, SCALE)
    with pytest.raises(Exception, match="head_modes: expected 0, 1 or 2, found 3"):
        ops.prefill_attention(q, k, v, [3] * 4, SINKS, WINDOW, SCALE)
