"""config.json of every architecture against the catalogue's facts, and broken ones refused with file and reason."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knowledge.catalogue import find_model
from knowledge.errors import InvalidModelError
from knowledge.model_config import read_config, spec_from_config
from knowledge.model_fields import Fields, load_json, parse_json
from knowledge.models import AttentionSpec, ExpertSpec, ModelSpec, StateSpec
from knowledge.tensors import params_total

CONFIGS: dict[str, dict[str, Any]] = {
    row["model"]: row["config"]
    for row in map(
        json.loads, (Path(__file__).parents[1] / "data" / "models" / "configs.jsonl").read_text("utf-8").splitlines()
    )
}
"""Files as published, without fields that say nothing about the shape."""

SHAPE = (
    "architecture", "layers", "hidden", "heads", "kv_heads", "head_dim", "vocab", "embed_dim", "max_context", "attention",
    "experts", "state",
)  # fmt: skip
LLAMA = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 64, "intermediate_size": 128,
    "num_hidden_layers": 4, "num_attention_heads": 8, "num_key_value_heads": 2, "vocab_size": 100,
    "max_position_embeddings": 512,
}  # fmt: skip


def read(config: dict[str, Any], **changes: Any) -> ModelSpec:
    return spec_from_config({**config, **changes}, name="Test", source="config.json")


@pytest.mark.parametrize("name", CONFIGS, ids=str)
def test_config_says_what_the_catalogue_says(name: str) -> None:
    spec, known = read(CONFIGS[name]), find_model(name)
    for fact in SHAPE:
        assert getattr(spec, fact) == getattr(known, fact), fact
    assert params_total(spec) == params_total(known)


def test_name_and_source_are_those_given() -> None:
    spec = read(LLAMA)
    assert (spec.name, spec.source, spec.family, spec.stored_scheme, spec.notes) == ("test", "config.json", "llama", None, ())


FAMILIES = [
    ("mistral-7b-v0.1", "mistral"),
    ("mixtral-8x7b", "mistral"),
    ("falcon-7b", "falcon"),
    ("bloom-560m", "bloom"),
    ("opt-350m", "opt"),
    ("chatglm3-6b", "chatglm"),
    ("stablelm-3b-4e1t", "stablelm"),
    ("gemma-3-4b-it", "gemma"),
    ("mamba-1.4b", "mamba"),
    ("qwen3.5-397b-a17b", "qwen"),
    ("phi-2", "phi"),
    ("deepseek-v3", "deepseek"),
    ("gpt-oss-20b", "gpt-oss"),
    ("nemotron-3-nano-4b", "nemotron"),
    ("glm-4.5", "glm"),
    ("gpt2", "gpt2"),
]


@pytest.mark.parametrize(("name", "family"), FAMILIES, ids=[name for name, _ in FAMILIES])
def test_family_comes_from_the_type(name: str, family: str) -> None:
    assert read(CONFIGS[name]).family == family


WINDOWS = [
    ("mistral", {"model_type": "mistral", "sliding_window": 128}, AttentionSpec(sliding=4, window=128)),
    ("window beyond the context", {"model_type": "phi3", "sliding_window": 4096}, None),
    ("switched off", {"model_type": "qwen2", "sliding_window": 128, "use_sliding_window": False}, None),
    (
        "qwen2, upper layers",
        {"model_type": "qwen2", "sliding_window": 128, "use_sliding_window": True, "max_window_layers": 3},
        AttentionSpec(full=3, sliding=1, window=128),
    ),
    ("gemma2, every second", {"model_type": "gemma2", "sliding_window": 128}, AttentionSpec(full=2, sliding=2, window=128)),
    (
        "exaone4, as letters",
        {"model_type": "exaone4", "sliding_window": 128, "sliding_window_pattern": "LLLG"},
        AttentionSpec(full=1, sliding=3, window=128),
    ),
    ("cohere2, every fourth", {"model_type": "cohere2", "sliding_window": 128}, AttentionSpec(full=1, sliding=3, window=128)),
    (
        "listed",
        {"sliding_window": 128, "layer_types": ["sliding_attention"] * 3 + ["full_attention"]},
        AttentionSpec(full=1, sliding=3, window=128),
    ),
    (
        "attention pruned away",
        {"block_configs": [{"attention": {"no_op": True}}, {"attention": {"n_heads_in_group": 8}}, {}, {}]},
        AttentionSpec(full=3, ffn_only=1),
    ),
    (
        "layers that share a cache",
        {"model_type": "gemma3n", "num_kv_shared_layers": 2, "layer_types": ["full_attention"] * 4},
        AttentionSpec(full=4, kv_shared=2),
    ),
    ("jamba", {"attn_layer_period": 4, "attn_layer_offset": 1}, AttentionSpec(full=1, linear=3)),
    ("minimax", {"attn_type_list": [0, 0, 0, 1]}, AttentionSpec(full=1, linear=3)),
]


@pytest.mark.parametrize(("fields", "attention"), [row[1:] for row in WINDOWS], ids=[row[0] for row in WINDOWS])
def test_layer_kinds(fields: dict[str, Any], attention: AttentionSpec | None) -> None:
    assert read(LLAMA, **fields).attention == attention


EXPERTS = [
    (
        "shared width stated",
        {"num_experts": 60, "num_experts_per_tok": 4, "moe_intermediate_size": 32, "shared_expert_intermediate_size": 96},
        ExpertSpec(count=60, per_token=4, intermediate=32, shared=1, shared_intermediate=96),
    ),
    (
        "one value a layer",
        {"num_experts": [16, 16], "moe_topk": [2, 2], "moe_intermediate_size": [32, 32], "num_shared_expert": [1, 1]},
        ExpertSpec(count=16, per_token=2, intermediate=32, shared=1, shared_intermediate=32),
    ),
    (
        "dense layers between",
        {"num_local_experts": 8, "num_experts_per_tok": 1, "decoder_sparse_step": 2},
        ExpertSpec(count=8, per_token=1, intermediate=128, every=2),
    ),
    ("one expert is dense", {"num_local_experts": 1, "num_experts_per_tok": 1}, None),
    ("none", {"n_routed_experts": None}, None),
]


@pytest.mark.parametrize(("fields", "experts"), [row[1:] for row in EXPERTS], ids=[row[0] for row in EXPERTS])
def test_experts(fields: dict[str, Any], experts: ExpertSpec | None) -> None:
    assert read(LLAMA, **fields).experts == experts


STATES = [
    (
        "granite, mamba2",
        {"mamba_n_heads": 48, "mamba_d_head": 64, "mamba_d_state": 128, "mamba_d_conv": 4, "mamba_n_groups": 1},
        StateSpec(kind="mamba2", conv=4, inner=3072, state=128, groups=1, heads=48),
    ),
    (
        "mamba2 of transformers",
        {"model_type": "mamba2", "num_heads": 2, "head_dim": 64, "state_size": 16, "n_groups": 2, "conv_kernel": 4},
        StateSpec(kind="mamba2", conv=4, inner=128, state=16, groups=2, heads=2),
    ),
    (
        "mamba2 of state-spaces",
        {"model_type": None, "architectures": None, "ssm_cfg": {"layer": "Mamba2"}, "hidden_size": 64},
        StateSpec(kind="mamba2", conv=4, inner=128, state=128, heads=2),
    ),
    (
        "jamba",
        {"model_type": "jamba", "mamba_dt_rank": 8, "mamba_d_state": 16, "mamba_d_conv": 4, "mamba_expand": 2},
        StateSpec(kind="mamba", conv=4, inner=128, state=16, dt_rank=8),
    ),
]


@pytest.mark.parametrize(("fields", "state"), [row[1:] for row in STATES], ids=[row[0] for row in STATES])
def test_recurrent_state(fields: dict[str, Any], state: StateSpec) -> None:
    assert read(LLAMA, **fields).state == state


def test_class_default_of_kv_heads_is_used_and_said() -> None:
    spec = read({key: value for key, value in LLAMA.items() if key != "num_key_value_heads"})
    assert spec.kv_heads == 8
    assert "taken as the number of heads" in spec.notes[0]


def test_choice_of_query_and_key_norms_is_read_where_the_class_leaves_it() -> None:
    assert read(LLAMA, model_type="cohere", use_qk_norm=True).qk_norm is True
    assert read(LLAMA, model_type="llama4_text", use_qk_norm=True).qk_norm is None


def test_code_of_the_checkpoint_is_never_run(tmp_path: Path) -> None:
    """`auto_map` names a module; nothing looks for it."""
    (tmp_path / "config.json").write_text(json.dumps(LLAMA | {"auto_map": {"AutoConfig": "evil.Config"}}), encoding="utf-8")
    (tmp_path / "evil.py").write_text("raise SystemExit('ran')", encoding="utf-8")
    assert read_config(tmp_path / "config.json").layers == 4


BROKEN = [
    ("no language model", {"architectures": ["ResNetForImageClassification"], "model_type": "resnet"}, "describes no language"),
    ("encoder", LLAMA | {"architectures": ["BertForMaskedLM"], "model_type": "bert"}, "no causal language model"),
    ("encoder and decoder", LLAMA | {"is_encoder_decoder": True}, "no causal language model"),
    ("classifier", LLAMA | {"architectures": ["LlamaForSequenceClassification"]}, "no causal language model"),
    ("layers as text", LLAMA | {"num_hidden_layers": "four"}, "num_hidden_layers is 'four', expected a whole number"),
    ("layers below one", LLAMA | {"num_hidden_layers": 0}, "num_hidden_layers is 0"),
    ("layers as truth", LLAMA | {"num_hidden_layers": True}, "num_hidden_layers is True"),
    ("absurd width", LLAMA | {"hidden_size": 10**30}, "hidden_size is 1000"),
    ("more KV heads than heads", LLAMA | {"num_key_value_heads": 16}, "at most the 8 query heads"),
    ("wrong number of layer types", LLAMA | {"layer_types": ["conv"]}, "layer types is 1, expected 4 layers"),
    ("unknown layer type", LLAMA | {"layer_types": ["telepathy"] * 4}, "layer type is 'telepathy'"),
    ("layer types no list", LLAMA | {"layer_types": 4}, "layer_types is 4, expected a list"),
    ("architectures no list", LLAMA | {"architectures": "LlamaForCausalLM"}, "architectures is .*expected a list"),
    ("architectures of numbers", LLAMA | {"architectures": [1]}, "list of class names"),
    ("experts per token", LLAMA | {"num_experts": 4, "num_experts_per_tok": 9}, "experts per token is 9"),
    ("rank of the time step", LLAMA | {"model_type": "mamba", "time_step_rank": "many"}, "time_step_rank is 'many'"),
    ("tied as text", LLAMA | {"tie_word_embeddings": "yes"}, "expected true or false"),
    ("quantization no object", LLAMA | {"quantization_config": 4}, "expected an object"),
    ("attention types", LLAMA | {"attention_types": [["global", 4]]}, "attention_types is"),
    ("expansion ratio", LLAMA | {"intermediate_size": None, "expansion_ratio": -1}, "a number above 0"),
    ("model type", LLAMA | {"model_type": 7}, "model_type is 7, expected text"),
]


@pytest.mark.parametrize(("config", "reason"), [row[1:] for row in BROKEN], ids=[row[0] for row in BROKEN])
def test_broken_config_is_refused_with_file_and_reason(config: dict[str, Any], reason: str) -> None:
    with pytest.raises(InvalidModelError, match=reason) as caught:
        spec_from_config(config, name="x", source="some/config.json")
    assert "some/config.json" in str(caught.value)


UNREADABLE = [
    ("empty", b"", "no valid JSON"),
    ("cut off", b'{"model_type": "lla', "no valid JSON"),
    ("no text", b"\xff\xfe\x00\x01", "no valid JSON"),
    ("a list", b"[1, 2]", "holds a JSON list, not an object"),
    ("deeply nested", b"[" * 100_000, "no valid JSON"),
    ("too large", b" " * 1001, "larger than 1000 bytes"),
]


@pytest.mark.parametrize(("data", "reason"), [row[1:] for row in UNREADABLE], ids=[row[0] for row in UNREADABLE])
def test_unreadable_json_is_refused(data: bytes, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(data)
    with pytest.raises(InvalidModelError, match=reason) as caught:
        load_json(path, limit=1000 if "large" in reason or "larger" in reason else 2**20)
    assert str(path) in str(caught.value)


def test_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidModelError, match=r"cannot read .*No such file"):
        load_json(tmp_path / "config.json")


_VALUES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.lists(st.integers(), max_size=3)


@given(st.dictionaries(st.sampled_from(sorted({key for config in CONFIGS.values() for key in config})), _VALUES, max_size=12))
def test_no_config_ends_in_a_traceback(config: dict[str, Any]) -> None:
    """Whatever stands in the fields: facts, or the one error."""
    try:
        spec = read(LLAMA, **config)
    except InvalidModelError:
        return
    assert spec.layers


@given(st.binary(max_size=200))
def test_no_bytes_end_in_a_traceback(data: bytes) -> None:
    try:
        value = parse_json(data, "x.json")
    except InvalidModelError:
        return
    assert isinstance(value, dict)


def test_whole_numbers_may_be_written_as_floats() -> None:
    assert Fields({"n": 4.0}, "x").whole("n") == 4
