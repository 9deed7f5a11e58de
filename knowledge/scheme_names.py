"""Names of schemes, read and written: `w4a16-g128-kv8`, `gguf:q4_k_m`.

What is written is read back to the same formats:

    scheme   := weights ["-" kv]
    weights  := "w" BITS "a" ["fp"] BITS [group] [symmetry] [gran] integers           w4a16-g128-asym   w8a8   w4afp8
              | "fp" BITS ["a" ["int"] BITS] [group|"-block"] [gran] floats            fp8 (= fp8a8)  fp8a16  fp4 (bitsandbytes)
              | "nf" BITS ["-dq"]                                   NormalFloat        nf4   nf4-dq
              | ("mxint"|"mxfp"|"nvfp") BITS ["a" BITS] [group]     block formats      mxfp4 (= mxfp4a4)  mxint4a8-g128
              | "codebook" BITS | "binary" BITS                     learned codes      codebook2
              | "gguf:" TYPE ["-pure"] | "exl2:" BPW "bpw" | "exl3:" … | "mlx:q" BITS ["g" N]   file types
    group    := "-g" N | "-channel" | "-tensor"
    symmetry := "-sym" | "-asym"
    gran     := "-astatic" | "-atensor" | "-achannel" | "-acluster" | "-ag" N   (activations; default: dynamic, per token)
    kv       := "kv" BITS ["g" N | "tensor" | "cluster" | "row"] | "kvfp8" | "kvfp4" | "kvmxfp4" | "kvnvfp4"
              | "kvq8_0" | "kvq5_1" | … (llama.cpp types) | "kivi" BITS

What a name does not state (group, symmetry) is None: unknown, never assumed.
"""

import re
from functools import lru_cache
from typing import NamedTuple

from knowledge.errors import InvalidSchemeError
from knowledge.ggml import GGUF_FILE_TYPES
from knowledge.quant_args import BLOCK_GROUP, UNQUANTIZED_BITS, Dtype, QuantArgs, Strategy

_ACTIVATION_DTYPES = ("fp", "mxint", "mxfp", "nvfp")
"""Weight formats whose activations, where quantized, have the same format unless the name says otherwise."""

_KV_BLOCK_TYPES = ("q8_0", "q6_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl", "q8_kv")

_ALIASES = {
    "none": "w16a16",
    "bf16": "w16a16",
    "fp16": "w16a16",
    "int8": "w8a16",
    "int4": "w4a16",
    "w8a8-int8": "w8a8",
    "w8a8-fp8": "fp8",
    "fp8-dynamic": "fp8",
    "fp8a8": "fp8",
    "fp8-static": "fp8-astatic",
    "llm.int8": "w8a8",
    "nf4-double": "nf4-dq",
    "bnb-nf4": "nf4",
    "bnb-fp4": "fp4",
    "mxfp4a4": "mxfp4",
    "nvfp4a4": "nvfp4",
    "mxfp8a8": "mxfp8",
    "mxfp6a6": "mxfp6",
}

FORMS = (
    "w4a16-g128",
    "w8a8",
    "fp8",
    "nf4",
    "nvfp4",
    "mxfp4",
    "gguf:q4_k_m",
    "exl2:4.0bpw",
    "mlx:q4",
    "with -kv8, -kvfp8, -kvq8_0, -kivi2 behind it for the KV cache",
)
"""Examples of every form of name, for messages and help."""

_KV = re.compile(
    r"^(?:kv(?P<bits>\d+)(?:g(?P<group>\d+)|(?P<scope>tensor|cluster|row))?"
    r"|kv(?P<float>mxfp|nvfp|fp)(?P<fbits>\d+)|kv(?P<type>i?q\d_\w+)|kivi(?P<kivi>\d+)(?:g(?P<kgroup>\d+))?)$"
)
_NUMBER = r"\d+(?:\.\d+)?"
_INT = re.compile(rf"^w(?P<w>{_NUMBER})a(?P<adtype>fp)?(?P<a>\d+)(?P<rest>(?:-.*)?)$")
_FLOAT = re.compile(rf"^(?P<dtype>mxint|mxfp|nvfp|fp|nf)(?P<w>{_NUMBER})(?:a(?P<adtype>int)?(?P<a>\d+))?(?P<rest>(?:-.*)?)$")
_CODES = re.compile(rf"^(?P<dtype>codebook|binary)(?P<w>{_NUMBER})(?:a(?P<a>\d+))?$")
_EXL = re.compile(rf"^(?P<kind>exl2|exl3):(?P<bpw>{_NUMBER})(?:bpw)?$")
_MLX = re.compile(r"^mlx:q(?P<bits>[234568])(?:g(?P<group>32|64|128))?$")


