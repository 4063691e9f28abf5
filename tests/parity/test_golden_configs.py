"""config.json and index files of published models: each is parsed as transformers parses it, or refused and told why."""

import json
import struct
import tarfile

import pytest

from conftest import shared

# Folder or file -> architecture.
ACCEPTED = {
    "qwen3-8b-transformers-4.57": "Qwen3ForCausalLM",
    "qwen2-14b-cogito": "Qwen2ForCausalLM",
    "tt-metal/Qwen3-8B": "Qwen3ForCausalLM",
    "tt-metal/Llama-3.1-8B-Instruct": "LlamaForCausalLM",
    "tt-metal/Llama-3.2-1B-Instruct": "LlamaForCausalLM",
    "tt-metal/Qwen2.5-7B-Instruct": "Qwen2ForCausalLM",
    "tt-metal/Mistral-7B-Instruct-v0.3": "MistralForCausalLM",
    "qwen3-1.7b": "Qwen3ForCausalLM",
    "llama-3.2-3b-instruct": "LlamaForCausalLM",
    "mistral-devstral-small-2507": "MistralForCausalLM",
    "mistral-24b-dolphin3": "MistralForCausalLM",
    "infersim/qwen3-30B-A3B_config.json": "Qwen3MoeForCausalLM",
    "infersim/qwen3-8B_config.json": "Qwen3ForCausalLM",
    "infersim/qwen3-235B-A22B_config.json": "Qwen3MoeForCausalLM",
}

# What the one line of refusal has to say.
REFUSED = {
    "llama-3.1-8b-instruct-bnb8": ["quantization_config", "bitsandbytes"],
    "gemma-2b-it": ["architectures", "GemmaForCausalLM"],
    "granite-3.1-1b-a400m": ["architectures", "GraniteMoeForCausalLM"],
    "infersim/deepseek_v3.2_config.json": ["architectures", "DeepseekV32ForCausalLM"],
}

# Index files, with the config.json that they belong to.
INDICES = {
    "qwen2-14b-cogito": "qwen2-14b-cogito/config.json",
    "qwen3-1.7b": "qwen3-1.7b/config.json",
    "llama-3.2-3b-instruct": "llama-3.2-3b-instruct/config.json",
    "mistral-devstral-small-2507": "mistral-devstral-small-2507/config.json",
    "mistral-24b-dolphin3": "mistral-24b-dolphin3/config.json",
    "qwen3-30b-a3b-derived": "infersim/qwen3-30B-A3B_config.json",
}


@pytest.fixture(scope="module")
def golden(tmp_path_factory):
    folder = tmp_path_factory.mktemp("golden")
    with tarfile.open(shared("golden/configs.tar.xz")) as archive:
        archive.extractall(folder)
    return folder / "config-golden"


def config_path(golden, name):
    """The file itself: some of the folders hold an index too, but no weights."""
    return golden / name if name.endswith(".json") else golden / name / "config.json"


def test_none_is_forgotten(golden):
    found = {str(path.relative_to(golden)).removesuffix("/config.json") for path in golden.rglob("*config.json")}
    assert found == ACCEPTED.keys() | REFUSED.keys()


@pytest.mark.parametrize("name", ACCEPTED)
def test_is_parsed_as_transformers_parses_it(retrosparse, golden, name):
    from transformers import CONFIG_MAPPING

    path = config_path(golden, name)
    ours = json.loads(retrosparse("inspect", path, "--json").stdout)
    raw = json.loads(path.read_text())
    theirs = CONFIG_MAPPING[raw["model_type"]].from_dict(raw)
    assert ours["architecture"] == ACCEPTED[name]
    for key in ("num_hidden_layers", "hidden_size", "intermediate_size", "num_attention_heads", "num_key_value_heads",
                "vocab_size", "max_position_embeddings", "tie_word_embeddings"):
        assert ours[key] == getattr(theirs, key), key
    head_dim = getattr(theirs, "head_dim", None) or theirs.hidden_size // theirs.num_attention_heads
    assert ours["head_dim"] == head_dim
    for key, value in ours["rope"].items():
        assert value == pytest.approx(theirs.rope_parameters[key]), key
    if "experts" in ours:
        assert ours["experts"] == {"num_experts": theirs.num_experts, "num_experts_per_tok": theirs.num_experts_per_tok,
                                   "intermediate_size": theirs.moe_intermediate_size,
                                   "layers": theirs.num_hidden_layers}


