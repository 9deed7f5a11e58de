"""Number formats: how weights, activations and the KV cache are represented, and what such a format is called.

A scheme says nothing about the algorithm that finds the values (`knowledge.recipes`) and nothing about a model
(`knowledge.memory`). Names parse and print both ways:

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
from typing import Literal

from knowledge.errors import InvalidSchemeError
from knowledge.ggml import GGML_TYPES, GGUF_FILE_TYPES
from knowledge.values import value

Dtype = Literal["int", "fp", "nf", "mxint", "mxfp", "nvfp", "codebook", "binary", "kquant"]
Strategy = Literal["tensor", "channel", "group", "block", "token", "cluster", "row"]

UNQUANTIZED_BITS = 16
"""Bits of a tensor that is not quantized; bf16 and fp16 are one thing here."""

_BLOCK_GROUP: dict[str, int] = {"mxfp": 32, "nvfp": 16, "nf": 64}
"""Group length that is part of the format (OCP MX: 32; NVFP4: 16; bitsandbytes: 64)."""

_ACTIVATION_DTYPES = ("fp", "mxint", "mxfp", "nvfp")
"""Weight formats whose activations, where quantized, have the same format unless the name says otherwise."""

_KV_BLOCK_TYPES = ("q8_0", "q6_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl", "q8_kv")


@value
class QuantArgs:
    """How one tensor kind is represented; None means not stated.

    Vocabulary of compressed-tensors (`QuantizationArgs`), with the field's further number formats as `dtype`.
    """

    num_bits: float
    """Nominal bits of a code, scales not counted (2.5 and the like for mixes)."""
    dtype: Dtype = "int"
    strategy: Strategy | None = None
    """Over what one scale is shared: tensor, output channel, group along the input dimension, 2-D block, token."""
    group_size: int | None = None
    """Elements that share a scale, for strategy `group` (and `block`, the edge of the square)."""
    symmetric: bool | None = None
    dynamic: bool = False
    """Scales computed at run time (activations, KV cache) rather than stored."""
    type_name: str | None = None
    """Name of the storage type where bits do not determine it: a ggml type (`q8_0`), `double_quant`, `kivi`."""

    def __post_init__(self) -> None:
        if not 0 < self.num_bits <= UNQUANTIZED_BITS:
            raise InvalidSchemeError(
                f"{self.num_bits:g} bits cannot be", given=f"{self.num_bits:g}", allowed="more than 0, at most 16"
            )
        if self.strategy == "group" and (self.group_size is None or self.group_size < 1):
            raise InvalidSchemeError("a group needs a length of at least 1", given=str(self.group_size), allowed="g16 … g1024")


@value
class QuantScheme:
    """Number formats of weights, activations and KV cache; None = left at 16 bits.

    `file_type` names the container's own mix (`gguf:q4_k_m`, `exl2:4.0bpw`, `mlx:q4`), in which tensors differ.
    """

    weights: QuantArgs | None = None
    activations: QuantArgs | None = None
    kv_cache: QuantArgs | None = None
    file_type: str | None = None

    @property
    def w_bits(self) -> float:
        """Nominal weight bits, 16 where not quantized."""
        return self.weights.num_bits if self.weights else UNQUANTIZED_BITS

    @property
    def a_bits(self) -> float:
        """Nominal activation bits, 16 where not quantized."""
        return self.activations.num_bits if self.activations else UNQUANTIZED_BITS

    @property
    def kv_bits(self) -> float:
        """Nominal KV-cache bits, 16 where not quantized."""
        return self.kv_cache.num_bits if self.kv_cache else UNQUANTIZED_BITS

    @property
    def name(self) -> str:
        """The name that `parse_scheme` reads back to an equal scheme."""
        kv = f"-{_kv_name(self.kv_cache)}" if self.kv_cache else ""
        return _weights_name(self) + kv

    @property
    def weights_name(self) -> str:
        """The name without its KV part: what a checkpoint on disk is called."""
        return _weights_name(self)

    @property
    def kv_name(self) -> str:
        """The KV part alone (`kv8`, `kvq4_0`), `kv16` where the cache is not quantized."""
        return _kv_name(self.kv_cache) if self.kv_cache else "kv16"

    @property
    def bits_per_weight(self) -> float:
        """Effective bits of one quantized weight: codes, scales and zero points (of an endless row).

        Tensors that stay at 16 bits are not counted: that takes a model, see `knowledge.memory`. Conventions by
        format as in `knowledge.memory` (16-bit scales per group; integer zero points of `num_bits`; NF4/FP4 with
        32-bit scales per 64, or 8-bit ones with double quantization; OCP MX 8-bit scale per block; NVFP4 8 bits per 16).
        A file type gives its base type's bits.
        """
        return _bits_per_weight(self)

    def with_kv(self, kv: QuantArgs | None) -> "QuantScheme":
        """The same weights and activations with another KV cache."""
        return QuantScheme(weights=self.weights, activations=self.activations, kv_cache=kv, file_type=self.file_type)

    def __str__(self) -> str:
        return self.name


UNQUANTIZED = QuantScheme()
"""16-bit weights, activations and KV cache: the baseline, named `w16a16`."""

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


@lru_cache(maxsize=8192)
def parse_scheme(text: str) -> QuantScheme:
    """The scheme that `text` names, without regard to case.

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
    weights = _weights_part(_ALIASES.get(name, name), text)
    return weights.with_kv(kv) if kv else weights


def parse_kv(text: str) -> QuantArgs | None:
    """The KV-cache format that `text` names (`kv8`, `kvfp8`, `kvq4_0`, `kivi2`); None for `kv16`.

    Raises:
        InvalidSchemeError: the text is no KV name.
    """
    return _kv_part(text.strip().lower(), text)