class WeightFormat(NamedTuple):
    """What a name says of weights and activations; None = left at 16 bits."""

    weights: QuantArgs | None = None
    activations: QuantArgs | None = None
    file_type: str | None = None


def read_name(text: str) -> tuple[WeightFormat, QuantArgs | None]:
    """The formats of weights and activations and that of the KV cache that a scheme's name states, without regard to case.

    Raises:
        InvalidSchemeError: the text is no scheme name; the message shows the forms.
    """
    name = text.strip().lower().replace("_gguf", "")
    kv: QuantArgs | None = None
    if "-kv" in name:
        name, _, kv_text = name.partition("-kv")
        kv = _kv_part(f"kv{kv_text}", text)
    elif "-kivi" in name:
        name, _, rest = name.partition("-kivi")
        kv = _kv_part(f"kivi{rest}", text)
    elif name.startswith(("kv", "kivi")):
        name, kv = "w16a16", _kv_part(name, text)
    return _weights_part(_ALIASES.get(name, name), text), kv


def parse_kv(text: str) -> QuantArgs | None:
    """The format of a KV cache that a name states; None for `kv16`.

    Raises:
        InvalidSchemeError: the text is no KV name.
    """
    return _kv_part(text.strip().lower(), text)


# Some dozen weight formats and caches make up thousands of names: each part is parsed once, and again only to complain.


def _weights_part(name: str, text: str) -> WeightFormat:
    try:
        return _known_weights(name)
    except InvalidSchemeError:
        return _parse_weights(name, text)


def _kv_part(name: str, text: str) -> QuantArgs | None:
    try:
        return _known_kv(name)
    except InvalidSchemeError:
        return _parse_kv(name, text)


@lru_cache(maxsize=2048)
def _known_weights(name: str) -> WeightFormat:
    return _parse_weights(name, name)


@lru_cache(maxsize=256)
def _known_kv(name: str) -> QuantArgs | None:
    return _parse_kv(name, name)


def _parse_weights(name: str, text: str) -> WeightFormat:
    if re.fullmatch(r"[it]?q\d_\w+(-pure)?", name):  # llama.cpp's own names, as people write them
        name = f"gguf:{name}"
    if ":" in name:
        return _parse_file_type(name, text)
    if found := _INT.match(name):
        weights, activations = _parse_plain("int", found, text)
    elif found := _FLOAT.match(name):
        weights, activations = _parse_plain(found["dtype"], found, text)
    elif found := _CODES.match(name):
        weights = QuantArgs(num_bits=float(found["w"]), dtype=found["dtype"])  # type: ignore[arg-type]
        activations = _activations(int(found["a"] or 16), "int", [])
    else:
        raise _unreadable(text)
    if weights and weights.num_bits == UNQUANTIZED_BITS:
        weights = None
    return WeightFormat(weights, activations)


def _parse_plain(dtype: str, found: re.Match[str], text: str) -> tuple[QuantArgs | None, QuantArgs | None]:
    """Weights and activations of an integer or float name with its `-…` options."""
    options = [part for part in found["rest"].split("-") if part]
    bits = float(found["w"])
    default_a = {"fp": 16 if bits == 4 else 8, "mxfp": bits, "nvfp": bits}.get(dtype, UNQUANTIZED_BITS)
    a_bits = float(found["a"] or default_a)
    args: dict[str, object] = {}
    activation_options: list[str] = []
    for part in options:
        if (group := re.fullmatch(r"g(\d+)", part)) and "strategy" not in args:
            args |= {"strategy": "group", "group_size": int(group[1])}
        elif part in ("channel", "tensor") and "strategy" not in args:
            args["strategy"] = part
        elif part == "block" and dtype == "fp" and "strategy" not in args:
            args |= {"strategy": "block", "group_size": 128}
            activation_options.append("ag128")
        elif part in ("sym", "asym") and dtype == "int" and "symmetric" not in args:
            args["symmetric"] = part == "sym"
        elif part == "dq" and dtype == "nf":
            args["type_name"] = "double_quant"
        elif re.fullmatch(r"a(static|tensor|channel|cluster|g\d+)", part) and a_bits < UNQUANTIZED_BITS:
            activation_options.append(part)
        else:
            raise _unreadable(text, part)
    if "strategy" not in args and (dtype in BLOCK_GROUP or (dtype == "fp" and bits == 4)):
        args |= {"strategy": "group", "group_size": BLOCK_GROUP.get(dtype, 64)}
    weights = QuantArgs(num_bits=bits, dtype=dtype, **args)  # type: ignore[arg-type]
    a_dtype = found["adtype"] or (dtype if dtype in _ACTIVATION_DTYPES else "int")
    return weights, _activations(a_bits, a_dtype, activation_options, weights)


