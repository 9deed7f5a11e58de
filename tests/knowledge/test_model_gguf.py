"""GGUF headers: what the package's own writer wrote is read back; broken and hostile files end in one clear error."""

import struct
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from knowledge.errors import InvalidModelError
from knowledge.gguf_header import file_type_name, read_header
from knowledge.model_gguf import read_gguf
from knowledge.models import AttentionSpec, ExpertSpec, StateSpec
from knowledge.schemes import parse_scheme

F16, F32 = gguf.GGMLQuantizationType.F16, gguf.GGMLQuantizationType.F32
Q4_K, Q6_K, Q8_0 = gguf.GGMLQuantizationType.Q4_K, gguf.GGMLQuantizationType.Q6_K, gguf.GGMLQuantizationType.Q8_0

LLAMA = {
    "block_count": 2, "context_length": 2048, "embedding_length": 256, "feed_forward_length": 512, "attention.head_count": 4,
    "attention.head_count_kv": 2,
}  # fmt: skip
TENSORS = {
    "token_embd.weight": ((64, 256), Q4_K),
    "blk.0.attn_q.weight": ((256, 256), Q4_K),
    "output.weight": ((64, 256), Q6_K),
    "output_norm.weight": ((256,), F32),
}


def write(
    path: Path,
    architecture: str = "llama",
    keys: dict[str, Any] | None = None,
    tensors: dict[str, Any] | None = None,
    **more: Any,
) -> Path:
    """A GGUF file with `keys` of the architecture and `more` general ones, written by the `gguf` package."""
    writer = gguf.GGUFWriter(path, architecture)
    for key, value in {**{f"{architecture}.{key}": value for key, value in (keys or LLAMA).items()}, **more}.items():
        if isinstance(value, list):
            writer.add_array(key, value)
        elif isinstance(value, str):
            writer.add_string(key, value)
        else:
            writer.add_uint32(key, value)
    for name, (shape, kind) in (TENSORS if tensors is None else tensors).items():
        block, size = gguf.GGML_QUANT_SIZES[kind]
        data = np.zeros((*shape[:-1], shape[-1] // block * size), dtype=np.uint8)
        writer.add_tensor(name, data, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    tokens = {"tokenizer.ggml.tokens": ["a", "bb", "ccc"], "general.file_type": 15, "general.name": "Tiny Llama"}
    return write(tmp_path / "tiny.gguf", **tokens)


def test_header_holds_what_the_package_reads(file: Path) -> None:
    header, oracle = read_header(file), gguf.GGUFReader(file)
    assert {tensor.name: (tensor.dtype, tensor.bytes) for tensor in header.tensors} == {
        tensor.name: (tensor.tensor_type.name.lower(), int(tensor.n_bytes)) for tensor in oracle.tensors
    }
    assert {tensor.name: tensor.shape for tensor in header.tensors} == {
        tensor.name: tuple(int(size) for size in reversed(tensor.shape)) for tensor in oracle.tensors
    }
    for key in ("llama.block_count", "general.name", "general.file_type"):
        assert header.values[key] == oracle.fields[key].contents()
    assert header.lengths == {"tokenizer.ggml.tokens": 3}
    assert header.header_bytes == oracle.data_offset
    assert header.file_bytes == file.stat().st_size


def test_shape_format_and_tensors(file: Path) -> None:
    spec = read_gguf(file)
    assert (spec.name, spec.family, spec.architecture) == ("tiny-llama", "llama", "LlamaForCausalLM")
    assert (spec.layers, spec.hidden, spec.intermediate, spec.heads, spec.kv_heads, spec.head_dim) == (2, 256, 512, 4, 2, 64)
    assert (spec.vocab, spec.max_context, spec.tied_embeddings, spec.attention_bias) == (64, 2048, False, False)
    assert (spec.stored_scheme, spec.stored_method) == (parse_scheme("gguf:q4_k_m"), "rtn")
    assert sum(tensor.bytes for tensor in spec.stored_tensors) == 64 * 144 + 256 * 144 + 64 * 210 + 256 * 4


def test_tied_head_biases_and_importance_matrix(tmp_path: Path) -> None:
    tensors = {"token_embd.weight": ((64, 256), Q8_0), "blk.0.attn_q.bias": ((256,), F32)}
    more = {"general.file_type": 7, "quantize.imatrix.file": "some.dat"}
    spec = read_gguf(write(tmp_path / "m.gguf", "qwen2", LLAMA, tensors, **more))
    assert (spec.tied_embeddings, spec.attention_bias, spec.stored_method) == (True, True, "imatrix")
    assert spec.stored_scheme == parse_scheme("gguf:q8_0")


def test_sixteen_bit_file_is_not_quantized(tmp_path: Path) -> None:
    spec = read_gguf(write(tmp_path / "m.gguf", tensors={"token_embd.weight": ((64, 256), F16)}, **{"general.file_type": 1}))
    assert (spec.stored_scheme, spec.stored_method) == (None, None)


def test_unknown_file_type_is_called_after_most_of_its_bytes(tmp_path: Path) -> None:
    spec = read_gguf(write(tmp_path / "m.gguf", **{"general.file_type": 999}))
    assert spec.stored_scheme == parse_scheme("gguf:q4_k")
    assert "file type 999 is not known" in spec.notes[0]


@pytest.mark.parametrize(("number", "name"), [(15, "q4_k_m"), (7, "q8_0"), (0, "f32"), (30, "iq4_xs"), (10**6, None)], ids=str)
def test_names_of_file_types(number: int, name: str | None) -> None:
    assert file_type_name(number) == name


MLA = {"attention.q_lora_rank": 1536, "attention.kv_lora_rank": 512, "rope.dimension_count": 64}
RANKS = AttentionSpec(full=2, q_lora_rank=1536, kv_lora_rank=512, qk_rope_head_dim=64, qk_nope_head_dim=128, v_head_dim=128)
SSM = {"ssm.conv_kernel": 4, "ssm.inner_size": 512, "ssm.state_size": 16, "ssm.time_step_rank": 16}
KINDS = [
    ("mistral's window", "llama", {"attention.sliding_window": 1024}, AttentionSpec(sliding=2, window=1024)),
    ("window beyond the context", "phi3", {"attention.sliding_window": 4096}, None),
    ("gemma2", "gemma2", {"attention.sliding_window": 1024}, AttentionSpec(full=1, sliding=1, window=1024)),
    (
        "pattern a layer",
        "gemma4",
        {"attention.sliding_window": 1024, "attention.sliding_window_pattern": [True, False]},
        AttentionSpec(full=1, sliding=1, window=1024),
    ),
    ("MLA, absorbed", "deepseek2", MLA | {"attention.key_length": 576, "attention.value_length": 512,
     "attention.key_length_mla": 192, "attention.value_length_mla": 128}, RANKS),
    ("MLA, older", "deepseek2", MLA | {"attention.key_length": 192, "attention.value_length": 128}, RANKS),
    ("one state", "lfm2", {"attention.head_count_kv": [0, 2], "shortconv.l_cache": 3}, AttentionSpec(full=1, linear=1)),
    (
        "nemotron-h, FFN layers",
        "nemotron_h",
        {"block_count": 4, "attention.head_count_kv": [0, 2, 0, 0], "feed_forward_length": [0, 0, 512, 0]} | SSM,
        AttentionSpec(full=1, linear=2, ffn_only=1),
    ),
    ("delta net", "qwen3next", {"block_count": 4, "full_attention_interval": 4} | SSM, AttentionSpec(full=1, linear=3)),
    ("shared caches", "gemma3n", {"attention.shared_kv_layers": 1}, AttentionSpec(full=2, kv_shared=1)),
]  # fmt: skip


@pytest.mark.parametrize(("architecture", "keys", "attention"), [row[1:] for row in KINDS], ids=[row[0] for row in KINDS])
def test_layer_kinds(architecture: str, keys: dict[str, Any], attention: AttentionSpec | None, tmp_path: Path) -> None:
    assert read_gguf(write(tmp_path / "m.gguf", architecture, LLAMA | keys)).attention == attention


def test_mamba_has_no_heads(tmp_path: Path) -> None:
    keys = {key: value for key, value in LLAMA.items() if "head" not in key} | SSM | {"feed_forward_length": 0}
    spec = read_gguf(write(tmp_path / "m.gguf", "mamba", keys | {"attention.head_count": 0}))
    assert (spec.heads, spec.kv_heads, spec.intermediate, spec.architecture) == (None, None, None, "MambaForCausalLM")
    assert spec.attention == AttentionSpec(linear=2)
    assert spec.state == StateSpec(kind="mamba", conv=4, inner=512, state=16, dt_rank=16)


def test_delta_net_and_mamba2_states(tmp_path: Path) -> None:
    keys = LLAMA | SSM | {"ssm.group_count": 4}
    assert read_gguf(write(tmp_path / "a.gguf", "qwen3next", keys)).state == StateSpec(
        kind="delta", conv=4, key_heads=4, value_heads=16, key_head_dim=16, value_head_dim=32
    )
    assert read_gguf(write(tmp_path / "b.gguf", "granitehybrid", keys)).state == StateSpec(
        kind="mamba2", conv=4, inner=512, state=16, groups=4, heads=16
    )


def test_experts_and_the_class_they_mean(tmp_path: Path) -> None:
    routed = {"expert_count": 8, "expert_used_count": 2}
    mixtral = read_gguf(write(tmp_path / "a.gguf", "llama", LLAMA | routed))
    assert mixtral.architecture == "MixtralForCausalLM"
    assert mixtral.experts == ExpertSpec(count=8, per_token=2, intermediate=512)
    shared = {
        "expert_feed_forward_length": 64,
        "expert_shared_count": 1,
        "leading_dense_block_count": 1,
        "expert_gating_func": 2,
    }
    deepseek = read_gguf(write(tmp_path / "b.gguf", "deepseek2", LLAMA | routed | shared))
    assert deepseek.architecture == "DeepseekV3ForCausalLM"
    assert deepseek.experts == ExpertSpec(
        count=8, per_token=2, intermediate=64, shared=1, shared_intermediate=64, dense_layers=1
    )


def test_draft_layers_are_not_counted(tmp_path: Path) -> None:
    assert read_gguf(write(tmp_path / "m.gguf", keys=LLAMA | {"block_count": 3, "nextn_predict_layers": 1})).layers == 2


def test_shards_are_read_together(tmp_path: Path) -> None:
    write(tmp_path / "m-00001-of-00002.gguf", tensors={"token_embd.weight": ((64, 256), Q4_K)}, **{"general.file_type": 15})
    second = write(tmp_path / "m-00002-of-00002.gguf", tensors={"output.weight": ((64, 256), Q6_K)})
    assert [tensor.name for tensor in read_gguf(second).stored_tensors] == ["token_embd.weight", "output.weight"]


def test_missing_shard_is_named(tmp_path: Path) -> None:
    first = write(tmp_path / "m-00001-of-00002.gguf")
    with pytest.raises(InvalidModelError, match=r"1 are missing: m-00002-of-00002\.gguf"):
        read_gguf(first)


NOT_MODELS = [
    ("encoder", "bert", {}, "holds 'bert', no causal language model"),
    ("projector", "clip", {}, "holds 'clip', no causal language model"),
    ("adapter", "llama", {"general.type": "adapter"}, "holds 'adapter', no causal language model"),
]


@pytest.mark.parametrize(
    ("architecture", "more", "reason"), [row[1:] for row in NOT_MODELS], ids=[row[0] for row in NOT_MODELS]
)
def test_what_is_no_language_model_is_refused(architecture: str, more: dict[str, Any], reason: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidModelError, match=reason):
        read_gguf(write(tmp_path / "m.gguf", architecture, **more))


def test_missing_shape_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidModelError, match="states neither blocks nor embedding length"):
        read_gguf(write(tmp_path / "m.gguf", keys={"context_length": 64}))


def _head(n_tensors: int = 0, n_pairs: int = 0, rest: bytes = b"", version: int = 3) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, n_tensors, n_pairs) + rest


def _pair(kind: int, rest: bytes, key: bytes = b"k") -> bytes:
    return struct.pack("<Q", len(key)) + key + struct.pack("<I", kind) + rest


HOSTILE = [
    ("empty", b"", "too short for a header"),
    ("another file", b"PK\x03\x04" + b"\0" * 60, "does not begin with 'GGUF'"),
    ("version 1", _head(version=1, rest=b"\0" * 8), "version 1 is not read"),
    ("big-endian", _head(version=0x03000000, rest=b"\0" * 8), "it is big-endian"),
    ("billions of tensors", _head(n_tensors=2**60), "claims 1152921504606846976 tensors"),
    ("billions of keys", _head(n_pairs=2**60), "claims 1152921504606846976 keys"),
    ("ends within the keys", _head(n_pairs=1), "ends within the header"),
    ("endless text", _head(n_pairs=1, rest=_pair(8, struct.pack("<Q", 2**62))), "ends within the header"),
    ("endless array", _head(n_pairs=1, rest=_pair(9, struct.pack("<IQ", 4, 2**62))), "ends within the header"),
    ("endless texts", _head(n_pairs=1, rest=_pair(9, struct.pack("<IQ", 8, 2**62))), "claims 4611686018427387904 texts"),
    ("texts that end", _head(n_pairs=1, rest=_pair(9, struct.pack("<IQQ", 8, 2, 1) + b"a" * 20)), "ends within the header"),
    ("array of arrays", _head(n_pairs=1, rest=_pair(9, struct.pack("<IQ", 9, 1))), "k is an array of type 9"),
    ("unknown type", _head(n_pairs=1, rest=_pair(77, b"\0" * 8)), "k has the unknown type 77"),
    (
        "unreadable alignment",
        _head(n_pairs=1, rest=_pair(4, struct.pack("<I", 0), b"general.alignment")),
        "general.alignment is 0",
    ),
    ("nine dimensions", _head(n_tensors=1, rest=struct.pack("<Q", 1) + b"t" + struct.pack("<I", 9)), "has 9 dimensions"),
    (
        "half a block",
        _head(n_tensors=1, rest=struct.pack("<Q", 1) + b"t" + struct.pack("<IQIQ", 1, 100, 12, 0)),
        "no whole number of q4_k blocks",
    ),
    (
        "a tensor of exabytes",
        _head(n_tensors=1, rest=struct.pack("<Q", 1) + b"t" + struct.pack("<IQQIQ", 2, 2**62, 2**62, 0, 0)),
        "lies beyond its end: the file is truncated",
    ),
]


@pytest.mark.parametrize(("data", "reason"), [row[1:] for row in HOSTILE], ids=[row[0] for row in HOSTILE])
def test_hostile_file_is_refused_with_file_and_reason(data: bytes, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(data)
    with pytest.raises(InvalidModelError, match=reason) as caught:
        read_gguf(path)
    assert str(path) in str(caught.value)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.integers(min_value=0, max_value=2000))
def test_truncation_anywhere_is_noticed(cut: int, file: Path, tmp_path: Path) -> None:
    data = file.read_bytes()
    path = tmp_path / "cut.gguf"
    path.write_bytes(data[: max(0, len(data) - 32 - cut)])
    with pytest.raises(InvalidModelError):
        read_gguf(path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.integers(min_value=0, max_value=700), byte=st.integers(min_value=0, max_value=255))
def test_a_flipped_byte_never_ends_in_a_traceback(at: int, byte: int, file: Path, tmp_path: Path) -> None:
    data = bytearray(file.read_bytes())
    data[at] = byte
    path = tmp_path / "flipped.gguf"
    path.write_bytes(data)
    try:
        spec = read_gguf(path)
    except InvalidModelError:
        return
    assert spec.layers


def test_types_of_other_programs_are_measured_by_their_neighbours(tmp_path: Path) -> None:
    """ik_llama.cpp's types have numbers that ggml lacks: their bytes are those up to the next tensor."""
    entries = b"".join(
        struct.pack("<Q", 1) + name + struct.pack("<IQIQ", 1, 256, kind, offset)
        for name, kind, offset in ((b"a", 139, 0), (b"b", 0, 160))
    )
    data = _head(n_tensors=2, rest=entries)
    path = tmp_path / "m.gguf"
    path.write_bytes(data + b"\0" * (-len(data) % 32) + b"\0" * (160 + 1024))
    assert [(tensor.dtype, tensor.bytes) for tensor in read_header(path).tensors] == [("type-139", 160), ("f32", 1024)]
