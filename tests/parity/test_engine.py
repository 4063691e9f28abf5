"""engines/transformers: exported checkpoints in transformers against a slow float64 reference."""

import json
import shutil
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (AutoModelForCausalLM, DynamicCache, LlamaConfig, MistralConfig, Qwen2Config,
                          Qwen3Config, Qwen3MoeConfig)

from conftest import ROOT
from sparse_reference import pick, random_index, reference_forward

torch.set_num_threads(1)  # these models are too small to share

TOLERANCE = 1e-4  # of the largest logit
CLOSE_CALL = 1e-6  # of the reference, below which float32 may pick another token

SMALL = dict(vocab_size=151, hidden_size=96, intermediate_size=96, num_hidden_layers=3, num_attention_heads=6,
             num_key_value_heads=2, head_dim=16, max_position_embeddings=512, initializer_range=0.2)
LLAMA3_ROPE = dict(rope_type="llama3", rope_theta=50000.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
                   original_max_position_embeddings=64)
YARN = dict(rope_type="yarn", rope_theta=10000.0, factor=4.0, original_max_position_embeddings=64)
EXPERTS = dict(num_experts=5, num_experts_per_tok=2, moe_intermediate_size=40, mlp_only_layers=[1])

FAMILIES = {
    "llama": (LlamaConfig, "Llama", {}),
    "llama-tied-biases-llama3-rope": (LlamaConfig, "Llama", dict(tie_word_embeddings=True, attention_bias=True,
                                                                 mlp_bias=True, rope_parameters=LLAMA3_ROPE)),
    "mistral": (MistralConfig, "Mistral", dict(sliding_window=None)),
    "qwen2": (Qwen2Config, "Qwen2", {}),
    "qwen2-tied-yarn": (Qwen2Config, "Qwen2", dict(tie_word_embeddings=True, rope_parameters=YARN)),
    "qwen3": (Qwen3Config, "Qwen3", dict(hidden_size=64)),
    "qwen3_moe": (Qwen3MoeConfig, "Qwen3Moe", EXPERTS),
}
SETTINGS = dict(version=1, sink_tokens=4, window=24, index_dim=8, selection="top_p",
                retrieval_heads={"0": [1, 2], "2": [0, 3, 5]},
                gates={"0": [dict(p=0.9, min_tokens=2, max_tokens=12), dict(p=0.95, min_tokens=0, max_tokens=30)],
                       "2": [dict(p=0.8, min_tokens=5, max_tokens=9), dict(p=0.97, min_tokens=0, max_tokens=500),
                             dict(p=0.9, min_tokens=64, max_tokens=64)]},
                prefill=dict(mode="dense", tile_share=0.02))


def with_rule(selection, **changes):
    """SETTINGS with another selection; top_k's floor is its cap."""
    gates = {layer: [dict(gate, min_tokens=gate["max_tokens"]) if selection == "top_k" else gate for gate in gates]
             for layer, gates in SETTINGS["gates"].items()}
    return {**SETTINGS, "selection": selection, "gates": gates, **changes}


def random_base(family, **more):
    """A tiny dense model of transformers with every parameter random, norms and biases too."""
    kind, _, changes = FAMILIES[family]
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(kind(**{**SMALL, **changes, **more}), dtype=torch.float32).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.add_(torch.randn_like(parameter) * 0.3)
    return model


def make_checkpoint(folder, family, settings=SETTINGS, **changes):
    """Writes an exported checkpoint as design section 3 describes it. Returns the dense model and the index tensors."""
    _, name, _ = FAMILIES[family]
    base = random_base(family, **changes)
    base.save_pretrained(folder)
    index = random_index(settings, base.config.num_key_value_heads, base.config.num_attention_heads, base.config.head_dim)
    save_file({**load_file(folder / "model.safetensors"), **index}, folder / "model.safetensors", {"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    config.update(architectures=[f"RetroSparse{name}ForCausalLM"], model_type="retrosparse_" + config["model_type"],
                  auto_map={"AutoConfig": f"configuration_retrosparse.RetroSparse{name}Config",
                            "AutoModelForCausalLM": f"modeling_retrosparse.RetroSparse{name}ForCausalLM"},
                  retrosparse=settings)
    (folder / "config.json").write_text(json.dumps(config))
    for file in (ROOT / "engines" / "transformers").glob("*.py"):
        shutil.copy(file, folder)
    return base, index


def load(folder, **options):
    return AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True, **options).eval()


def random_ids(count, seed=1):
    """Different tokens as long as there are any: in the first layer equal tokens have equal index keys, and how such a
    tie ends depends on the last bit of a sum."""
    generator = torch.Generator().manual_seed(seed)
    rounds = [torch.randperm(SMALL["vocab_size"], generator=generator) for _ in range(0, count, SMALL["vocab_size"])]
    return torch.cat(rounds)[:count].tolist()