def _activations(bits: float, dtype: str, options: list[str], weights: QuantArgs | None = None) -> QuantArgs | None:
    """Activation format: dynamic and per token unless an option says otherwise; block formats share the weights' group."""
    if bits >= UNQUANTIZED_BITS:
        return None
    option = options[-1] if options else None
    if option == "astatic":
        return QuantArgs(num_bits=bits, dtype=dtype, strategy="tensor")  # type: ignore[arg-type]
    if option and (group := re.fullmatch(r"ag(\d+)", option)):
        return QuantArgs(num_bits=bits, dtype=dtype, strategy="group", group_size=int(group[1]), dynamic=True)  # type: ignore[arg-type]
    if option in ("atensor", "acluster", "achannel"):  # per-channel scales are calibrated, so stored
        strategy, dynamic = option[1:], option == "atensor"
        return QuantArgs(num_bits=bits, dtype=dtype, strategy=strategy, dynamic=dynamic)  # type: ignore[arg-type]
    if dtype in ("mxint", "mxfp", "nvfp") and weights:
        size = BLOCK_GROUP.get(dtype, weights.group_size or 32)
        return QuantArgs(num_bits=bits, dtype=dtype, strategy="group", group_size=size, dynamic=True)  # type: ignore[arg-type]
    return QuantArgs(num_bits=bits, dtype=dtype, strategy="token", dynamic=True)  # type: ignore[arg-type]


def _parse_file_type(name: str, text: str) -> WeightFormat:
    if found := _EXL.match(name):
        bpw = float(found["bpw"])
        dtype: Dtype = "int" if found["kind"] == "exl2" else "codebook"
        return WeightFormat(weights=QuantArgs(num_bits=bpw, dtype=dtype), file_type=f"{found['kind']}:{_bpw(bpw)}bpw")
    if found := _MLX.match(name):
        group = int(found["group"] or 64)
        suffix = "" if group == 64 else f"g{group}"
        weights = QuantArgs(num_bits=int(found["bits"]), strategy="group", group_size=group, symmetric=False)
        return WeightFormat(weights=weights, file_type=f"mlx:q{found['bits']}{suffix}")
    kind, _, rest = name.partition(":")
    base = rest.removesuffix("-pure")
    if kind != "gguf" or base not in GGUF_FILE_TYPES:
        raise _unreadable(text)
    file_type = GGUF_FILE_TYPES[base]
    if file_type.bits == UNQUANTIZED_BITS:
        return WeightFormat(file_type=name)
    weights = QuantArgs(
        num_bits=file_type.bits, dtype=file_type.dtype, strategy="group", group_size=file_type.group_size,
        symmetric=file_type.symmetric, type_name=base,
    )  # fmt: skip
    return WeightFormat(weights=weights, file_type=name)


