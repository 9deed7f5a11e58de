"""Already quantized checkpoints: what their configs say, as scheme and method."""

from typing import Any

import pytest

from knowledge.errors import InvalidModelError
from knowledge.model_config import spec_from_config
from knowledge.models import ModelSpec
from knowledge.schemes import parse_scheme

INT4 = {"num_bits": 4, "type": "int", "symmetric": True, "strategy": "group", "group_size": 128, "dynamic": False}
INT8 = {"num_bits": 8, "type": "int", "symmetric": True, "strategy": "channel", "group_size": None, "dynamic": False}
TOKEN8 = {"num_bits": 8, "type": "int", "symmetric": True, "strategy": "token", "dynamic": True}
FLOAT8 = {"num_bits": 8, "type": "float", "strategy": "channel", "symmetric": True, "dynamic": False}
FLOAT8_TOKEN = {"num_bits": 8, "type": "float", "strategy": "token", "dynamic": True, "symmetric": True}
FLOAT8_TENSOR = {"num_bits": 8, "type": "float", "strategy": "tensor", "dynamic": False, "symmetric": True}
NVFP4 = {"num_bits": 4, "type": "float", "strategy": "tensor_group", "group_size": 16, "dynamic": False, "symmetric": True}
NVFP4_LOCAL = NVFP4 | {"dynamic": "local"}


def packed(weights: dict[str, Any], inputs: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    group = {"targets": ["Linear"], "weights": weights, "input_activations": inputs, "output_activations": None}
    return {
        "quant_method": "compressed-tensors",
        "quantization_status": "compressed",
        "config_groups": {"group_0": group},
        **more,
    }


def read(quantization: object, key: str = "quantization_config") -> ModelSpec:
    config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "num_hidden_layers": 2, "hidden_size": 64}
    return spec_from_config({**config, key: quantization}, name="x", source="config.json")


