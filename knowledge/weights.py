"""Bytes of a checkpoint's weights, tensor by tensor: what is packed, what stays at 16 bits, what stands beside the codes."""

from dataclasses import replace
from functools import lru_cache

from knowledge.errors import InvalidModelError, UnknownNameError
from knowledge.gguf_mix import TODAY, GgufOptions, gguf_bytes
from knowledge.models import ModelSpec
from knowledge.schemes import QuantArgs, QuantScheme
from knowledge.tensors import Tensor, missing_facts, tensors
from knowledge.values import value
from knowledge.weight_formats import CONTAINERS, Container, default_format

_UNQUANTIZED_TYPES = ("f32", "f16", "bf16")


@value
class WeightBytes:
    """Bytes of the weights of one model in one format. `total = quantized + overhead + kept16`."""

    format: str
    total: int
    quantized: int
    """Codes; in formats whose blocks hold their scales (GGUF, EXL2) those too."""
    overhead: int
    """Scales, zero points, permutations; of GGUF the header with the tokenizer."""
    kept16: int
    """Tensors that the format leaves alone (16 bits; in GGUF norms and routers 32)."""
    by_role: tuple[tuple[str, int], ...] = ()
    """Bytes by role of the tensor, in the order of the model."""
    exact: bool = True
    """False where the shape is incomplete and only the parameter count was known."""
    notes: tuple[str, ...] = ()


def weights_bytes(
    spec: ModelSpec,
    scheme: QuantScheme,
    format: str | None = None,
    *,
    method: str = "rtn",
    gguf: GgufOptions = TODAY,
) -> WeightBytes:
    """Bytes of the weights of `spec` under `scheme`; the KV part of the scheme does not matter.

    Embedding, head, norms, biases and routers stay at 16 bits unless the format takes them (MLX, GGUF; the head in EXL2,
    EXL3 and torchao). A model that was read from an already quantized file has its exact bytes. The safetensors header
    (about 0.1 kB a tensor) is not counted: it does not reach the device.

    Args:
        spec: the model.
        scheme: number formats; only weights, activations and file type are looked at.
        format: checkpoint format (`gptq`, `awq`, …); None = the one that tools write for scheme and method.
        method: a name of `knowledge.recipes`, for the default format.
        gguf: how a GGUF file was made; method `imatrix` sets its importance matrix.

    Raises:
        InvalidModelError: neither shape nor parameter count of the model are known.
        UnknownNameError: nobody knows the format.
        InvalidSchemeError: no rule gives the tensor types of the GGUF type.
    """
    if spec.stored_tensors and _is_stored(spec, scheme):
        return _stored(spec, format or default_format(scheme, method))
    chosen = format or default_format(scheme, method)
    if chosen == "gguf":
        options = replace(gguf, imatrix=True) if method == "imatrix" else gguf
        return _gguf(spec, (scheme.file_type or "gguf:f16").removeprefix("gguf:"), options)
    return _weights(spec, scheme.weights, scheme.activations, chosen)


def _is_stored(spec: ModelSpec, scheme: QuantScheme) -> bool:
    """Whether the file that `spec` was read from holds the weights in this very format."""
    if spec.stored_scheme is None:
        return scheme.weights is None
    return spec.stored_scheme.weights_name == scheme.weights_name


def _stored(spec: ModelSpec, format: str) -> WeightBytes:
    kept = sum(tensor.bytes for tensor in spec.stored_tensors if tensor.dtype.lower() in _UNQUANTIZED_TYPES)
    total = sum(tensor.bytes for tensor in spec.stored_tensors)
    return WeightBytes(
        format=format,
        total=total,
        quantized=total - kept,
        overhead=0,
        kept16=kept,
        by_role=tuple((tensor.name, tensor.bytes) for tensor in spec.stored_tensors),
        notes=("summed over the tensors of the file",),
    )


