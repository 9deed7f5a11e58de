"""Between the columns of a table of configurations and (scheme, method): the one map, both ways.

The columns are those of published tables (`docs/reference/table-columns.md`): `method`, `w_bits`, `w_dtype`, `w_group`,
`w_sym`, `a_bits`, `a_dtype`, `a_gran`, `kv_bits`, `kv_dtype`, `kv_group`, `format`. Conventions where a table says less
than a scheme, or more:

- an empty `a_gran` means one dynamic range per token, an empty `kv_group` one per token;
- `w_sym` of a floating-point or block format says nothing (they have no zero point) and is left out of the scheme;
- the group of a learned codebook (`codebook2`, `binary1`) is the length of a code vector, not of a scale: left out;
- a file type (`gguf:q4_k_m`, `exl2:4.0bpw`, `mlx:q4`) decides the weights; its bits must agree with `w_bits`;
- KV caches of llama.cpp files are ggml types, named by bits and group: 8 bits in groups of 32 are `kvq8_0`.
"""

import re
from collections.abc import Mapping
from functools import lru_cache

from knowledge.errors import DataError, QAdvisorError
from knowledge.recipes import find_method
from knowledge.schemes import UNQUANTIZED_BITS, QuantArgs, QuantScheme, parse_scheme

RECIPE_COLUMNS = (
    "method", "w_bits", "w_dtype", "w_group", "w_sym", "a_bits", "a_dtype", "a_gran", "kv_bits", "kv_dtype", "kv_group",
    "format",
)  # fmt: skip
"""Columns that say how a model was quantized, in the order of published tables."""

METHOD_ALIASES = {
    "bnb-nf4": "rtn",
    "bnb-fp4": "rtn",
    "fp8": "rtn",
    "fp6": "rtn",
    "fp5": "rtn",
    "fp4": "rtn",
    "fp3": "rtn",
    "int8-dynamic": "rtn",
    "gguf": "rtn",
    "mlx": "rtn",
    "kv-int8": "rtn",
    "kv-int4": "rtn",
    "kv-fp8": "rtn",
    "kv-fp4": "rtn",
    "kv-q8": "rtn",
    "kv-q4": "rtn",
    "quanto-kv": "rtn",
    "autoround-opt-rtn": "autoround-rtn",
    "autoround-fp8": "autoround",
    "": "rtn",
}
"""Method names of tables that are a number format, not an algorithm; the format itself is in the other columns."""

_FORMAT_ALIASES = {"gguf:q2_k_s+q4_k_s mix": "gguf:q2_k_s+q4_k_s", "gguf:iq4_ks mix iqk-6": "gguf:iq4_ks-mix"}
_FILE_KINDS = ("gguf:", "exl2:", "exl3:", "mlx:")
_INHERENT_SYMMETRY = ("fp", "nf", "mxint", "mxfp", "nvfp", "codebook", "binary")
_FORMAT_SCHEMES = ("nf4-dq", "fp8-block")
"""Checkpoint formats that say more about the scheme than the other columns can."""
_GRANULARITY = {
    "": "",
    "token": "",
    "tensor": "-atensor",
    "static-tensor": "-astatic",
    "channel, calibrated": "-achannel",
    "channel": "-achannel",
    "cluster": "-acluster",
}
_NUMBER = re.compile(r"\d+(\.\d+)?")
_BLOCK_KV = re.compile(r"i?q\d_\w+")


def recipe_of(row: Mapping[str, object]) -> tuple[QuantScheme, str]:
    """The scheme and the method name (of `knowledge.recipes`) of one row of a table.

    Values may be text or numbers; empty text, None and a missing key are the same. A `scheme` column, where filled,
    stands for all format columns. GGUF rows whose `note` or `ref` tells of an importance matrix have method `imatrix`.

    Raises:
        DataError: the columns contradict each other or describe no format that has a name.
        UnknownNameError: nobody knows the method.
    """
    values = tuple(row.get(name) for name in RECIPE_COLUMNS)
    return _recipe(values, _text(row.get("scheme")), _uses_imatrix(row))


