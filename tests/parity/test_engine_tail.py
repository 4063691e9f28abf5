"""engines/transformers: the tail, what sparse rows do with the far tokens that they do not pick."""

import json

import pytest
import torch
from transformers import DynamicCache

from conftest import write_ids
from converted import export
from sparse_reference import random_index, reference_forward
from test_engine import (FAMILIES, SETTINGS, TOLERANCE, check_logits, check_picked, decode, load, make_checkpoint,
                         random_base, random_ids, with_rule)
from test_export import check as check_export

TAIL = dict(SETTINGS, tail_block=4)


def check_decoding(folder, family, settings, num_tokens, prompt):
    """Decoding against the reference, in which the tail must be seen."""
    base, index = make_checkpoint(folder, family, settings)
    if hasattr(base, "set_experts_implementation"):  # transformers 5
        base.set_experts_implementation("eager")  # the others have no float64
    model, ids, base = load(folder), random_ids(num_tokens), base.double()
    reference = reference_forward(base, settings, index, ids, lambda m: m >= prompt)
    without = reference_forward(base, dict(settings, tail_block=0), index, ids, lambda m: m >= prompt)
    assert relative_error(without.logits, reference.logits) > 20 * TOLERANCE, "the tail changes nothing here"
    model.record_picked_tokens()
    check_logits(decode(model, ids, prompt), reference)
    check_picked(model, reference)


def relative_error(ours, theirs):
    return (ours - theirs).abs().max() / theirs.abs().max()


@pytest.mark.parametrize("family", FAMILIES)
def test_families(family, tmp_path):
    check_decoding(tmp_path, family, TAIL, 80, 60)


@pytest.mark.parametrize("selection", ["top_p", "top_k"])
@pytest.mark.parametrize("block, sink_tokens", [(1, 4), (4, 0), (7, 4), (24, 4), (24, 30)])
def test_block_sizes(block, sink_tokens, selection, tmp_path):
    """Up to the window of 24. Twenty rows in one go: every place in a block is once the last far token, and the first
    rows may have none."""
    settings = with_rule(selection, tail_block=block, sink_tokens=sink_tokens)
    check_decoding(tmp_path, "llama", settings, sink_tokens + 24 + 30, sink_tokens + 24 - 2)


def test_a_window_of_one(tmp_path):
    check_decoding(tmp_path, "qwen3", dict(SETTINGS, window=1, tail_block=1), 60, 40)


@torch.no_grad()
def test_nothing_left_to_the_tail(tmp_path):
    """Rows that pick every far token, and rows that have none, are as without a tail."""
    everything = [dict(p=0.9, min_tokens=500, max_tokens=500)]
    settings = dict(SETTINGS, retrieval_heads={"1": [4]}, gates={"1": everything})
    logits = {}
    for block in (0, 4):
        make_checkpoint(tmp_path / str(block), "qwen2", dict(settings, tail_block=block))
        logits[block] = decode(load(tmp_path / str(block)), random_ids(70), 10)
    assert torch.equal(logits[0], logits[4])


@torch.no_grad()
@pytest.mark.parametrize("block", [1, 4, 24])
def test_sparse_rows_equal_decoding(block, tmp_path):
    """Many rows in one pass, with a cache, without one, and in chunks that end inside of blocks: as one by one."""
    make_checkpoint(tmp_path, "qwen3", dict(SETTINGS, tail_block=block))
    model, ids = load(tmp_path), random_ids(95)
    one_by_one = decode(model, ids, 60)
    model.set_sparse_rows(35)
    for use_cache in (False, True):
        assert relative_error(model(torch.tensor([ids]), use_cache=use_cache).logits[0], one_by_one) <= 1e-5
    cache, logits = DynamicCache(config=model.config), []
    for begin, end in [(0, 29), (29, 60), (60, 61), (61, 68), (68, 70), (70, 95)]:
        model.set_sparse_rows(end - begin if begin >= 60 else 0)
        logits.append(model(torch.tensor([ids[begin:end]]), past_key_values=cache).logits[0])
    assert relative_error(torch.cat(logits), one_by_one) <= 1e-5


@torch.no_grad()
@pytest.mark.parametrize("kept", [74, 72, 70, 55, 10, 0])
def test_cropped_cache(kept, tmp_path):
    """Going back from token 75, within and across blocks, and on in another way."""
    make_checkpoint(tmp_path, "llama", dict(SETTINGS, window=4, tail_block=4))
    model, ids = load(tmp_path), random_ids(80)
    prompt = kept or 30
    cache = DynamicCache(config=model.config)
    for piece in torch.tensor([ids[:kept] + random_ids(75 - kept, seed=9)]).split(7, dim=1):
        model(piece, past_key_values=cache)
    cache.crop(kept - 75)
    pieces = ([ids[:prompt]] if kept == 0 else []) + [[token] for token in ids[prompt:]]
    logits = torch.cat([model(torch.tensor([piece]), past_key_values=cache).logits[0] for piece in pieces])
    assert relative_error(logits, decode(model, ids, prompt)[kept:]) <= 1e-5