@torch.no_grad()
def decode(model, ids, prompt):
    """Logits [T, vocab] with the first `prompt` tokens in one pass and the others one by one."""
    cache = DynamicCache(config=model.config)
    pieces = [ids[:prompt]] + [[token] for token in ids[prompt:]]
    return torch.cat([model(torch.tensor([piece]), past_key_values=cache).logits[0] for piece in pieces])


def check_logits(ours, reference):
    assert ours.shape == reference.logits.shape
    error = (ours.double() - reference.logits).abs().max() / reference.logits.abs().max()
    assert error <= TOLERANCE


def check_picked(model, reference):
    """The same far tokens, except where the reference itself was close to another choice."""
    ours = {(row.layer, row.head, row.position): set(row.tokens.tolist()) for row in model.retrosparse_stats()}
    assert ours.keys() == reference.picked.keys() and len(ours) > 0
    assert any(reference.picked.values())
    assert min(reference.margin.values()) > CLOSE_CALL, "float32 may choose otherwise here: take another seed"
    assert ours == reference.picked


@pytest.mark.parametrize("family", FAMILIES)
def test_prefill_and_decode(family, tmp_path):
    base, index = make_checkpoint(tmp_path, family)
    if hasattr(base, "set_experts_implementation"):  # transformers 5
        base.set_experts_implementation("eager")  # the others have no float64
    model, ids = load(tmp_path), random_ids(100)
    reference = reference_forward(base.double(), SETTINGS, index, ids, lambda m: m >= 60)
    model.record_picked_tokens()
    check_logits(decode(model, ids, 60), reference)
    check_picked(model, reference)


@pytest.mark.parametrize("window", [8, 17, 64])
@pytest.mark.parametrize("selection", ["top_p", "top_k", "paper"])
def test_selection_rules(selection, window, tmp_path):
    settings = with_rule(selection, window=window)
    base, index = make_checkpoint(tmp_path, "qwen3", settings)
    model, ids = load(tmp_path), random_ids(110)
    reference = reference_forward(base.double(), settings, index, ids, lambda m: m >= 70)
    model.record_picked_tokens()
    check_logits(decode(model, ids, 70), reference)
    check_picked(model, reference)


@pytest.mark.parametrize("selection", ["top_p", "top_k", "paper"])
def test_ties_go_to_the_lower_position(selection, tmp_path):
    make_checkpoint(tmp_path, "llama")
    attention = sys.modules[type(load(tmp_path).run).__module__]
    gate_class = sys.modules[attention.SparseSettings.__module__].Gate
    generator = torch.Generator().manual_seed(3)
    for case in range(300):
        # Steps of a half: many ties, and sums that stay clear of p.
        scores = torch.randint(-4, 5, (40,), generator=generator) / 2
        gate = dict(p=0.7310 + 0.001 * (case % 200), min_tokens=case % 4, max_tokens=5 + case % 20)
        if selection == "top_k":
            gate["min_tokens"] = gate["max_tokens"]
        local_lse, gate_logit = 1 + case % 5, -1 + case % 3
        first, end = case % 6, 40 - case % 37  # sometimes no far token
        ours = attention.pick_far_tokens(selection, gate_class(**gate), scores, first, end, torch.tensor(gate_logit),
                                         torch.tensor(local_lse))
        far = list(range(first, end))
        expected, margin = pick(selection, gate, scores.tolist(), far, local_lse, gate_logit)
        assert len(ours) == len(set(ours.tolist()))
        assert set(ours.tolist()) == expected & set(far), case


@pytest.mark.parametrize("changes", [dict(sink_tokens=0), dict(window=1), dict(sink_tokens=40),
                                     dict(retrieval_heads={}, gates={})])
def test_unusual_settings(changes, tmp_path):
    settings = dict(SETTINGS, **changes)
    base, index = make_checkpoint(tmp_path, "llama", settings)
    model, ids = load(tmp_path), random_ids(70)
    reference = reference_forward(base.double(), settings, index, ids, lambda m: m >= 30)
    check_logits(decode(model, ids, 30), reference)


@torch.no_grad()
def test_sparse_rows_equal_decoding(tmp_path):
    base, index = make_checkpoint(tmp_path, "qwen3")
    model, ids = load(tmp_path), random_ids(90)
    model.set_sparse_rows(25)
    model.record_picked_tokens()
    logits = model(torch.tensor([ids]), use_cache=False).logits[0]
    reference = reference_forward(base.double(), SETTINGS, index, ids, lambda m: m >= 65)
    check_logits(logits, reference)
    check_picked(model, reference)
    model.set_sparse_rows(0)
    check_logits(model(torch.tensor([ids])).logits[0], reference_forward(base, SETTINGS, index, ids, lambda m: False))


@torch.no_grad()
def test_chunked_prefill_and_long_prompts(tmp_path):
    """Several row blocks, and chunks that follow cached tokens: the same as one pass."""
    make_checkpoint(tmp_path, "llama")
    model, ids = load(tmp_path), torch.tensor([random_ids(700)])
    whole = model(ids).logits
    cache = DynamicCache(config=model.config)
    chunks = torch.cat([model(chunk, past_key_values=cache).logits for chunk in ids.split([300, 2, 398], dim=1)], 1)
    assert (chunks - whole).abs().max() <= 1e-5 * whole.abs().max()


