"""Logits on a GPU: in bfloat16 our error against float32 is at most twice that of transformers' own bfloat16."""

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from conftest import NANO, shared, write_ids
from test_model import CONFIGS, random_model

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")


@torch.inference_mode()
def their_logits(folder, ids, dtype):
    torch.backends.cuda.matmul.allow_tf32 = False
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, attn_implementation="sdpa").cuda().eval()
    return model(ids[None].cuda()).logits[0].float().cpu()


@pytest.mark.parametrize("num_tokens", [1000, 8000])
@pytest.mark.parametrize("name", ["nano", "mini", "moe"])
def test_error_of_bfloat16(name, num_tokens, retrosparse, tmp_path):
    folder = NANO if name == "nano" else shared(f"models/{name}")
    ids = torch.randint(4, 4096, (num_tokens,), generator=torch.Generator().manual_seed(1))
    exact = their_logits(folder, ids, torch.float32)
    theirs = (their_logits(folder, ids, torch.bfloat16) - exact).abs()

    def our_error(*options):
        out = tmp_path / "logits.safetensors"
        retrosparse("generate", "--model", folder, "--device", "cuda", "--max-new-tokens", 0, "--logits", out,
                    "--prompt-ids", write_ids(tmp_path / "ids.json", ids), *options)
        return (load_file(out)["logits"] - exact).abs()

    for chunk in (100_000, 1111):
        ours = our_error("--prefill-chunk", chunk)
        assert ours.max() <= 2 * theirs.max()
        assert ours.mean() <= 2 * theirs.mean()
    assert our_error("--dtype", "float32").max() <= 1e-4 * exact.abs().max()


@pytest.mark.parametrize("name", [*CONFIGS, "llama-head-dim-20"])
def test_random_model(name, retrosparse, tmp_path):
    """With experts only mean errors in bfloat16: there a token goes to another expert now and then."""
    model = random_model(name, **({"head_dim": 20} if name == "llama-head-dim-20" else {}))
    model.save_pretrained(tmp_path / "model")
    ids = torch.randint(0, 199, (300,))
    exact = their_logits(tmp_path / "model", ids, torch.float32)
    theirs = (their_logits(tmp_path / "model", ids, torch.bfloat16) - exact).abs()
    prompt = write_ids(tmp_path / "ids.json", ids)

    def our_error(dtype):
        out = tmp_path / "logits.safetensors"
        retrosparse("generate", "--model", tmp_path / "model", "--device", "cuda", "--max-new-tokens", 0, "--dtype",
                    dtype, "--prompt-ids", prompt, "--logits", out)
        return (load_file(out)["logits"] - exact).abs()

    ours = our_error("bfloat16")
    assert ours.mean() <= 2 * theirs.mean()
    if "moe" not in name:
        assert ours.max() <= 2 * theirs.max()
    assert our_error("float32").max() <= 1e-4 * exact.abs().max()