def columns_of(scheme: QuantScheme, method: str) -> dict[str, object]:
    """The columns of a table for a scheme and a method: `recipe_of` reads them back to the same two.

    Unknown is None. `w_group` -1 is one scale per output channel, 0 one per tensor.
    """
    weights, activations, kv = scheme.weights, scheme.activations, scheme.kv_cache
    return {
        "method": method,
        "w_bits": scheme.w_bits,
        "w_dtype": weights.dtype if weights else None,
        "w_group": _group_of(weights),
        "w_sym": weights.symmetric if weights else None,
        "a_bits": scheme.a_bits,
        "a_dtype": activations.dtype if activations else None,
        "a_gran": _granularity_of(activations),
        "kv_bits": scheme.kv_bits,
        "kv_dtype": (kv.type_name or kv.dtype) if kv else None,
        "kv_group": _kv_group_of(kv),
        "format": _format_of(scheme),
    }


def kv_kind(kv: QuantArgs | None) -> str:
    """What kind of KV cache `kv` is: `none`, `int`, `fp`, `block` (ggml types) or `kivi` (per-channel keys)."""
    if kv is None:
        return "none"
    if kv.type_name == "kivi":
        return "kivi"
    return "block" if kv.type_name else "int" if kv.dtype == "int" else "fp"


@lru_cache(maxsize=4096)
def _recipe(values: tuple[object, ...], scheme_name: str, imatrix: bool) -> tuple[QuantScheme, str]:
    cells = dict(zip(RECIPE_COLUMNS, map(_text, values), strict=True))
    _check(cells)
    try:
        scheme = parse_scheme(scheme_name or _name(cells))
    except DataError:
        raise
    except QAdvisorError as error:
        raise _refuse(cells, error.message) from error
    stated = cells["w_bits"]
    if stated and not scheme_name and float(stated) != scheme.w_bits:
        raise _refuse(cells, f"w_bits {stated} contradicts the format, which has {scheme.w_bits:g} bits")
    return scheme, _method(cells, scheme, imatrix)


def _check(cells: Mapping[str, str]) -> None:
    for name in ("w_bits", "a_bits", "kv_bits"):
        if cells[name] and not _NUMBER.fullmatch(cells[name]):
            raise _refuse(cells, f"{name} {cells[name]!r} is no number")
    if cells["w_sym"] not in ("", "0", "1"):
        raise _refuse(cells, f"w_sym {cells['w_sym']!r} is neither 1 nor 0")


def _method(cells: Mapping[str, str], scheme: QuantScheme, imatrix: bool) -> str:
    given = cells["method"]
    if given == "none" and scheme != QuantScheme() and not (scheme.file_type and scheme.weights is None):
        raise _refuse(cells, "method none, but the columns say that something is quantized")
    if given in ("", "gguf") and scheme.weights is None and scheme.kv_cache is None and scheme.activations is None:
        return "none"
    if imatrix and given in ("", "gguf", "rtn"):
        return "imatrix"
    return find_method(METHOD_ALIASES.get(given, given)).name


def _name(cells: Mapping[str, str]) -> str:
    """The scheme name that the columns spell out."""
    kv = _kv_name(cells)
    return _weights_name(cells) + (f"-{kv}" if kv else "")


def _weights_name(cells: Mapping[str, str]) -> str:
    form = cells["format"].replace(" (--pure)", "-pure").replace(" g32", "g32")
    form = _FORMAT_ALIASES.get(form, form)
    if form.startswith(_FILE_KINDS) or form in _FORMAT_SCHEMES:
        return form
    if not cells["w_bits"]:
        raise _refuse(cells, "w_bits is empty, and format names no file type")
    bits, dtype = cells["w_bits"], cells["w_dtype"] or "int"
    a_bits = cells["a_bits"] or str(UNQUANTIZED_BITS)
    quantized_activations = float(a_bits) < UNQUANTIZED_BITS
    if float(bits) == UNQUANTIZED_BITS:
        dtype = "int"
    if dtype in ("codebook", "binary"):
        return f"{dtype}{bits}" + (f"a{a_bits}" if quantized_activations else "")
    if dtype not in ("int", "fp", "nf", "mxint", "mxfp", "nvfp"):
        raise _refuse(cells, f"w_dtype {dtype!r} needs a format that names the file type")
    a_dtype = cells["a_dtype"] or ("int" if dtype in ("int", "nf") else dtype)
    if dtype == "int":
        stem = f"w{bits}a{'fp' if quantized_activations and a_dtype == 'fp' else ''}{a_bits}"
    else:
        stem = f"{dtype}{bits}a{'int' if quantized_activations and a_dtype == 'int' and dtype != 'nf' else ''}{a_bits}"
    return stem + _weight_suffix(cells, dtype) + (_activation_suffix(cells, dtype) if quantized_activations else "")


