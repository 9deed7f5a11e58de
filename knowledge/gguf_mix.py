"""GGUF files: the type of every tensor under llama.cpp's own mixes, and the size of the file to the byte.

The rules are in `knowledge.gguf_rules`; block sizes in `knowledge.ggml`. Mixes of other tools (unsloth UD, ik_llama.cpp's
own types) follow recipes that no rule gives: their size is unknown here rather than guessed.
"""

from functools import lru_cache

from knowledge.errors import InvalidSchemeError
from knowledge.ggml import GGML_TYPES, GGUF_FILE_TYPES
from knowledge.gguf_rules import (
    FUSED_AS_VALUE,
    MERGED_EXPERTS,
    MixContext,
    embedding_type,
    fallback,
    head_type,
    plan,
    split_layers,
    tied_type,
)
from knowledge.models import AttentionSpec, ModelSpec
from knowledge.tensors import Tensor, find_layout, tensors
from knowledge.values import value

ERAS = {"today": "9999", "2023": "2023-11-01", "2023-12": "2023-12-20", "2024-01": "2024-01-20", "2024-02": "2024-02-28"}
"""Names for the age of a file; an ISO date (`2024-03-15`) does as well."""

ALIASES = {"q3_k": "q3_k_m", "q4_k": "q4_k_m", "q5_k": "q5_k_m"}
"""llama-quantize takes these for the medium mixes."""

LARGE = {"q2_k_l": "q2_k", "q3_k_xl": "q3_k_l", "q4_k_l": "q4_k_m", "q5_k_l": "q5_k_m", "q6_k_l": "q6_k"}
"""Mixes with embedding and head at Q8_0 (`--token-embedding-type q8_0 --output-tensor-type q8_0`)."""

SIXTEEN_BIT = ("altup_proj", "altup_unembd_proj", "laurel_l", "laurel_r", "per_layer_model_proj")
"""Matrices of Gemma-3n that llama-quantize leaves as the converter wrote them."""

_ALIGNMENT = 32