@torch.no_grad()
def test_batches_and_padding(tmp_path):
    """Each sequence has its own blocks: as if it were alone."""
    make_checkpoint(tmp_path, "qwen2", TAIL)
    model = load(tmp_path)
    options = dict(max_new_tokens=15, do_sample=False, eos_token_id=None, pad_token_id=0, output_logits=True,
                   return_dict_in_generate=True)
    for lengths in [(70, 70), (70, 59, 40, 3)]:
        prompts = [random_ids(length, seed=length + place) for place, length in enumerate(lengths)]
        padded = torch.tensor([[0] * (70 - len(prompt)) + prompt for prompt in prompts])
        mask = torch.tensor([[0] * (70 - len(prompt)) + [1] * len(prompt) for prompt in prompts])
        together = torch.stack(model.generate(padded, attention_mask=mask, **options).logits)
        for row, prompt in enumerate(prompts):
            alone = model.generate(torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt)), **options)
            assert relative_error(together[:, row], torch.stack(alone.logits)[:, 0]) <= TOLERANCE


@torch.no_grad()
def test_sequences_of_a_cache_that_are_repeated_selected_and_reordered(tmp_path):
    """Another order of the sequences, which are padded differently, while they are decoded."""
    make_checkpoint(tmp_path, "llama", dict(SETTINGS, window=4, tail_block=4))
    model = load(tmp_path)
    padding = [0, 3, 9]
    ids = torch.tensor([[0] * count + random_ids(60 - count, seed=count) for count in padding])
    mask = torch.tensor([[0] * count + [1] * (60 - count) for count in padding])

    def decode_after(change, order):
        cache = DynamicCache(config=model.config)
        model(ids[:, :50], attention_mask=mask[:, :50], past_key_values=cache, position_ids=positions(mask[:, :50]))
        change(cache)
        logits = [model(ids[order, at : at + 1], attention_mask=mask[order, : at + 1], past_key_values=cache,
                        position_ids=positions(mask[order, : at + 1])[:, -1:]).logits for at in range(50, 60)]
        return torch.cat(logits, dim=1)

    in_order = decode_after(lambda cache: None, [0, 1, 2])
    for change, order in [(lambda cache: cache.batch_repeat_interleave(2), [0, 0, 1, 1, 2, 2]),
                          (lambda cache: cache.batch_select_indices(torch.tensor([2, 0])), [2, 0]),
                          (lambda cache: cache.reorder_cache(torch.tensor([1, 2, 0])), [1, 2, 0])]:
        assert relative_error(decode_after(change, order), in_order[order]) <= 1e-5


def positions(mask):
    return (mask.cumsum(1) - 1).clamp(min=0)


@torch.no_grad()
def test_half_precision_keeps_the_means_in_float32(tmp_path):
    make_checkpoint(tmp_path, "qwen3", TAIL)
    model, ids = load(tmp_path, dtype=torch.bfloat16), random_ids(80)
    cache = DynamicCache(config=model.config)
    model(torch.tensor([ids]), past_key_values=cache)
    values, means = cache.layers[2].values[0, 1], cache.layers[2].block_means[0, 1]
    assert means.dtype == torch.float32 and values.dtype == torch.bfloat16
    assert torch.allclose(means, values[4:80].float().unflatten(0, (19, 4)).mean(1), rtol=1e-6, atol=1e-6)
    logits, exact = decode(model, ids, 60), decode(load(tmp_path), ids, 60)
    assert (logits - exact).abs().mean() <= 0.05 * exact.abs().mean()


@pytest.mark.parametrize("family, selection, block, sink_tokens", [
    ("llama", "top_p", 1, 4), ("qwen2", "top_p", 7, 0), ("qwen3", "top_k", 4, 30), ("qwen3_moe", "top_p", 24, 4),
    ("mistral", "top_k", 24, 1),
])
def test_our_program_writes_the_same(retrosparse, family, selection, block, sink_tokens, tmp_path):
    """Forty greedy tokens, and others than without the tail."""
    ids, ours = random_ids(sink_tokens + 40), {}
    for tail_block in (0, block):
        folder = tmp_path / str(tail_block)
        make_checkpoint(folder, family, with_rule(selection, tail_block=tail_block, sink_tokens=sink_tokens))
        output = retrosparse("generate", "--model", folder, "--prompt-ids", write_ids(tmp_path / "ids.json", ids),
                             "--max-new-tokens", 40, "--ignore-eos", "--ids", "--json", "--dtype", "float32").stdout
        ours[tail_block] = json.loads(output)["ids"]
    theirs = load(folder).generate(torch.tensor([ids]), max_new_tokens=40, do_sample=False, eos_token_id=None)
    assert ours[block] == theirs[0, len(ids) :].tolist()
    assert ours[block] != ours[0]


@pytest.mark.parametrize("family, selection, block, sink_tokens", [
    ("llama", "top_p", 1, 4), ("qwen2", "top_p", 7, 0), ("qwen3", "top_k", 4, 30), ("qwen3_moe", "top_p", 24, 4),
    ("mistral", "top_k", 24, 1),
])
def test_our_program_decodes_the_same(family, selection, block, sink_tokens, tmp_path):
    base, settings = random_base(family), with_rule(selection, tail_block=block, sink_tokens=sink_tokens)
    base.save_pretrained(tmp_path / "dense")
    index = random_index(settings, base.config.num_key_value_heads, base.config.num_attention_heads, 16)
    check_export(export(tmp_path / "dense", tmp_path, settings, index), random_ids(110), sink_tokens + 20, tmp_path)
