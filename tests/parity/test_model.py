"""Logits and greedy generation against transformers, float32 on the CPU."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, LlamaConfig, MistralConfig, Qwen2Config, Qwen3Config, Qwen3MoeConfig

from conftest import NANO, shared, write_ids

TOLERANCE = 1e-4  # of the largest logit

SMALL = dict(vocab_size=199, hidden_size=96, intermediate_size=160, num_hidden_layers=3, num_attention_heads=6,
             num_key_value_heads=2, head_dim=16, max_position_embeddings=512, initializer_range=0.2)
LLAMA3_ROPE = dict(rope_type="llama3", rope_theta=50000.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
                   original_max_position_embeddings=64)
YARN_HALF = dict(rope_type="yarn", rope_theta=10000.0, factor=2.0, original_max_position_embeddings=64, truncate=False)
YARN_LOUD = dict(rope_type="yarn", rope_theta=500.0, factor=16.0, original_max_position_embeddings=100,
                 attention_factor=0.7, beta_fast=0)
YARN = dict(rope_type="yarn", rope_theta=10000.0, factor=4.0, original_max_position_embeddings=128)
DEEPSEEK_YARN = dict(YARN, beta_fast=16, beta_slow=2, mscale=1.2, mscale_all_dim=0.8)
LINEAR = dict(rope_type="linear", rope_theta=10000.0, factor=2.5)
EXPERTS = dict(num_experts=7, num_experts_per_tok=3, moe_intermediate_size=40)

CONFIGS = {
    "llama": (LlamaConfig, {}),
    "llama-tied": (LlamaConfig, dict(tie_word_embeddings=True)),
    "llama-biases": (LlamaConfig, dict(attention_bias=True, mlp_bias=True)),
    "llama-llama3-rope": (LlamaConfig, dict(rope_parameters=LLAMA3_ROPE)),
    "llama-linear-rope": (LlamaConfig, dict(rope_parameters=LINEAR)),
    "llama-one-kv-head": (LlamaConfig, dict(num_attention_heads=5, num_key_value_heads=1, hidden_size=80)),
    "llama-no-groups": (LlamaConfig, dict(num_attention_heads=3, num_key_value_heads=3)),
    "mistral": (MistralConfig, dict(sliding_window=None)),
    "mistral-odd-heads": (MistralConfig, dict(sliding_window=None, num_attention_heads=15, num_key_value_heads=5)),
    "qwen2": (Qwen2Config, {}),
    "qwen2-tied-yarn": (Qwen2Config, dict(tie_word_embeddings=True, rope_parameters=YARN)),
    "qwen3": (Qwen3Config, {}),
    "qwen3-biases": (Qwen3Config, dict(attention_bias=True, tie_word_embeddings=True)),
    "qwen3-yarn": (Qwen3Config, dict(rope_parameters=DEEPSEEK_YARN)),
    "llama-yarn-untruncated": (LlamaConfig, dict(rope_parameters=YARN_HALF)),
    "llama-yarn-attention-factor": (LlamaConfig, dict(rope_parameters=YARN_LOUD)),
    "qwen3-wide-heads": (Qwen3Config, dict(head_dim=48)),
    "qwen3_moe": (Qwen3MoeConfig, EXPERTS),
    "qwen3_moe-normalised": (Qwen3MoeConfig, dict(EXPERTS, norm_topk_prob=True, tie_word_embeddings=True)),
    "qwen3_moe-mixed-layers": (Qwen3MoeConfig, dict(EXPERTS, decoder_sparse_step=2, rope_parameters=LINEAR)),
    "qwen3_moe-dense-layer": (Qwen3MoeConfig, dict(EXPERTS, mlp_only_layers=[1])),
}


def random_model(name, **more):
    """A tiny model whose every parameter is random: norms and biases too, which transformers would leave at 1 and 0."""
    kind, changes = CONFIGS.get(name, CONFIGS["llama"])
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(kind(**{**SMALL, **changes, **more}), dtype=torch.float32).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.add_(torch.randn_like(parameter) * 0.3)
    return model


def our_logits(retrosparse, model_dir, ids, tmp_path, *options):
    prompt = write_ids(tmp_path / "ids.json", ids)
    out = tmp_path / "logits.safetensors"
    retrosparse("generate", "--model", model_dir, "--device", "cpu", "--prompt-ids", prompt, "--max-new-tokens", 0,
                "--logits", out, *options)
    return load_file(out)["logits"]


def relative_error(ours, theirs):
    return ((ours - theirs).abs().max() / theirs.abs().max()).item()


@torch.no_grad()
def check_logits(retrosparse, model_dir, model, ids, tmp_path, *options):
    theirs = model(torch.tensor([list(ids)])).logits[0].float()
    ours = our_logits(retrosparse, model_dir, ids, tmp_path, *options)
    assert ours.shape == theirs.shape
    assert relative_error(ours, theirs) <= TOLERANCE


@pytest.mark.parametrize("name", CONFIGS)
def test_random_model(name, retrosparse, tmp_path):
    model = random_model(name)
    model.save_pretrained(tmp_path / "model")
    ids = torch.randint(0, 199, (300,)).tolist()
    check_logits(retrosparse, tmp_path / "model", model, ids, tmp_path)
    check_logits(retrosparse, tmp_path / "model", model, ids, tmp_path, "--prefill-chunk", 77)


@pytest.mark.parametrize("name", ["llama-llama3-rope", "qwen3-yarn", "qwen2-tied-yarn", "llama-linear-rope"])
def test_config_as_transformers_4_writes_it(name, retrosparse, tmp_path):
    model = random_model(name)
    model.save_pretrained(tmp_path / "model")
    path = tmp_path / "model" / "config.json"
    config = json.loads(path.read_text())
    scaling = config.pop("rope_parameters")
    config["rope_theta"] = scaling.pop("rope_theta")
    config["rope_scaling"] = scaling
    config["torch_dtype"] = config.pop("dtype")
    path.write_text(json.dumps(config))
    check_logits(retrosparse, tmp_path / "model", model, torch.randint(0, 199, (300,)).tolist(), tmp_path)


@pytest.mark.parametrize("stored", ["model.embed_tokens.weight", "lm_head.weight", "both"])
def test_tied_embeddings_under_either_name(stored, retrosparse, tmp_path):
    model = random_model("llama-tied")
    folder = tmp_path / "model"
    model.save_pretrained(folder)
    weights = load_file(folder / "model.safetensors")
    table = weights.pop("model.embed_tokens.weight", None)
    table = weights.pop("lm_head.weight", table)
    for name in ["model.embed_tokens.weight", "lm_head.weight"] if stored == "both" else [stored]:
        weights[name] = table.clone()
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    check_logits(retrosparse, folder, model, torch.randint(0, 199, (64,)).tolist(), tmp_path)


def test_embeddings_stored_apart_although_the_config_ties_them(retrosparse, tmp_path):
    folder = tmp_path / "model"
    random_model("llama-tied").save_pretrained(folder)
    weights = load_file(folder / "model.safetensors")
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"].flip(0).contiguous()
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    assert not torch.equal(model.lm_head.weight, model.model.embed_tokens.weight)
    check_logits(retrosparse, folder, model, torch.randint(0, 199, (64,)).tolist(), tmp_path)


def edit_config(folder, **changes):
    """Changes config.json; a value of `...` removes the key."""
    path = folder / "config.json"
    config = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in config.items() if value is not ...}))


def test_a_mixture_of_no_experts_is_a_dense_model(retrosparse, tmp_path):
    model = random_model("qwen3_moe", num_experts=0)
    model.save_pretrained(tmp_path / "model")
    check_logits(retrosparse, tmp_path / "model", model, torch.randint(0, 199, (64,)).tolist(), tmp_path)


def test_experts_stored_as_one_tensor(retrosparse, tmp_path):
    model = random_model("qwen3_moe-mixed-layers")
    model.save_pretrained(tmp_path / "model", save_original_format=False)
    assert "model.layers.1.mlp.experts.gate_up_proj" in load_file(tmp_path / "model" / "model.safetensors")
    check_logits(retrosparse, tmp_path / "model", model, torch.randint(0, 199, (64,)).tolist(), tmp_path)


def test_names_of_the_base_model(retrosparse, tmp_path):
    model = random_model("llama-tied")
    folder = tmp_path / "model"
    model.save_pretrained(folder)
    weights = load_file(folder / "model.safetensors")
    save_file({name.removeprefix("model."): tensor for name, tensor in weights.items()}, folder / "model.safetensors")
    check_logits(retrosparse, folder, model, torch.randint(0, 199, (64,)).tolist(), tmp_path)


def test_names_of_the_base_model_with_a_head_of_its_own(retrosparse, tmp_path):
    folder = tmp_path / "model"
    random_model("llama-tied").save_pretrained(folder)
    weights = load_file(folder / "model.safetensors")
    weights = {name.removeprefix("model."): tensor for name, tensor in weights.items()}
    weights["lm_head.weight"] = weights["embed_tokens.weight"].flip(0).contiguous()
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    assert not torch.equal(model.lm_head.weight, model.model.embed_tokens.weight)
    check_logits(retrosparse, folder, model, torch.randint(0, 199, (64,)).tolist(), tmp_path)


def test_a_base_model_with_tied_embeddings(retrosparse, tmp_path):
    folder = tmp_path / "model"
    random_model("llama-tied").model.save_pretrained(folder)
    assert json.loads((folder / "config.json").read_text())["architectures"] == ["LlamaModel"]
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    check_logits(retrosparse, folder, model, torch.randint(0, 199, (64,)).tolist(), tmp_path)


@pytest.mark.parametrize("name, changes", [
    ("qwen3", dict(architectures=...)),
    ("llama-no-groups", dict(num_key_value_heads=None)),
    ("qwen2", dict(rope_parameters=dict(LINEAR, factor=0.5))),
    ("llama-linear-rope", dict(dtype=...)),
    ("llama-linear-rope", dict(rope_scaling={})),
    ("llama-llama3-rope", dict(rope_scaling={}, hidden_act="swish", architectures=[])),
    ("qwen3", dict(architectures=None)),
])
def test_config_variants(name, changes, retrosparse, tmp_path):
    folder = tmp_path / "model"
    random_model(name).save_pretrained(folder)
    edit_config(folder, **changes)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    check_logits(retrosparse, folder, model, torch.randint(0, 199, (64,)).tolist(), tmp_path)


def test_yarn_without_a_factor(retrosparse, tmp_path):
    """transformers 4 took the ratio of the two lengths then; transformers 5 wants the factor."""
    folder = tmp_path / "model"
    rope = dict(YARN, factor=512 / 96, original_max_position_embeddings=96)
    model = random_model("llama", rope_parameters=rope)
    model.save_pretrained(folder)
    del rope["factor"]
    edit_config(folder, rope_parameters=rope)
    check_logits(retrosparse, folder, model, torch.randint(0, 199, (64,)).tolist(), tmp_path)


WINDOW = dict(use_sliding_window=True, sliding_window=16)
FULL = dict(layer_types=["full_attention"] * 3)


@torch.no_grad()
@pytest.mark.parametrize("name", ["llama", "mistral", "qwen2", "qwen3", "qwen3_moe"])
@pytest.mark.parametrize("changes", [dict(WINDOW), dict(WINDOW, **FULL), dict(WINDOW, max_window_layers=3),
                                     dict(WINDOW, max_window_layers=2), dict(WINDOW, max_window_layers=2, **FULL),
                                     dict(FULL, sliding_window=16), dict(WINDOW, sliding_window=None)])
def test_a_sliding_window_is_refused_where_transformers_slides(name, changes, retrosparse, tmp_path):
    folder = tmp_path / "model"
    full = random_model(name)
    full.save_pretrained(folder)
    edit_config(folder, layer_types=..., sliding_window=None, max_window_layers=...)
    edit_config(folder, **changes)
    ids = torch.randint(0, 199, (64,)).tolist()
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    slides = relative_error(model(torch.tensor([ids])).logits, full(torch.tensor([ids])).logits) > TOLERANCE
    process = retrosparse("inspect", folder, check=False)
    assert (process.returncode, "sliding_window" in process.stderr) == (int(slides), slides), process.stderr
    if not slides:
        check_logits(retrosparse, folder, model, ids, tmp_path)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_half_precision_shards(dtype, retrosparse, tmp_path):
    random_model("qwen3_moe").to(dtype).save_pretrained(tmp_path / "model", max_shard_size="100KB")
    assert len(list((tmp_path / "model").glob("*.safetensors"))) > 1
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "model", dtype=torch.float32).eval()
    check_logits(retrosparse, tmp_path / "model", model, torch.randint(0, 199, (100,)).tolist(), tmp_path)


def trained(name):
    return NANO if name == "nano" else shared(f"models/{name}")


@pytest.mark.parametrize("name", ["nano", "mini", "moe"])
def test_trained_model(name, retrosparse, tmp_path):
    folder = trained(name)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    ids = torch.randint(0, 4096, (1500,), generator=torch.Generator().manual_seed(1)).tolist()
    check_logits(retrosparse, folder, model, ids, tmp_path)
    check_logits(retrosparse, folder, model, ids, tmp_path, "--prefill-chunk", 512)


@torch.no_grad()
def check_greedy(retrosparse, folder, model, ids, pad_token_id, tmp_path, *options):
    theirs = model.generate(ids[None], attention_mask=torch.ones_like(ids)[None], max_new_tokens=64, do_sample=False,
                            eos_token_id=-1, pad_token_id=pad_token_id)[0, len(ids):]
    process = retrosparse("generate", "--model", folder, "--device", "cpu", "--ids", "--ignore-eos",
                          "--prompt-ids", write_ids(tmp_path / "ids.json", ids), "--max-new-tokens", 64, *options)
    assert list(map(int, process.stdout.split())) == theirs.tolist()


@pytest.mark.parametrize("name", ["nano", "mini", "moe"])
def test_greedy_generation(name, retrosparse, tmp_path):
    folder = trained(name)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    ids = torch.randint(4, 4096, (200,), generator=torch.Generator().manual_seed(2))
    check_greedy(retrosparse, folder, model, ids, 3, tmp_path)


@pytest.mark.parametrize("name", CONFIGS)
def test_greedy_generation_of_a_random_model(name, retrosparse, tmp_path):
    """Behind a prompt that is prefilled in chunks."""
    model = random_model(name)
    model.save_pretrained(tmp_path / "model")
    ids = torch.randint(1, 199, (37,), generator=torch.Generator().manual_seed(3))
    check_greedy(retrosparse, tmp_path / "model", model, ids, 0, tmp_path, "--prefill-chunk", 16)