@value
class GgufTensor:
    """Equal tensors of one role and one type."""

    role: str
    kind: str
    """ggml type."""
    rows: int
    cols: int
    count: int
    each: int = 1
    """Matrices in one tensor (experts of a layer)."""

    @property
    def params(self) -> int:
        """Elements of all of them."""
        return self.rows * self.cols * self.each * self.count

    @property
    def bytes(self) -> int:
        """Bytes of all of them, each padded to the file's alignment."""
        block = GGML_TYPES[self.kind]
        size = self.rows * self.each * (self.cols // block.block) * block.bytes
        return self.count * (-(-size // _ALIGNMENT) * _ALIGNMENT)


@value
class GgufBytes:
    """Size of a GGUF file in bytes."""

    tensors: tuple[GgufTensor, ...]
    tensor_bytes: int
    metadata_bytes: int
    """Header, tokenizer and other keys, tensor directory."""

    @property
    def total(self) -> int:
        """The whole file."""
        return self.tensor_bytes + self.metadata_bytes

    @property
    def bits_per_weight(self) -> float:
        """Bits of the tensors per parameter, as llama.cpp prints them."""
        return self.tensor_bytes * 8 / sum(tensor.params for tensor in self.tensors)


@value
class GgufOptions:
    """How a GGUF file was made, beyond its file type."""

    era: str = "today"
    """Age of the llama.cpp that made it: a name of `ERAS` or an ISO date."""
    imatrix: bool = False
    """Made with an importance matrix: changes Q4_0, Q5_0, IQ3_XXS and IQ4_*."""
    separate_output: bool = False
    """The file of a tied model carries its head once more (Qwen's own files)."""
    token_embedding_type: str | None = None
    """`--token-embedding-type` of llama-quantize."""
    output_tensor_type: str | None = None
    """`--output-tensor-type` of llama-quantize."""


TODAY = GgufOptions()


def gguf_tensor_types(spec: ModelSpec, file_type: str, options: GgufOptions = TODAY) -> tuple[GgufTensor, ...]:
    """The tensors of the GGUF file of `spec` with the types that `llama-quantize` gives them.

    Args:
        spec: the model.
        file_type: `q4_k_m`, `iq2_xs`, `f16` …, `-pure` behind it for the base type everywhere.
        options: how the file was made.

    Raises:
        InvalidSchemeError: the file type or era is unknown, or no rule gives the type's mix.
        InvalidModelError: the shape of the model is incomplete.
    """
    return _tensor_types(spec, file_type.lower(), options)


def gguf_bytes(spec: ModelSpec, file_type: str, options: GgufOptions = TODAY) -> GgufBytes:
    """Size of the GGUF file of `spec`: tensors, tokenizer and directory. Arguments and errors as `gguf_tensor_types`.

    Tensor bytes are exact; the tokenizer section is taken from measured bytes per vocabulary entry, and off by some 10 kB
    (measured tokenizers) to 5 MB (others).
    """
    chosen = gguf_tensor_types(spec, file_type, options)
    directory = _directory_bytes(spec, options.separate_output)
    metadata = -(-(24 + directory + round(tokenizer_bytes(spec))) // _ALIGNMENT) * _ALIGNMENT
    return GgufBytes(tensors=chosen, tensor_bytes=sum(tensor.bytes for tensor in chosen), metadata_bytes=metadata)


def _made(era: str) -> str:
    date = ERAS.get(era, era)
    if not (date == ERAS["today"] or (len(date) == 10 and date[:4].isdigit())):
        raise InvalidSchemeError(f"unknown age of a GGUF file {era!r}", given=era, allowed=[*ERAS, "a date such as 2024-03-15"])
    return date


def _known_type(file_type: str) -> str:
    name = ALIASES.get(file_type, file_type)
    known = GGUF_FILE_TYPES.get(name)
    if known is None or not known.known_mix:
        why = "is not known" if known is None else "follows a recipe of its own, so its tensor types are not known"
        raise InvalidSchemeError(
            f"the GGUF type {file_type} {why}",
            given=file_type,
            allowed=[kind for kind, entry in GGUF_FILE_TYPES.items() if entry.known_mix],
        )
    return name


@lru_cache(maxsize=4096)
def _tensor_types(spec: ModelSpec, file_type: str, options: GgufOptions) -> tuple[GgufTensor, ...]:
    name = _known_type(file_type.removesuffix("-pure"))
    mix = LARGE.get(name, name)
    context = MixContext(
        file_type=mix,
        base=GGUF_FILE_TYPES[mix].base_type,
        architecture=_architecture(spec),
        layers=spec.layers or 0,
        heads_per_kv=(spec.heads or 1) // (spec.kv_heads or spec.heads or 1),
        experts=spec.experts.count if spec.experts else 0,
        imatrix=options.imatrix,
        made=_made(options.era),
    )
    large = "q8_0" if name in LARGE else None
    table = options.token_embedding_type or large
    stated = {"token_embd": table, "per_layer_token_embd": table, "output": options.output_tensor_type or large}
    parts = gguf_tensors(spec, options.separate_output)
    tied = not any(tensor.kind == "head" for tensor in parts)
    typed: list[GgufTensor] = []
    for tensor in parts:
        fixed = stated.get(tensor.role) or (context.base if file_type.endswith("-pure") else None)
        for kind, count in _types(context, tensor, tied, fixed):
            stored = fallback(kind, tensor.cols, context.made)
            typed.append(
                GgufTensor(role=tensor.role, kind=stored, rows=tensor.rows, cols=tensor.cols, count=count, each=tensor.each)
            )
    return tuple(typed)


def _architecture(spec: ModelSpec) -> str:
    layout = find_layout(spec)
    return layout.gguf if layout else ""


def _types(context: MixContext, tensor: Tensor, tied: bool, fixed: str | None) -> tuple[tuple[str, int], ...]:
    """Types of the tensors of one role, with how many take each; `fixed` is a type that the maker of the file chose."""
    layers, base = max(len(tensor.layers), 1), context.base
    if tensor.role.startswith(SIXTEEN_BIT):
        return (("bf16" if base == "bf16" else "f16", layers),)
    if tensor.kind in ("vector", "other"):
        return (("f32", layers),)
    if tensor.kind == "router":
        return (("f16" if context.made < MERGED_EXPERTS else "f32", layers),)
    if fixed or base in ("f16", "bf16"):
        return ((fixed or base, layers),)
    if tensor.kind == "head":
        return ((head_type(context, tensor.cols), 1),)
    if tensor.kind == "embedding":
        as_head = tied and (tensor.role == "token_embd" or context.made >= FUSED_AS_VALUE)
        return ((tied_type(context, tensor.cols) if as_head else embedding_type(context), 1),)
    if context.file_type == "mxfp4":
        return (("mxfp4" if tensor.kind == "expert" else "q8_0", layers),)
    # Counters run over the tensors of a role; with experts llama.cpp reads the layer from the tensor's name.
    counted = not context.experts or tensor.role.startswith("attn_v")
    numbers = tuple(range(layers)) if counted else tensor.layers
    total = layers if tensor.role.startswith("attn_v") else context.layers
    chosen = split_layers(plan(context, tensor.role), numbers, total)
    return tuple((kind or base, count) for kind, count in chosen)


@lru_cache(maxsize=512)
def gguf_tensors(spec: ModelSpec, separate_output: bool = False) -> tuple[Tensor, ...]:
    """The tensors of `spec` as llama.cpp's converter stores them: fused matrices split, KV up-projections of MLA apart.

    Args:
        spec: the model.
        separate_output: add the head of a tied model once more.

    Raises:
        InvalidModelError: the shape is incomplete.
    """
    stored: list[Tensor] = []
    for tensor in tensors(spec):
        if tensor.role == "attn_kv_b":
            stored += _latent_parts(spec, tensor)
        elif tensor.parts:
            stored += (_part(tensor, role, rows) for role, rows in tensor.parts)
        else:
            stored.append(tensor)
    if separate_output and not any(tensor.kind == "head" for tensor in stored):
        stored.append(Tensor(role="output", kind="head", rows=spec.vocab or 0, cols=spec.embed_dim or spec.hidden or 0))
    return tuple(stored)


def _part(tensor: Tensor, role: str, rows: int) -> Tensor:
    return Tensor(role=role, kind=tensor.kind, rows=rows, cols=tensor.cols, layers=tensor.layers)


def _latent_parts(spec: ModelSpec, tensor: Tensor) -> tuple[Tensor, Tensor]:
    """`attn_k_b` (transposed) and `attn_v_b`: llama.cpp since 2025-04."""
    attention = spec.attention or AttentionSpec()
    heads, nope, v = spec.heads or 0, attention.qk_nope_head_dim or 0, attention.v_head_dim or 0
    key = Tensor(role="attn_k_b", kind="linear", rows=tensor.cols * heads, cols=nope, layers=tensor.layers)
    return key, Tensor(role="attn_v_b", kind="linear", rows=v * heads, cols=tensor.cols, layers=tensor.layers)


@lru_cache(maxsize=512)
def _directory_bytes(spec: ModelSpec, separate_output: bool) -> int:
    """Bytes of the tensor directory: name, dimensions, type and offset of each tensor."""
    total = 0
    for tensor in gguf_tensors(spec, separate_output):
        name = tensor.role if tensor.role.endswith(".bias") else f"{tensor.role}.weight"
        dimensions = 1 if tensor.rows == 1 else 3 if tensor.each > 1 else 2
        fixed = 8 + len(name) + 4 + 8 * dimensions + 4 + 8
        if tensor.layers:
            total += sum(fixed + len(f"blk.{i}.") for i in tensor.layers)
        else:
            total += fixed
    return total


_SPM, _BPE = 23.0, 39.0
_TOKENIZERS: tuple[tuple[frozenset[str], range, float], ...] = (
    (frozenset({"llama"}), range(128000, 128600), 61.0),
    (frozenset({"llama"}), range(32256, 32257), 39.85),
    (frozenset({"mistral"}), range(32000, 32256), 22.43),
    (frozenset({"llama"}), range(32000, 32256), 22.62),
    (frozenset({"phi3"}), range(32000, 32256), 22.8),
    (frozenset({"qwen2", "qwen3", "qwen", "qwen2moe", "qwen3moe", "qwen3next"}), range(151000, 153000), 39.03),
    (frozenset({"gemma", "gemma2", "gemma3"}), range(256000, 262500), 23.55),
    (frozenset({"falcon"}), range(65000, 65100), 39.4),
    (frozenset({"phi2", "stablelm", "mpt", "gpt2", "gptneox", "gptj", "starcoder", "starcoder2"}), range(49000, 51300), 35.5),
)
"""Bytes of the tokenizer (tokens, types, scores or merges, and all other keys) per vocabulary entry, by architecture and size
of the vocabulary: published file sizes minus tensors. Elsewhere 23 (SentencePiece, up to 40,000 entries) or 39 (BPE)."""


def tokenizer_bytes(spec: ModelSpec) -> float:
    """Estimated bytes of the key-value section of a GGUF file, nearly all of it the tokenizer."""
    vocab, architecture = spec.vocab or 0, _architecture(spec)
    names = {"mistral", architecture} if spec.architecture in ("MistralForCausalLM", "MixtralForCausalLM") else {architecture}
    for architectures, sizes, entry in _TOKENIZERS:
        if vocab in sizes and names & architectures:
            return vocab * entry
    return vocab * (_SPM if vocab <= 40_000 else _BPE)