@torch.no_grad()
def test_prefill_without_far_heads_equals_dense(tmp_path):
    """With every head local and a window over the whole text nothing is left out."""
    base, _ = make_checkpoint(tmp_path, "mistral", dict(SETTINGS, window=600, retrieval_heads={}, gates={}))
    ids = torch.tensor([random_ids(550)])
    theirs = base(ids).logits
    assert (load(tmp_path)(ids).logits - theirs).abs().max() <= 1e-5 * theirs.abs().max()


@torch.no_grad()
@pytest.mark.parametrize("family", ["llama", "qwen3_moe"])
def test_generate_equals_decoding_by_hand(family, tmp_path):
    make_checkpoint(tmp_path, family)
    model, ids = load(tmp_path), random_ids(60)
    generated = model.generate(torch.tensor([ids]), max_new_tokens=30, do_sample=False, eos_token_id=None)[0].tolist()
    logits = decode(model, generated[:-1], len(ids))[len(ids) - 1 :]
    assert logits.argmax(-1).tolist() == generated[len(ids) :]


@torch.no_grad()
def test_batches(tmp_path):
    """Prompts of one length, and of different lengths padded on the left: each row as if it were alone."""
    make_checkpoint(tmp_path, "qwen2")
    model = load(tmp_path)
    options = dict(max_new_tokens=20, do_sample=False, eos_token_id=None, pad_token_id=0, output_logits=True,
                   return_dict_in_generate=True)
    for lengths in [(70, 70, 70), (70, 40, 9)]:
        prompts = [random_ids(length, seed=length + place) for place, length in enumerate(lengths)]
        padded = torch.tensor([[0] * (70 - len(prompt)) + prompt for prompt in prompts])
        mask = torch.tensor([[0] * (70 - len(prompt)) + [1] * len(prompt) for prompt in prompts])
        together = model.generate(padded, attention_mask=mask, **options)
        for row, prompt in enumerate(prompts):
            alone = model.generate(torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt)), **options)
            assert together.sequences[row, 70:].tolist() == alone.sequences[0, len(prompt) :].tolist()
            ours, theirs = (torch.stack(output.logits)[:, place] for output, place in [(together, row), (alone, 0)])
            assert (ours - theirs).abs().max() <= 1e-4 * theirs.abs().max()


@torch.no_grad()
@pytest.mark.parametrize("tail_block", [0, 2])
def test_beam_search_carries_the_caches_along(tail_block, tmp_path):
    """The score that beam search reports is that of its text when it is decoded alone. The window is so narrow that
    what the beams differ in becomes far."""
    make_checkpoint(tmp_path, "qwen3", dict(SETTINGS, window=2, tail_block=tail_block))
    model, ids = load(tmp_path), random_ids(60)
    found = model.generate(torch.tensor([ids]), max_new_tokens=12, num_beams=4, do_sample=False, eos_token_id=None,
                           length_penalty=0.0, output_scores=True, return_dict_in_generate=True)
    text = found.sequences[0].tolist()
    log_probabilities = decode(model, text[:-1], len(ids))[len(ids) - 1 :].log_softmax(-1)
    total = log_probabilities[torch.arange(12), text[len(ids) :]].sum()
    assert found.sequences_scores[0].item() == pytest.approx(total.item(), abs=1e-3)


@torch.no_grad()
def test_cropped_cache(tmp_path):
    """Going back a few tokens and on in another way."""
    make_checkpoint(tmp_path, "llama", dict(SETTINGS, window=2))
    model, ids = load(tmp_path), random_ids(80)
    cache = DynamicCache(config=model.config)
    model(torch.tensor([ids[:70]]), past_key_values=cache)
    for token in random_ids(5, seed=9):
        model(torch.tensor([[token]]), past_key_values=cache)
    cache.crop(-5)
    logits = [model(torch.tensor([[token]]), past_key_values=cache).logits[0] for token in ids[70:]]
    assert torch.equal(torch.cat(logits), decode(model, ids, 70)[70:])


@torch.no_grad()
def test_half_precision_keeps_the_index_in_float32(tmp_path):
    make_checkpoint(tmp_path, "qwen3")
    model, ids = load(tmp_path, dtype=torch.bfloat16), random_ids(80)
    dtypes = {".indexer." in name: p.dtype for name, p in model.named_parameters()}
    assert dtypes == {True: torch.float32, False: torch.bfloat16}
    logits, exact = decode(model, ids, 60), decode(load(tmp_path), ids, 60)
    assert (logits - exact).abs().mean() <= 0.05 * exact.abs().mean()


def test_saved_again(tmp_path):
    make_checkpoint(tmp_path / "first", "qwen3_moe")
    model, ids = load(tmp_path / "first"), random_ids(50)
    model.save_pretrained(tmp_path / "second")
    again = load(tmp_path / "second")
    assert torch.equal(decode(again, ids, 40), decode(model, ids, 40))