def _parse_kv(name: str, text: str) -> QuantArgs | None:
    found = _KV.match(name)
    if not found:
        raise _unreadable(text, name)
    if found["type"]:
        if found["type"] not in _KV_BLOCK_TYPES:
            raise _unreadable(text, name)
        bits = float(re.sub(r"\D", "", found["type"].split("_")[0]))
        if found["type"] == "q8_kv":  # one scale for a row, the key of one token
            return QuantArgs(num_bits=bits, strategy="row", dynamic=True, type_name="q8_kv")
        return QuantArgs(num_bits=bits, strategy="group", group_size=32, dynamic=True, type_name=found["type"])
    if found["float"]:
        dtype = found["float"]
        group = BLOCK_GROUP.get(dtype)
        strategy: Strategy = "group" if group else "tensor"
        return QuantArgs(num_bits=float(found["fbits"]), dtype=dtype, strategy=strategy, group_size=group, dynamic=True)  # type: ignore[arg-type]
    if found["kivi"]:
        group_size = int(found["kgroup"] or 32)
        bits = float(found["kivi"])
        return QuantArgs(
            num_bits=bits, strategy="group", group_size=group_size, symmetric=False, dynamic=True, type_name="kivi"
        )
    bits = float(found["bits"])
    if bits == UNQUANTIZED_BITS:
        return None
    if found["group"]:
        return QuantArgs(num_bits=bits, strategy="group", group_size=int(found["group"]), dynamic=True)
    return QuantArgs(num_bits=bits, strategy=found["scope"] or "token", dynamic=True)  # type: ignore[arg-type]


def weights_name(weights: QuantArgs | None, activations: QuantArgs | None, file_type: str | None) -> str:
    """The name of formats of weights and activations, without a KV cache."""
    if file_type:
        return file_type
    a_bits = activations.num_bits if activations else UNQUANTIZED_BITS
    if weights is None:
        stem = "w16afp" if activations and activations.dtype == "fp" else "w16a"
        return f"{stem}{_num(a_bits)}" + _activation_suffix(activations, None)
    bits, dtype = _num(weights.num_bits), weights.dtype
    a_dtype = activations.dtype if activations else dtype
    if dtype in ("codebook", "binary"):
        return f"{dtype}{bits}" + ("" if a_bits == UNQUANTIZED_BITS else f"a{_num(a_bits)}")
    if dtype in ("int", "kquant"):
        stem = f"w{bits}a{'fp' if a_dtype == 'fp' else ''}{_num(a_bits)}"
    elif a_dtype != dtype:
        stem = f"{dtype}{bits}aint{_num(a_bits)}"
    else:
        own = {"fp": 16 if bits == "4" else 8, "mxfp": weights.num_bits, "nvfp": weights.num_bits}
        default_a = own.get(dtype, UNQUANTIZED_BITS)
        stem = f"{dtype}{bits}" + ("" if a_bits == default_a else f"a{_num(a_bits)}")
    own_group = BLOCK_GROUP.get(dtype) or (64 if dtype == "fp" and bits == "4" else None)
    if weights.strategy == "group" and weights.group_size != own_group:
        stem += f"-g{weights.group_size}"
    elif weights.strategy in ("channel", "tensor", "block"):
        stem += f"-{weights.strategy}"
    if weights.symmetric is not None:
        stem += "-sym" if weights.symmetric else "-asym"
    if weights.type_name == "double_quant":
        stem += "-dq"
    return stem + _activation_suffix(activations, weights)


def _activation_suffix(activations: QuantArgs | None, weights: QuantArgs | None) -> str:
    if activations is None or activations == _activations(activations.num_bits, activations.dtype, [], weights):
        return ""
    if weights is not None and weights.strategy == "block" and activations.strategy == "group":
        return ""
    if activations.strategy == "tensor":
        return "-atensor" if activations.dynamic else "-astatic"
    return f"-ag{activations.group_size}" if activations.strategy == "group" else f"-a{activations.strategy}"


def kv_name(args: QuantArgs) -> str:
    """The name of a format of the KV cache."""
    bits = _num(args.num_bits)
    if args.type_name == "kivi":
        return f"kivi{bits}" + ("" if args.group_size == 32 else f"g{args.group_size}")
    if args.type_name:
        return f"kv{args.type_name}"
    if args.dtype != "int":
        return f"kv{args.dtype}{bits}"
    if args.strategy == "group":
        return f"kv{bits}g{args.group_size}"
    return f"kv{bits}" + ("" if args.strategy in (None, "token") else str(args.strategy))


def _unreadable(text: str, part: str | None = None) -> InvalidSchemeError:
    what = f"cannot read {part!r} in scheme {text!r}" if part and part != text else f"cannot read scheme {text!r}"
    return InvalidSchemeError(what, given=text, allowed=FORMS, hint="`qadvisor schemes` lists the formats with their engines")


def _num(bits: float) -> str:
    return f"{bits:g}"


def _bpw(bpw: float) -> str:
    return f"{bpw:.1f}" if round(bpw, 1) == bpw else f"{bpw:g}"