# Some dozen weight formats and caches make up thousands of names: each part is parsed once, and again only to complain.


def _weights_part(name: str, text: str) -> QuantScheme:
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
def _known_weights(name: str) -> QuantScheme:
    return _parse_weights(name, name)


@lru_cache(maxsize=256)
def _known_kv(name: str) -> QuantArgs | None:
    return _parse_kv(name, name)


def _parse_weights(name: str, text: str) -> QuantScheme:
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
    return QuantScheme(weights=weights, activations=activations)


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
    if "strategy" not in args and (dtype in _BLOCK_GROUP or (dtype == "fp" and bits == 4)):
        args |= {"strategy": "group", "group_size": _BLOCK_GROUP.get(dtype, 64)}
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
        size = _BLOCK_GROUP.get(dtype, weights.group_size or 32)
        return QuantArgs(num_bits=bits, dtype=dtype, strategy="group", group_size=size, dynamic=True)  # type: ignore[arg-type]
    return QuantArgs(num_bits=bits, dtype=dtype, strategy="token", dynamic=True)  # type: ignore[arg-type]


def _parse_file_type(name: str, text: str) -> QuantScheme:
    if found := _EXL.match(name):
        bpw = float(found["bpw"])
        dtype: Dtype = "int" if found["kind"] == "exl2" else "codebook"
        return QuantScheme(weights=QuantArgs(num_bits=bpw, dtype=dtype), file_type=f"{found['kind']}:{_bpw(bpw)}bpw")
    if found := _MLX.match(name):
        group = int(found["group"] or 64)
        suffix = "" if group == 64 else f"g{group}"
        weights = QuantArgs(num_bits=int(found["bits"]), strategy="group", group_size=group, symmetric=False)
        return QuantScheme(weights=weights, file_type=f"mlx:q{found['bits']}{suffix}")
    kind, _, rest = name.partition(":")
    base = rest.removesuffix("-pure")
    if kind != "gguf" or base not in GGUF_FILE_TYPES:
        raise _unreadable(text)
    file_type = GGUF_FILE_TYPES[base]
    if file_type.bits == UNQUANTIZED_BITS:
        return QuantScheme(file_type=name)
    weights = QuantArgs(
        num_bits=file_type.bits, dtype=file_type.dtype, strategy="group", group_size=file_type.group_size,
        symmetric=file_type.symmetric, type_name=base,
    )  # fmt: skip
    return QuantScheme(weights=weights, file_type=name)


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
        group = _BLOCK_GROUP.get(dtype)
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


def _weights_name(scheme: QuantScheme) -> str:
    if scheme.file_type:
        return scheme.file_type
    weights, activations = scheme.weights, scheme.activations
    if weights is None:
        stem = "w16afp" if activations and activations.dtype == "fp" else "w16a"
        return f"{stem}{_num(scheme.a_bits)}" + _activation_suffix(activations, None)
    bits, dtype = _num(weights.num_bits), weights.dtype
    a_dtype = activations.dtype if activations else dtype
    if dtype in ("codebook", "binary"):
        return f"{dtype}{bits}" + ("" if scheme.a_bits == UNQUANTIZED_BITS else f"a{_num(scheme.a_bits)}")
    if dtype in ("int", "kquant"):
        stem = f"w{bits}a{'fp' if a_dtype == 'fp' else ''}{_num(scheme.a_bits)}"
    elif a_dtype != dtype:
        stem = f"{dtype}{bits}aint{_num(scheme.a_bits)}"
    else:
        own = {"fp": 16 if bits == "4" else 8, "mxfp": weights.num_bits, "nvfp": weights.num_bits}
        default_a = own.get(dtype, UNQUANTIZED_BITS)
        stem = f"{dtype}{bits}" + ("" if scheme.a_bits == default_a else f"a{_num(scheme.a_bits)}")
    own_group = _BLOCK_GROUP.get(dtype) or (64 if dtype == "fp" and bits == "4" else None)
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


def _kv_name(args: QuantArgs) -> str:
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


def _bits_per_weight(scheme: QuantScheme) -> float:
    weights = scheme.weights
    if scheme.file_type and scheme.file_type.startswith("gguf:"):
        base = scheme.file_type.removeprefix("gguf:").removesuffix("-pure")
        return GGML_TYPES[GGUF_FILE_TYPES[base].base_type].bits_per_weight
    if weights is None:
        return float(UNQUANTIZED_BITS)
    bits, group = weights.num_bits, weights.group_size
    if scheme.file_type:  # EXL2/EXL3 state their own mean; MLX stores a 16-bit scale and bias per group
        return bits + 32 / group if scheme.file_type.startswith("mlx:") and group else bits
    if weights.strategy != "group" or not group:
        return bits
    if weights.dtype == "nf" or (weights.dtype == "fp" and bits == 4):
        return bits + (8 + 32 / 256 if weights.type_name == "double_quant" else 32) / group
    if weights.dtype in ("mxfp", "mxint", "nvfp"):
        return bits + 8 / group
    return bits + (16 + (bits if weights.symmetric is False else 0)) / group


def _unreadable(text: str, part: str | None = None) -> InvalidSchemeError:
    what = f"cannot read {part!r} in scheme {text!r}" if part and part != text else f"cannot read scheme {text!r}"
    return InvalidSchemeError(what, given=text, allowed=FORMS, hint="`qadvisor schemes` lists the formats with their engines")


def _num(bits: float) -> str:
    return f"{bits:g}"


def _bpw(bpw: float) -> str:
    return f"{bpw:.1f}" if round(bpw, 1) == bpw else f"{bpw:g}"
