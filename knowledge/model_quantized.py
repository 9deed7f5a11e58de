"""How a checkpoint is already quantized: `quantization_config` of a config.json to scheme and method.

Field names as the libraries write them: AutoGPTQ/GPTQModel, AutoAWQ, compressed-tensors (vllm-project/compressed-tensors
`quantization/quant_config.py`), transformers' `utils/quantization_config.py` for bitsandbytes, HQQ, AQLM, FP8, MXFP4.
"""

import re
from dataclasses import replace
from typing import Any

from knowledge.model_fields import Fields
from knowledge.schemes import QuantArgs, QuantScheme, Strategy, parse_scheme

Stored = tuple[QuantScheme | None, str | None, tuple[str, ...]]
"""Scheme, method (name in `knowledge.recipes`) and notes; all None or empty where the checkpoint is not quantized."""

_NOT_QUANTIZED: Stored = (None, None, ())
_STRATEGIES: dict[str, Strategy] = {
    "tensor": "tensor", "channel": "channel", "group": "group", "block": "block", "token": "token", "tensor_group": "group",
}  # fmt: skip


def stored_format(config: Fields) -> Stored:
    """What `quantization_config` (or compressed-tensors' older `compression_config`) of `config` says.

    A method or format that is not known gives scheme None with a note, never an error: the facts about the model still hold.

    Raises:
        InvalidModelError: a field has a value that cannot be.
    """
    quant = config.inner("quantization_config", "compression_config")
    if not quant.values:
        return _mlx(config)
    method = (quant.text("quant_method", "quant_type") or ("bitsandbytes" if "load_in_4bit" in quant.values else "")).lower()
    reader = _READERS.get(method)
    if reader is None:
        return None, None, (f"{config.where}: quantization_config of method {method or 'unnamed'!r} is not understood",)
    return reader(quant)


def _mlx(config: Fields) -> Stored:
    """MLX writes `quantization: {group_size, bits}` (ml-explore/mlx-lm `mlx_lm/utils.py`)."""
    quant = config.inner("quantization")
    bits, group = quant.whole("bits", most=16), quant.whole("group_size", most=65536)
    if bits is None or group is None:
        return _NOT_QUANTIZED
    return _scheme(f"mlx:q{bits}{'' if group == 64 else f'g{group}'}", config, "rtn")


def _scheme(name: str, config: Fields, method: str, *notes: str) -> Stored:
    """The scheme called `name`; a note where there is no such scheme."""
    try:
        return parse_scheme(name), method, notes
    except ValueError:  # InvalidSchemeError: a width or group that no scheme has
        return None, method, (*notes, f"{config.where}: format {name!r} is not known")


def _integers(quant: Fields, method: str) -> Stored:
    """GPTQ and AWQ: integers in groups along the inputs."""
    bits = quant.whole("bits", "w_bit", most=16)
    group = quant.whole("group_size", "q_group_size", least=-1, most=2**20)
    if bits is None:
        return None, method, (f"{quant.where}: bits not stated",)
    # AWQ always stores zero points unless told otherwise; GPTQ's `sym` defaults to true (GPTQModel QuantizeConfig)
    asymmetric = quant.flag("zero_point")
    symmetric = quant.flag("sym") if asymmetric is None else not asymmetric
    grouping = "" if group in (None, 0) else "-channel" if group == -1 else f"-g{group}"
    return _scheme(f"w{bits}a16{grouping}{'' if symmetric is None else '-sym' if symmetric else '-asym'}", quant, method)


def _bitsandbytes(quant: Fields) -> Stored:
    if quant.flag("load_in_8bit", "_load_in_8bit"):
        return _scheme("w8a8", quant, "llm.int8")
    kind = (quant.text("bnb_4bit_quant_type") or "fp4").lower()
    double = quant.flag("bnb_4bit_use_double_quant")
    return _scheme(f"{kind}-dq" if double and kind == "nf4" else kind, quant, "rtn")