AWQ = {"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True, "version": "gemm"}
FP8_BLOCKS = {"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": [128, 128]}
HQQ = {"quant_method": "hqq", "quant_config": {"weight_quant_params": {"nbits": 4, "group_size": 64}}}
AUTOROUND = {"quant_method": "auto-round", "bits": 4, "group_size": 128, "sym": True, "data_type": "int"}
MODELOPT_FP8 = {"quant_method": "modelopt", "quant_algo": "FP8", "kv_cache_quant_algo": "FP8"}

FORMATS = [
    ("gptq", {"quant_method": "gptq", "bits": 4, "group_size": 128, "sym": True, "desc_act": False}, "w4a16-g128-sym", "gptq"),
    ("gptq, channel", {"quant_method": "gptq", "bits": 8, "group_size": -1, "sym": True}, "w8a16-channel-sym", "gptq"),
    ("awq", AWQ, "w4a16-g128-asym", "awq"),
    ("awq, older names", {"quant_method": "awq", "w_bit": 4, "q_group_size": 64}, "w4a16-g64", "awq"),
    ("nf4", {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}, "nf4", "rtn"),
    (
        "nf4, double",
        {"load_in_4bit": True, "load_in_8bit": False, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True},
        "nf4-dq",
        "rtn",
    ),
    ("llm.int8", {"quant_method": "bitsandbytes", "load_in_8bit": True}, "w8a8", "llm.int8"),
    ("fp8 in blocks", FP8_BLOCKS, "fp8-block", "rtn"),
    ("fp8, static", {"quant_method": "fp8", "activation_scheme": "static"}, "fp8-astatic", "rtn"),
    ("fbgemm", {"quant_method": "fbgemm_fp8"}, "fp8", "rtn"),
    ("mxfp4", {"quant_method": "mxfp4"}, "mxfp4a16", "rtn"),
    ("hqq", HQQ, "w4a16-g64-asym", "hqq"),
    (
        "aqlm, 1x16",
        {"quant_method": "aqlm", "num_codebooks": 1, "nbits_per_codebook": 16, "in_group_size": 8, "out_group_size": 1},
        "codebook2",
        "aqlm",
    ),
    ("quip#", {"quant_method": "quip", "codebook": "E8P12"}, "codebook2", "quip#"),
    ("quip#, three bits", {"quant_method": "quip", "codebook": "E8P12RVQ3B"}, "codebook3", "quip#"),
    ("exl2", {"quant_method": "exl2", "bits": 4.5}, "exl2:4.5bpw", "exl2"),
    ("auto-round", AUTOROUND, "w4a16-g128-sym", "autoround"),
    ("auto-round, mxfp4", {"quant_method": "auto-round", "bits": 4, "data_type": "mx_fp", "act_bits": 4}, "mxfp4", "autoround"),
    ("quanto", {"quant_method": "quanto", "weights": "int8"}, "w8a16-channel", "quanto"),
    ("modelopt fp8, KV fp8", MODELOPT_FP8, "fp8-astatic-kvfp8", "rtn"),
    ("modelopt nvfp4", {"quant_method": "modelopt", "quant_algo": "NVFP4"}, "nvfp4", "rtn"),
    ("modelopt awq", {"quant_method": "modelopt", "quant_algo": "W4A16_AWQ"}, "w4a16-g128", "awq"),
    ("compressed w4a16", packed(INT4, format="pack-quantized"), "w4a16-g128-sym", None),
    ("compressed w4a16, asymmetric", packed(INT4 | {"symmetric": False}), "w4a16-g128-asym", None),
    ("compressed w8a8", packed(INT8, TOKEN8, format="int-quantized"), "w8a8-channel-sym", None),
    ("compressed fp8", packed(FLOAT8, FLOAT8_TOKEN, format="float-quantized"), "fp8-channel", None),
    ("compressed fp8, static", packed(FLOAT8_TENSOR, FLOAT8_TENSOR), "fp8-tensor-astatic", None),
    ("compressed nvfp4", packed(NVFP4, NVFP4_LOCAL, format="nvfp4-pack-quantized"), "nvfp4", None),
    ("compressed nvfp4a16", packed(NVFP4, format="nvfp4-pack-quantized"), "nvfp4a16", None),
]


@pytest.mark.parametrize(("config", "name", "method"), [row[1:] for row in FORMATS], ids=[row[0] for row in FORMATS])
def test_format_is_recognised(config: dict[str, Any], name: str, method: str | None) -> None:
    spec = read(config)
    assert spec.stored_scheme is not None
    assert (spec.stored_scheme.name, spec.stored_method) == (name, method)
    assert parse_scheme(spec.stored_scheme.name).weights_name == spec.stored_scheme.weights_name


def test_kv_scheme_is_read_besides_the_weights() -> None:
    kv = read(packed(INT4, kv_cache_scheme={"num_bits": 8, "type": "float", "strategy": "tensor"})).stored_scheme
    assert kv is not None
    assert (kv.kv_bits, kv.kv_name, kv.weights_name) == (8, "kvfp8", "w4a16-g128-sym")


def test_mlx_writes_its_own_key() -> None:
    spec = read({"group_size": 64, "bits": 4}, key="quantization")
    assert spec.stored_scheme == parse_scheme("mlx:q4")


def test_layers_stored_otherwise_are_told() -> None:
    config = packed(INT4)
    config["config_groups"]["group_1"] = {"targets": ["re:.*down_proj"], "weights": INT8, "input_activations": None}
    spec = read(config)
    assert spec.stored_scheme is not None
    assert spec.stored_scheme.w_bits == 4
    assert "some layers are stored as w8a16-channel-sym" in spec.notes[0]


NOT_UNDERSTOOD = [
    ("unknown method", {"quant_method": "vaporware"}, "method 'vaporware' is not understood"),
    ("no method", {"bits": 4}, "method 'unnamed' is not understood"),
    ("no bits", {"quant_method": "gptq"}, "bits not stated"),
    ("no such width", {"quant_method": "exl2"}, "bits not stated"),
    ("no codebooks", {"quant_method": "aqlm"}, "codebooks not stated"),
    ("unknown algorithm", {"quant_method": "modelopt", "quant_algo": "FP3"}, "quant_algo 'FP3' is not known"),
    ("not finished", packed(INT4, quantization_status="calibration"), "begun but not finished"),
    ("no groups", {"quant_method": "compressed-tensors"}, "no config_groups"),
]


@pytest.mark.parametrize(("config", "note"), [row[1:] for row in NOT_UNDERSTOOD], ids=[row[0] for row in NOT_UNDERSTOOD])
def test_what_is_not_understood_becomes_a_note(config: dict[str, Any], note: str) -> None:
    spec = read(config)
    assert spec.stored_scheme is None
    assert note in spec.notes[0]
    assert spec.layers == 2


@pytest.mark.parametrize("bits", ["four", 0, -4, 99, [4]], ids=str)
def test_impossible_bits_are_refused(bits: object) -> None:
    with pytest.raises(InvalidModelError, match="quantization_config: bits is"):
        read({"quant_method": "gptq", "bits": bits, "group_size": 128})