def _weight_suffix(cells: Mapping[str, str], dtype: str) -> str:
    if float(cells["w_bits"]) == UNQUANTIZED_BITS:
        return ""
    group = {"": "", "-1": "-channel", "0": "-tensor"}.get(cells["w_group"])
    suffix = f"-g{cells['w_group']}" if group is None else group
    if dtype in _INHERENT_SYMMETRY:
        return suffix
    return suffix + {"": "", "1": "-sym", "0": "-asym"}[cells["w_sym"]]


def _activation_suffix(cells: Mapping[str, str], dtype: str) -> str:
    granularity = cells["a_gran"]
    if group := re.fullmatch(r"group(\d+)", granularity):
        return "" if dtype in ("mxint", "mxfp", "nvfp") else f"-ag{group[1]}"
    if granularity not in _GRANULARITY:
        raise _refuse(cells, f"a_gran {granularity!r} is none of {', '.join(filter(None, _GRANULARITY))}, group<N>")
    return _GRANULARITY[granularity]


def _kv_name(cells: Mapping[str, str]) -> str:
    bits, dtype, group = cells["kv_bits"] or "16", cells["kv_dtype"] or "int", cells["kv_group"]
    if float(bits) == UNQUANTIZED_BITS:
        return ""
    if cells["method"] == "kivi" or dtype == "kivi":
        return f"kivi{bits}" + (f"g{group}" if group not in ("", "32") else "")
    if _BLOCK_KV.fullmatch(dtype):
        return f"kv{dtype}"
    if dtype in ("fp", "mxfp", "nvfp"):  # a block of 16 with its own scale is NVFP4's layout, 32 is OCP MX's
        return "kvnvfp4" if dtype != "fp" and group == "16" else f"kv{dtype}{bits}"
    if dtype != "int":
        raise _refuse(cells, f"kv_dtype {dtype!r} is none of int, fp, mxfp, nvfp, kivi or a ggml type such as q8_0")
    if cells["format"].startswith("gguf:") and group in ("32", "row"):
        return f"kvq{bits}_kv" if group == "row" else f"kvq{bits}_0"
    if (cells["format"].startswith("exl2:") or cells["method"] == "kv-q4") and not group:
        return f"kvq{bits}_0"  # ExLlamaV2's Q4 cache: 16-bit scale per 32 values, the size of ggml's q4_0
    scope = {"": "", "token": "", "0": "tensor", "tensor": "tensor", "cluster": "cluster", "row": "row"}.get(group)
    return f"kv{bits}g{group}" if scope is None else f"kv{bits}{scope}"


def _group_of(weights: QuantArgs | None) -> int | None:
    if weights is None:
        return None
    return {"channel": -1, "tensor": 0}.get(weights.strategy or "", weights.group_size)


def _granularity_of(activations: QuantArgs | None) -> str | None:
    if activations is None:
        return None
    if activations.strategy == "tensor":
        return "tensor" if activations.dynamic else "static-tensor"
    if activations.strategy == "group":
        return f"group{activations.group_size}"
    return "channel, calibrated" if activations.strategy == "channel" else activations.strategy


def _kv_group_of(kv: QuantArgs | None) -> str | None:
    if kv is None:
        return None
    if kv.strategy == "group":
        return str(kv.group_size)
    return "0" if kv.strategy == "tensor" else kv.strategy


def _format_of(scheme: QuantScheme) -> str | None:
    if scheme.file_type:
        return scheme.file_type
    weights = scheme.weights
    if weights and weights.type_name == "double_quant":
        return "nf4-dq"
    return "fp8-block" if weights and weights.strategy == "block" else None


def _uses_imatrix(row: Mapping[str, object]) -> bool:
    if not str(row.get("format") or "").lower().startswith("gguf"):
        return False
    text = f"{row.get('note') or ''} {row.get('ref') or ''}".lower()
    return ("imatrix" in text or "importance matrix" in text) and "no imatrix" not in text


def _text(value: object) -> str:
    """A cell as text: numbers without a needless `.0`, truth as 1 or 0, nothing as the empty string."""
    if value is None or value != value:  # NaN is how some readers write an empty cell
        return ""
    text = f"{value:g}" if isinstance(value, float) else str(value).strip().lower()
    return {"true": "1", "false": "0", "nan": ""}.get(text, text[:-2] if re.fullmatch(r"-?\d+\.0", text) else text)


def _refuse(cells: Mapping[str, str], reason: str) -> DataError:
    given = ", ".join(f"{name}={value}" for name, value in cells.items() if value)
    return DataError(reason, given=given, hint="`qadvisor schemes` lists the formats that have a name")