@lru_cache(maxsize=4096)
def _gguf(spec: ModelSpec, file_type: str, options: GgufOptions) -> WeightBytes:
    if missing_facts(spec):
        return _from_count(spec, QuantScheme(file_type=f"gguf:{file_type}"), "gguf")
    size = gguf_bytes(spec, file_type, options)
    kept = sum(tensor.bytes for tensor in size.tensors if tensor.kind in _UNQUANTIZED_TYPES)
    roles: dict[str, int] = {}
    for tensor in size.tensors:
        roles[tensor.role] = roles.get(tensor.role, 0) + tensor.bytes
    return WeightBytes(
        format="gguf",
        total=size.total,
        quantized=size.tensor_bytes - kept,
        overhead=size.metadata_bytes,
        kept16=kept,
        by_role=tuple(roles.items()),
    )


@lru_cache(maxsize=16384)
def _weights(spec: ModelSpec, weights: QuantArgs | None, activations: QuantArgs | None, format: str) -> WeightBytes:
    container = CONTAINERS.get(format)
    if container is None and format != "safetensors":
        raise UnknownNameError.of("checkpoint format", format, [*CONTAINERS, "gguf", "safetensors"])
    if missing_facts(spec):
        return _from_count(spec, QuantScheme(weights=weights, activations=activations), format)
    codes = overhead = kept = 0
    roles: list[tuple[str, int]] = []
    for tensor in tensors(spec):
        args = _args(container, tensor, weights, spec)
        if args is None or container is None:
            size = (0, 0, 2 * tensor.rows * tensor.cols)
        else:
            size = (*container.linear(tensor.rows, tensor.cols, args, activations), 0)
        count = tensor.count
        codes, overhead, kept = codes + size[0] * count, overhead + size[1] * count, kept + size[2] * count
        roles.append((tensor.role, sum(size) * count))
    return WeightBytes(
        format=format,
        total=codes + overhead + kept,
        quantized=codes,
        overhead=overhead,
        kept16=kept,
        by_role=tuple(roles),
        notes=_notes(weights, activations, format),
    )


def _args(container: Container | None, tensor: Tensor, weights: QuantArgs | None, spec: ModelSpec) -> QuantArgs | None:
    """How `tensor` is stored; None = at 16 bits."""
    if container is None or weights is None or tensor.kind in ("vector", "router", "other"):
        return None
    if tensor.kind == "embedding" and not container.embedding:
        return None
    if tensor.kind == "head" and not container.head:
        return None
    if weights.dtype == "mxfp" and spec.architecture == "GptOssForCausalLM" and tensor.kind != "expert":
        return None  # openai/gpt-oss quantizes the experts only
    if container.whole_groups and weights.num_bits < 8 and weights.group_size and tensor.cols % weights.group_size:
        return None
    if tensor.kind == "head" and container.head_bits:
        return replace(weights, num_bits=container.head_bits)
    return weights


def _notes(weights: QuantArgs | None, activations: QuantArgs | None, format: str) -> tuple[str, ...]:
    if weights is None or format != "compressed-tensors":
        return ()
    if weights.dtype in ("codebook", "binary"):
        return (f"no container is known for {weights.num_bits:g}-bit {weights.dtype} codes: counted as bits, without tables",)
    if weights.dtype == "int" and weights.num_bits < 8 and weights.strategy is None:
        return ("group not stated: counted with 128 as compressed-tensors' preset has it",)
    return ()


def _from_count(spec: ModelSpec, scheme: QuantScheme, format: str) -> WeightBytes:
    """Weights from the parameter count alone, where the shape is incomplete."""
    missing = ", ".join(missing_facts(spec))
    if spec.params_published is None:
        raise InvalidModelError(
            f"the size of {spec.name} cannot be computed: neither its parameter count nor {missing} is known",
            given=spec.name,
            hint="give the model's config.json or folder instead of its name",
        )
    if scheme.file_type and scheme.weights is None:
        from knowledge.schemes import parse_scheme

        scheme = parse_scheme(scheme.file_type)
    total = round(spec.params_published * scheme.bits_per_weight / 8)
    return WeightBytes(
        format=format,
        total=total,
        quantized=total if scheme.weights else 0,
        overhead=0,
        kept16=0 if scheme.weights else total,
        exact=False,
        notes=(
            f"from {spec.params_published:,} parameters at {scheme.bits_per_weight:g} bits: of the shape {missing} not known,"
            " so what stays at 16 bits is not counted apart",
        ),
    )
