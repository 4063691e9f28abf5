"""Exported checkpoints in transformers with the operator library in place of plain PyTorch."""

import pytest
import torch

from conftest import BUILD
from test_engine import SETTINGS, SMALL, load, make_checkpoint, random_ids, with_rule

LIBRARY = BUILD / "libretrosparse_ops.so"
FITTING = {**SETTINGS, "index_dim": 16}

pytestmark = pytest.mark.skipif(not LIBRARY.exists(), reason="built on demand: ninja retrosparse_engine_ops")


@pytest.fixture(scope="module", autouse=True)
def loaded():
    if LIBRARY.exists():
        torch.ops.load_library(str(LIBRARY))


@pytest.fixture
def calls(monkeypatch):
    """Counts what is called of the operators."""
    counts = {"prefill_attention": 0, "decode_attention": 0, "sparse_decode": 0}

    def counting(name, operator):
        def call(*arguments):
            counts[name] += 1
            return operator(*arguments)
        return call

    def watch(model):
        kernels = __import__("sys").modules[type(model.run).__module__.replace("attention_", "kernels_")]
        real = kernels.operators()
        fake = type("Operators", (), {name: staticmethod(counting(name, getattr(real, name))) for name in counts})
        monkeypatch.setattr(kernels, "operators", lambda: fake)
        return counts

    return watch


@torch.no_grad()
def logits(model, batch, mask, prompt):
    """Of the prompt in one pass and of the other tokens one by one."""
    result, cache = [], None
    for begin, end in [(0, prompt)] + [(i, i + 1) for i in range(prompt, batch.shape[1])]:
        seen = None if mask is None else mask[:, :end]
        out = model(batch[:, begin:end], attention_mask=seen, past_key_values=cache, use_cache=True)
        cache = out.past_key_values
        result.append(out.logits)
    return torch.cat(result, dim=1)


def checkpoint(tmp_path, settings, family="qwen3"):
    """A float32 model whose index keys are bfloat16 numbers, as those of the kernels are, so that both pick alike."""
    make_checkpoint(tmp_path, family, settings)
    model = load(tmp_path, dtype=torch.float32)
    for name, module in model.named_modules():
        if name.endswith("indexer.k_proj"):
            module.register_forward_hook(lambda module, inputs, keys: keys.bfloat16().float())
    return model


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("settings", [FITTING, {**with_rule("top_k"), "index_dim": 16}], ids=["top_p", "top_k"])
def test_equals_plain_pytorch(settings, padded, tmp_path, calls):
    model = checkpoint(tmp_path, settings)
    batch = torch.tensor([random_ids(80, seed) for seed in (1, 2)])
    mask = None
    if padded:
        mask = torch.ones_like(batch)
        mask[1, :23] = 0
    plain = logits(model, batch, mask, 60)
    counts = calls(model)
    model.set_kernels("cpu")
    with_kernels = logits(model, batch, mask, 60)
    layers, sparse = SMALL["num_hidden_layers"], len(settings["retrieval_heads"])
    each = 2 if padded else 1  # sequences of a batch that is padded go one by one
    assert counts == {"prefill_attention": 2 * layers, "decode_attention": 20 * each * (layers - sparse),
                      "sparse_decode": 20 * each * sparse}
    kept = torch.ones_like(batch, dtype=torch.bool) if mask is None else mask.bool()
    error = (with_kernels - plain)[kept].abs().max() / plain.abs().max()
    assert error < 1e-4


def test_a_sequence_of_nothing_but_padding_does_not_stop_the_others(tmp_path):
    model = checkpoint(tmp_path, FITTING)
    batch = torch.tensor([random_ids(64, seed) for seed in (1, 2)])
    mask = torch.ones_like(batch)
    mask[1] = 0
    plain = logits(model, batch, mask, 60)
    model.set_kernels("cpu")
    with_kernels = logits(model, batch, mask, 60)
    assert (with_kernels - plain)[0].abs().max() / plain[0].abs().max() < 1e-4


def test_generates_what_plain_pytorch_does(tmp_path):
    model = checkpoint(tmp_path, {**FITTING, "gates": with_rule("top_p")["gates"]}, "llama")
    prompt = torch.tensor([random_ids(70)])
    plain = model.generate(prompt, max_new_tokens=8, do_sample=False, pad_token_id=0)
    model.set_kernels("cpu")
    assert torch.equal(model.generate(prompt, max_new_tokens=8, do_sample=False, pad_token_id=0), plain)


@pytest.mark.parametrize("changes", [dict(tail_block=8), dict(index_dim=8), dict(selection="paper")], ids=str)
def test_what_the_kernels_do_not_serve_is_decoded_plainly(changes, tmp_path, calls):
    model = checkpoint(tmp_path, {**FITTING, **changes})
    batch = torch.tensor([random_ids(64)])
    plain = logits(model, batch, None, 60)
    counts = calls(model)
    model.set_kernels("cpu")
    again = logits(model, batch, None, 60)
    assert counts["sparse_decode"] == 0 and counts["prefill_attention"] == SMALL["num_hidden_layers"]
    assert (again - plain).abs().max() / plain.abs().max() < 1e-4


def test_not_without_being_asked_on_a_cpu_nor_with_gradients(tmp_path, calls):
    model = checkpoint(tmp_path, FITTING)
    counts = calls(model)
    batch = torch.tensor([random_ids(60)])
    logits(model, batch, None, 58)
    model.set_kernels("cpu")
    model(batch).logits.sum().backward()
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("layers.0.self_attn.v_proj" in name or "layers.0.self_attn.k_proj" in name)
    model(batch).logits.sum().backward()  # the first layer's queries need no gradient, its keys and values do
    model.set_kernels(False)
    logits(model, batch, None, 58)
    assert not any(counts.values())


def test_recorded_tokens_come_from_plain_pytorch(tmp_path, calls):
    model = checkpoint(tmp_path, FITTING)
    counts = calls(model)
    model.set_kernels("cpu")
    model.record_picked_tokens()
    logits(model, torch.tensor([random_ids(62)]), None, 60)
    assert counts["sparse_decode"] == 0
    assert len(model.retrosparse_stats()) == 2 * sum(len(heads) for heads in FITTING["retrieval_heads"].values())


@pytest.mark.skipif(not torch.cuda.is_available() or torch.cuda.get_device_capability() != (9, 0), reason="needs a Hopper GPU")
def test_on_hopper(tmp_path, calls):
    make_checkpoint(tmp_path, "qwen3", FITTING, head_dim=64)
    model = load(tmp_path, dtype=torch.bfloat16).cuda()
    batch = torch.tensor([random_ids(300, seed) for seed in (1, 2)]).cuda()
    model.set_kernels(False)
    plain = logits(model, batch, None, 280)
    counts = calls(model)
    model.set_kernels()
    with_kernels = logits(model, batch, None, 280)
    assert counts["sparse_decode"] > 0 and counts["prefill_attention"] > 0
    assert (with_kernels - plain).norm() / plain.norm() < 5e-2
