"""The retrieval tasks are asked as the reference models know them: transformers answers our samples as well as eval.json
says. And the needle pairs show the heads that eval.json calls retrieval heads."""

import json
import lzma

import pytest
import torch
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM

from cli_checks import USAGE, fails
from conftest import NANO, ROOT, shared

BOOKS = ROOT / "examples" / "text" / "books.txt.xz"
# How far below the accuracy of eval.json that of other samples may lie, beside one_answer_token().
MARGIN = dict(niah1=0.02, niah8=0.02, niah32=0.03, mq=0.02, kv=0.01, copy=0.03, mv=0.06, vt=0.1)


def samples_of(retrosparse, folder, *options):
    return json.loads(retrosparse("tasks", "--model", folder, "--text", BOOKS, "--json", *options).stdout)["samples"]


@torch.no_grad()
def answer_accuracy(model, samples):
    """The share of answer tokens that the model finds likeliest, given the right ones before them."""
    right = total = 0
    for sample in samples:
        ids = torch.tensor(sample["ids"])
        likeliest = model(ids[None, :-1]).logits[0].argmax(-1)
        for begin, end in sample["answers"]:
            right += (likeliest[begin - 1:end - 1] == ids[begin:end]).sum().item()
            total += end - begin
    return right / total


def one_answer_token(samples):
    """What one answer token weighs in answer_accuracy(): among few samples one may be wrong by chance, whatever the
    accuracy of many."""
    return 1 / sum(end - begin for sample in samples for begin, end in sample["answers"])


@pytest.fixture(scope="module")
def nano():
    return AutoModelForCausalLM.from_pretrained(NANO, dtype=torch.float32).eval()


@pytest.mark.parametrize("task", MARGIN)
def test_nano_answers(task, nano, retrosparse):
    expected = json.loads((NANO / "eval.json").read_text())["2048"][task][0]
    samples = samples_of(retrosparse, NANO, "--task", task, "--length", 2048, "--samples", 6)
    assert {len(sample["ids"]) for sample in samples} == {2048}
    assert answer_accuracy(nano, samples) >= expected - MARGIN[task] - one_answer_token(samples)


@pytest.mark.slow
@pytest.mark.parametrize("task", MARGIN)
def test_mini_answers(task, retrosparse):
    folder = shared("models/mini")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    expected = json.loads((folder / "eval.json").read_text())["4096"][task][0]
    samples = samples_of(retrosparse, folder, "--task", task, "--length", 4096, "--samples", 3)
    assert answer_accuracy(model, samples) >= expected - MARGIN[task] - one_answer_token(samples)


@torch.no_grad()
def test_nothing_is_answered_without_the_text(nano, retrosparse):
    """The questions alone give no answer away: with the text in front of them cut off only copied digits remain."""
    samples = samples_of(retrosparse, NANO, "--task", "niah8", "--length", 2048, "--samples", 6)
    for sample in samples:
        (begin, end), = sample["answers"]
        sample["ids"] = sample["ids"][begin - 50:]
        sample["answers"] = [[50, 50 + end - begin]]
    assert answer_accuracy(nano, samples) < 0.6


@torch.no_grad()
def test_running_text_is_what_the_books_say(nano, retrosparse):
    """As likely to the model as places of the books that are read and tokenized without us."""
    def mean_loss(sequences):
        return sum(nano(ids[None], labels=ids[None]).loss.item() for ids in sequences) / len(sequences)

    text = lzma.open(BOOKS, "rt", encoding="utf-8").read().replace("\0", "")
    tokenizer = Tokenizer.from_file(str(NANO / "tokenizer.json"))
    starts = range(0, len(text) - 12_000, len(text) // 12)
    places = [torch.tensor(tokenizer.encode(text[start:start + 12_000]).ids[:2048]) for start in starts]
    samples = samples_of(retrosparse, NANO, "--task", "nll", "--length", 2048, "--samples", 12)
    assert abs(mean_loss([torch.tensor(sample["ids"]) for sample in samples]) - mean_loss(places)) < 0.2


@torch.no_grad()
def test_needle_pairs_show_retrieval_heads(retrosparse):
    model = AutoModelForCausalLM.from_pretrained(NANO, dtype=torch.float32, attn_implementation="eager").eval()
    expected = torch.tensor(json.loads((NANO / "eval.json").read_text())["retrieval_scores"])
    scores = torch.zeros_like(expected)
    pairs = samples_of(retrosparse, NANO, "--pairs", "--length", 2048, "--samples", 4)
    for pair in pairs:
        (begin, end), (later_begin, later_end) = pair["first"], pair["second"]
        assert pair["ids"][begin:end] == pair["ids"][later_begin:later_end]
        attentions = model(torch.tensor([pair["ids"]]), output_attentions=True).attentions  # [layer] of [1, head, q, k]
        rows = torch.stack(attentions)[:, 0, :, later_begin:later_end, begin:end]
        scores += rows.sum(-1).mean(-1) / len(pairs)
    # How high a score is depends on the needle; which heads stand out does not.
    ours, theirs = scores.flatten().topk(3), expected.flatten().topk(3)
    assert set(ours.indices[:2].tolist()) == set(theirs.indices[:2].tolist())
    assert ours.values[1] > 2 * ours.values[2]


@pytest.mark.parametrize("options, says", [
    (["--task", "niah88"], ["niah88", "did you mean 'niah8'"]),
    (["--length", "20", "--task", "niah1"], ["niah1", "20 tokens"]),
    (["--length", "9000"], ["8192", "9000"]),
    (["--length", "20", "--pairs"], ["two needles"]),
    (["--formats", "absent.yaml"], ["absent.yaml"]),
])
def test_what_cannot_be_asked(retrosparse, options, says):
    fails(retrosparse, "tasks", "--model", NANO, "--text", BOOKS, *options, says=says)


def test_texts_that_cannot_be_used(retrosparse, tmp_path):
    command = ["tasks", "--model", NANO, "--task", "niah1", "--text"]
    files = {"empty.txt": b"", "latin1.txt": b"caf\xe9", "short.txt": b"Only this.", "cut.txt.xz": BOOKS.read_bytes()[:999],
             "a.jsonl": b'{"txt": "x"}\n', "a.pdf": b"%PDF"}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
        fails(retrosparse, *command, tmp_path / name, says="running text" if name == "short.txt" else name)
    fails(retrosparse, *command, tmp_path / "absent.txt", says="absent.txt")
    (tmp_path / "folder").mkdir()
    fails(retrosparse, *command, tmp_path / "folder", says="folder")
    fails(retrosparse, "tasks", "--model", NANO, code=USAGE, says="--text")