def _fp8(quant: Fields) -> Stored:
    """FP8 of transformers (`fbgemm_fp8`) and of DeepSeek's and Qwen's own checkpoints (`weight_block_size`)."""
    if quant.items("weight_block_size"):
        return _scheme("fp8-block", quant, "rtn")
    static = (quant.text("activation_scheme") or "dynamic").lower() == "static"
    return _scheme("fp8-astatic" if static else "fp8", quant, "rtn")


def _hqq(quant: Fields) -> Stored:
    """HQQ's `BaseQuantizeConfig`, or transformers' `HqqConfig` with it inside."""
    weights = quant.inner("quant_config", "weight_quant_params")
    weights = weights.inner("weight_quant_params") if weights.find("weight_quant_params") else weights
    source = weights if weights.values else quant
    bits, group = source.whole("nbits", "bits", most=16), source.whole("group_size", least=-1, most=2**20)
    if bits is None:
        return None, "hqq", (f"{quant.where}: bits not stated",)
    return _scheme(f"w{bits}a16" + (f"-g{group}" if group and group > 0 else "") + "-asym", quant, "hqq")


def _aqlm(quant: Fields) -> Stored:
    """AQLM: `num_codebooks` codes of `nbits_per_codebook` bits for `in_group_size` weights."""
    books, bits, group = quant.whole("num_codebooks"), quant.whole("nbits_per_codebook"), quant.whole("in_group_size")
    if not (books and bits and group):
        return None, "aqlm", (f"{quant.where}: codebooks not stated",)
    return _scheme(f"codebook{books * bits / group / (quant.whole('out_group_size') or 1):g}", quant, "aqlm")


def _quip(quant: Fields) -> Stored:
    bits = quant.number("bits", "codebook_bits")
    if bits is None:
        found = re.search(r"E8P?(\d+)RVQ(\d)B|E8P12", quant.text("codebook") or "")
        bits = (float(found[2]) if found[2] else 2.0) if found else None
    return _scheme(f"codebook{bits:g}", quant, "quip#") if bits else (None, "quip#", (f"{quant.where}: bits not stated",))


def _mxfp4(quant: Fields) -> Stored:
    return _scheme("mxfp4a16", quant, "rtn", "experts only are stored in MXFP4; attention, embeddings and head are not")


def _exl(quant: Fields) -> Stored:
    bits, kind = quant.number("bits"), (quant.text("quant_method") or "exl2").lower()
    return _scheme(f"{kind}:{bits:g}bpw", quant, kind) if bits else (None, kind, (f"{quant.where}: bits not stated",))


def _autoround(quant: Fields) -> Stored:
    data = (quant.text("data_type") or "int").lower()
    if data.startswith(("mx_fp", "nv_fp", "fp")):
        name = {"mx_fp": "mxfp4", "nv_fp": "nvfp4"}.get(data[:5], "fp8")
        return _scheme(name + ("a16" if (quant.whole("act_bits", most=32) or 16) >= 16 else ""), quant, "autoround")
    return _integers(quant, "autoround")


def _quanto(quant: Fields) -> Stored:
    kind = (quant.text("weights") or "").lower()
    name = {"int8": "w8a16-channel", "int4": "w4a16-g128", "int2": "w2a16-g128", "float8": "fp8a16"}.get(kind)
    return _scheme(name, quant, "quanto") if name else (None, "quanto", (f"{quant.where}: weights not stated",))


def _compressed_tensors(quant: Fields) -> Stored:
    """compressed-tensors: the scheme of the group with the fewest weight bits, the others in a note."""
    if (quant.text("quantization_status") or "compressed") in ("initialized", "calibration"):
        return None, None, (f"{quant.where}: a quantization was begun but not finished",)
    kv = _arguments(quant.inner("kv_cache_scheme"))
    groups = quant.inner("config_groups")
    schemes = []
    for name in groups.values:
        group = groups.inner(name)
        weights = _arguments(group.inner("weights"), group.text("format") or quant.text("format"))
        schemes.append(QuantScheme(weights=weights, activations=_arguments(group.inner("input_activations")), kv_cache=kv))
    if not schemes:
        return (QuantScheme(kv_cache=kv), "rtn", ()) if kv else (None, None, (f"{quant.where}: no config_groups",))
    chosen = min(schemes, key=lambda scheme: (scheme.w_bits, scheme.a_bits))
    others = sorted({scheme.weights_name for scheme in schemes} - {chosen.weights_name})
    notes = (f"some layers are stored as {', '.join(others)}",) if others else ()
    return chosen, None, notes