@pytest.mark.parametrize("name", REFUSED)
def test_is_refused_with_the_reason(retrosparse, golden, name):
    for command in ("inspect", "plan"):
        process = retrosparse(command, golden / name, check=False)
        assert process.returncode == 1 and process.stdout == "" and len(process.stderr.splitlines()) == 1
        assert all(reason in process.stderr for reason in REFUSED[name]), process.stderr


@pytest.mark.parametrize("name", INDICES)
def test_parameters_are_those_of_the_index(retrosparse, golden, name):
    metadata = json.loads((golden / name / "model.safetensors.index.json").read_text())["metadata"]
    if "total_size" not in metadata:
        pytest.skip("this index does not tell its size")
    plan = json.loads(retrosparse("plan", golden / INDICES[name], "--json", "--dtype", "bfloat16").stdout)
    assert plan["weight_bytes"] == metadata["total_size"]
    assert 2 * plan["parameters"]["total"] == metadata["total_size"]


def shape_of(name, config):
    """The shape that a tensor of this name has in a model of this configuration."""
    hidden, heads = config["hidden_size"], config["num_attention_heads"]
    head_dim = config.get("head_dim") or hidden // heads
    queries, keys = heads * head_dim, config["num_key_value_heads"] * head_dim
    inner = config["moe_intermediate_size"] if ".experts." in name else config["intermediate_size"]
    shapes = {
        "embed_tokens.weight": [config["vocab_size"], hidden], "lm_head.weight": [config["vocab_size"], hidden],
        "q_proj.weight": [queries, hidden], "q_proj.bias": [queries], "o_proj.weight": [hidden, queries],
        "k_proj.weight": [keys, hidden], "k_proj.bias": [keys], "v_proj.weight": [keys, hidden], "v_proj.bias": [keys],
        "q_norm.weight": [head_dim], "k_norm.weight": [head_dim], "gate_proj.weight": [inner, hidden],
        "up_proj.weight": [inner, hidden], "down_proj.weight": [hidden, inner], "layernorm.weight": [hidden],
        "norm.weight": [hidden], "mlp.gate.weight": [config.get("num_experts"), hidden],
    }
    return max((suffix for suffix in shapes if name.endswith(suffix)), key=len), shapes


def write_hollow_checkpoint(folder, index, config):
    """Shards with the right headers over holes: as large as the real checkpoint to a reader, nothing on the disk."""
    by_file = {}
    for name, file in index["weight_map"].items():
        by_file.setdefault(file, []).append(name)
    for file, names in by_file.items():
        header, offset = {}, 0
        for name in names:
            suffix, shapes = shape_of(name, config)
            size = 2
            for dimension in shapes[suffix]:
                size *= dimension
            header[name] = {"dtype": "BF16", "shape": shapes[suffix], "data_offsets": [offset, offset + size]}
            offset += size
        text = json.dumps(header).encode()
        with open(folder / file, "wb") as out:
            out.write(struct.pack("<Q", len(text)) + text)
            out.truncate(8 + len(text) + offset)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


@pytest.mark.parametrize("name", INDICES)
def test_the_published_tensors_are_those_that_are_needed(retrosparse, golden, tmp_path, name):
    index = json.loads((golden / name / "model.safetensors.index.json").read_text())
    config = json.loads((golden / INDICES[name]).read_text())
    write_hollow_checkpoint(tmp_path, index, config)
    shown = json.loads(retrosparse("inspect", tmp_path, "--json", timeout=60).stdout)  # header by header, however large
    weights = shown["weights"]
    assert weights["missing"] == weights["surplus"] == weights["wrong"] == []
    assert weights["bytes"] == 2 * shown["parameters"]