def _arguments(args: Fields, container: str | None = None) -> QuantArgs | None:
    """compressed-tensors' `QuantizationArgs`; None where the group leaves this kind of tensor alone."""
    bits = args.number("num_bits")
    if bits is None or bits >= 16:
        return None
    kind = (args.text("type") or "int").lower()
    strategy = _STRATEGIES.get((args.text("strategy") or "").lower())
    group = args.whole("group_size", least=-1, most=2**20)
    dtype: Any = kind if kind in ("int", "fp") else "fp"
    if dtype == "fp" and bits in (4, 6, 8) and strategy == "group":
        micro = (container or "").startswith("mx") or group == 32
        dtype = "mxfp" if micro else "nvfp" if bits == 4 else "fp"
    if group and group > 0 and strategy in (None, "group"):
        strategy = "group"
    elif strategy == "block":
        sides = args.items("block_structure") or [128, 128]
        group = sides[-1] if isinstance(sides[-1], int) else 128
    else:
        group = None
    if strategy == "group" and group is None:
        strategy = None
    symmetric = args.flag("symmetric") if dtype == "int" and not _is_dynamic(args) else None  # of stored codes only
    return QuantArgs(
        num_bits=bits, dtype=dtype, strategy=strategy, group_size=group, symmetric=symmetric, dynamic=_is_dynamic(args)
    )  # fmt: skip


def _is_dynamic(args: Fields) -> bool:
    """`dynamic` is true, false, or `local` (NVFP4: the block scales are dynamic, the global one is not)."""
    value = args.values.get("dynamic")
    return value in (True, "local")


def _modelopt(quant: Fields) -> Stored:
    """NVIDIA Model-Optimizer: `quant_algo` (`hf_quant_config.json` under `quantization`, newer files inside config.json)."""
    algorithm = (quant.text("quant_algo") or "").upper()
    name = {
        "FP8": "fp8-astatic", "FP8_PB_WO": "fp8-block", "NVFP4": "nvfp4", "NVFP4_AWQ": "nvfp4", "W4A16_AWQ": "w4a16-g128",
        "W4A8_AWQ": "w4afp8-g128", "INT8_SQ": "w8a8", "W8A8_SQ_PER_CHANNEL": "w8a8", "W4A16": "w4a16",
    }.get(algorithm)  # fmt: skip
    if name is None:
        return None, None, (f"{quant.where}: quant_algo {algorithm!r} is not known",)
    method = "awq" if "AWQ" in algorithm else "smoothquant" if "SQ" in algorithm else "rtn"
    scheme, method_name, notes = _scheme(name, quant, method)
    if scheme and (quant.text("kv_cache_quant_algo") or "").upper() == "FP8":
        scheme = replace(scheme, kv_cache=parse_scheme("kvfp8").kv_cache)
    return scheme, method_name, notes


_READERS = {
    "gptq": lambda quant: _integers(quant, "gptq"),
    "gptqmodel": lambda quant: _integers(quant, "gptq"),
    "awq": lambda quant: _integers(quant, "awq"),
    "auto-round": _autoround,
    "intel/auto-round": _autoround,
    "bitsandbytes": _bitsandbytes,
    "fp8": _fp8,
    "fbgemm_fp8": _fp8,
    "finegrained_fp8": _fp8,
    "hqq": _hqq,
    "aqlm": _aqlm,
    "quip": _quip,
    "quip#": _quip,
    "quip_sharp": _quip,
    "mxfp4": _mxfp4,
    "exl2": _exl,
    "exl3": _exl,
    "quanto": _quanto,
    "compressed-tensors": _compressed_tensors,
    "compressed_tensors": _compressed_tensors,
    "modelopt": _modelopt,
    "modelopt_fp4": _modelopt,
}
