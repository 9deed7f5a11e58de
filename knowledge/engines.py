"""Inference engines: which weight formats and KV dtypes each runs, on what, and how it keeps the cache.

Three packaged tables, every row with the source it was read from: `catalog/engines.csv` (one engine a row, with its cache
policy), `engine_formats.csv` (engine x weight format) and `engine_kv.csv` (engine x KV dtype). What a row does not state is
empty. Which architectures an engine knows is in `knowledge.architectures`.
"""

import csv
import re
from collections.abc import Iterator, Mapping
from functools import cache, lru_cache
from pathlib import Path
from typing import Literal

from knowledge.errors import UnknownNameError
from knowledge.ggml import GGUF_FILE_TYPES
from knowledge.hardware import HardwareSpec
from knowledge.schemes import QuantArgs, QuantScheme
from knowledge.values import value

Kernel = Literal["fast", "slow", "unknown"]

CATALOG = Path(__file__).with_name("catalog")

_SETTING = re.compile(r"^[A-Z_]+=")
"""An option that is an environment variable."""


@value
class EngineFormat:
    """One weight format that an engine reads."""

    engine: str
    row: str
    """The engine's own name for it: `gptq-marlin`."""
    format: str
    """Checkpoint format: `gptq`, `awq`, `compressed-tensors`, `bitsandbytes`, `gguf`, `exl2`, `mlx`, `hqq`, `safetensors`, …"""
    number_formats: tuple[str, ...]
    """What `number_format` says of the schemes that it runs; empty = listed, but not run as such."""
    groups: tuple[int, ...]
    """Group lengths taken (-1 = per channel); empty = whatever the checkpoint says."""
    min_compute_capability: float | None
    max_compute_capability: float | None
    vendors: tuple[str, ...]
    source: str
    notes: str = ""
    moe_only: bool = False
    """Only the experts of a mixture are stored so."""
    group_divides: bool = False
    """Input features must be a multiple of the group."""
    kernel: Kernel = "unknown"
    """`slow` where a source says that it is slower than 16 bits or not fitted; `notes` name the source."""
    relative_speed: float | None = None
    """Measured generation speed over that of 16 bits, one stream, where it is at most 1; `notes` name the source."""
    flag: str = ""
    """What to add to the command; empty = read from the checkpoint."""


@value
class EngineKv:
    """One KV-cache dtype that an engine offers; `name` as in scheme names (`kv16`, `kvfp8`, `kv8`, `kvq8_0`)."""

    engine: str
    name: str
    dtype: str
    """The engine's own name for it."""
    code_bits: float
    scale_bytes: int
    """Bytes of scale (and zero point) that `scale_per` elements share."""
    scale_per: int | None
    """Elements that share a scale; None = one head of one token, or none at all where `scale_bytes` is 0."""
    flag: str
    requirements: str
    source: str
    min_compute_capability: float | None = None
    max_compute_capability: float | None = None
    vendors: tuple[str, ...] = ()
    """Empty = wherever the engine runs."""
    mla: bool = True
    """Whether it takes the compressed cache of multi-head latent attention."""
    head_multiple: int = 1
    """The width of a head must be a multiple of it."""
    rolling: bool = True
    """Whether it can be combined with a rolling cache of windowed layers."""

    def bytes_per_element(self, head_dim: int) -> float:
        """Bytes of one key or value element of a head of `head_dim`, scales included."""
        return self.code_bits / 8 + self.scale_bytes / (self.scale_per or head_dim)


@value
class CachePolicy:
    """How many tokens an engine keeps for a sequence."""

    windows: Literal["full", "window", "paged"] = "full"
    """Sliding-window layers: `full` keeps every token, `window` the window only, `paged` the window in blocks."""
    mixed_only: bool = False
    """Windows are used only in models that mix windowed and full layers."""
    architectures: tuple[str, ...] = ()
    """Windows are used only in models whose class begins so; empty = in all."""
    block: int = 1
    """Tokens that a cache is rounded up to."""
    window_extra: int = 0
    """Tokens kept beyond the window."""
    window_blocks: int = 0
    """Blocks kept beyond the window."""
    window_share: float | None = None
    """Windowed layers keep this share of all tokens, whatever the window (SGLang)."""
    residual: int = 0
    """Newest tokens that a quantized cache keeps at 16 bits."""
    quantized_windows: Literal["window", "full", "refused"] = "window"
    """What a quantized cache does with windowed layers."""
    notes: str = ""
    source: str = ""


@value
class EngineSpec:
    """One engine with all that it runs."""

    name: str
    version: str
    formats: tuple[EngineFormat, ...]
    kv: tuple[EngineKv, ...]
    cache: CachePolicy
    vendors: tuple[str, ...]
    command: str
    context_flag: str
    source: str
    min_compute_capability: float | None = None
    aliases: tuple[str, ...] = ()

    @property
    def cache_policy(self) -> Literal["full", "window", "paged"]:
        """What the engine keeps of sliding-window layers."""
        return self.cache.windows

    def find_kv(self, name: str) -> EngineKv | None:
        """The KV dtype called `name` in scheme names, or None where the engine does not offer it."""
        return next((row for row in self.kv if row.name == name), None)


@value
class ServeHint:
    """How to start an engine with a format and a KV dtype."""

    command: str
    options: tuple[str, ...] = ()
    environment: tuple[str, ...] = ()
    """Settings of the form `NAME=value` before the command."""
    notes: tuple[str, ...] = ()
    """What the sources say must hold."""
    sources: tuple[str, ...] = ()

    @property
    def line(self) -> str:
        """The whole as one line; a library's options stand behind its call."""
        if self.command.endswith(")"):
            return self.command + (f" with {', '.join(self.options)}" if self.options else "")
        return " ".join((*self.environment, self.command, *self.options))


def all_engines() -> tuple[EngineSpec, ...]:
    """Every engine, in the order in which they are preferred where several run a recipe equally."""
    return tuple(_engines().values())


@lru_cache(maxsize=64)
def find_engine(name: str) -> EngineSpec:
    """The engine called `name`, by any of its names and without regard to case.

    Raises:
        UnknownNameError: nobody knows it; lists the nearest names.
    """
    key = name.strip().lower().replace("_", "-")
    for engine in all_engines():
        if key in (engine.name, *engine.aliases):
            return engine
    raise UnknownNameError.of("engine", name, list(_engines()))


@lru_cache(maxsize=4096)
def number_format(scheme: QuantScheme) -> str:
    """What of a scheme decides whether an engine has a kernel: its name without group, symmetry and KV cache.

    `w4a16-g128-asym` is `w4a16`, `fp8-channel` is `fp8`, `gguf:q4_k_m` is `gguf:k`, `exl2:4.0bpw` is `exl2`.
    """
    if scheme.file_type:
        kind, _, rest = scheme.file_type.partition(":")
        return f"gguf:{_gguf_class(rest.removesuffix('-pure'))}" if kind == "gguf" else kind
    return re.sub(r"-(?:g\d+|channel|tensor|sym|asym)(?![\w])", "", scheme.weights_name)


def _gguf_class(name: str) -> str:
    file_type = GGUF_FILE_TYPES[name]
    if not file_type.known_mix and not name.startswith("ud-"):
        return "other"  # tensor types of ik_llama.cpp, or a recipe that nothing else reads
    if file_type.dtype == "codebook":
        return "ternary" if name.startswith("tq") else "i"
    return {"fp": "16", "int": "legacy", "kquant": "k", "mxfp": "mxfp4"}[file_type.dtype]


def runs_on(
    vendors: tuple[str, ...], minimum: float | None, maximum: float | None, hardware: HardwareSpec | None
) -> str | None:
    """Why `hardware` does not satisfy a row, or None where it does; what is unknown of the hardware is not held against it."""
    if hardware is None:
        return None
    if vendors and hardware.vendor not in vendors:
        return f"runs on {', '.join(vendors)}, not on {hardware.vendor}"
    capability = hardware.compute_capability
    if capability is None or hardware.vendor != "nvidia":
        return None
    if minimum is not None and capability < minimum:
        return f"needs compute capability {minimum:.1f}, {hardware.name} has {capability:.1f}"
    if maximum is not None and capability > maximum:
        return f"ends at compute capability {maximum:.1f}, {hardware.name} has {capability:.1f}"
    return None


def find_formats(engine: str, checkpoint: str, scheme: QuantScheme) -> tuple[EngineFormat, ...]:
    """Rows by which `engine` reads `checkpoint` files of `scheme`, whatever the hardware; those with a fast kernel first.

    Args:
        engine: name of an engine.
        checkpoint: checkpoint format (`gptq`, `gguf`, …).
        scheme: the number formats; only its weights and activations matter.
    """
    wanted = number_format(scheme)
    weights = scheme.weights
    group = None
    if weights and weights.strategy in ("group", "channel") and not scheme.file_type:
        group = weights.group_size if weights.strategy == "group" else -1
    return tuple(
        row
        for row in _checkpoint_rows(engine, checkpoint)
        if wanted in row.number_formats and (group is None or not row.groups or group in row.groups)
    )


@lru_cache(maxsize=512)
def _checkpoint_rows(engine: str, checkpoint: str) -> tuple[EngineFormat, ...]:
    """The rows of an engine on one checkpoint format, those with a fast kernel first."""
    found = (row for row in find_engine(engine).formats if row.format == checkpoint)
    return tuple(sorted(found, key=lambda row: ("fast", "unknown", "slow").index(row.kernel)))


def serve_hint(
    engine: str, checkpoint: str, kv: QuantArgs | None, *, scheme: QuantScheme | None = None, context: int | None = None
) -> ServeHint:
    """How to start `engine` on a checkpoint, with the options that its sources name.

    Args:
        engine: name of an engine.
        checkpoint: checkpoint format.
        kv: number format of the KV cache; None = 16 bits.
        scheme: tells rows of one checkpoint format apart; the first row of the format where it is None.
        context: tokens to reserve.

    Raises:
        UnknownNameError: nobody knows the engine.
    """
    spec = find_engine(engine)
    rows = (
        find_formats(engine, checkpoint, scheme) if scheme else tuple(row for row in spec.formats if row.format == checkpoint)
    )
    cache_row = spec.find_kv((scheme or QuantScheme()).with_kv(kv).kv_name)
    options = [rows[0].flag if rows else "", cache_row.flag if cache_row else ""]
    if context is not None:
        options.append(spec.context_flag.format(context=context))
    words = [option for option in options if option]
    environment = tuple(option for option in words if _SETTING.match(option))
    notes = [row.notes for row in rows[:1]] + [cache_row.requirements if cache_row else ""]
    sources = [row.source for row in rows[:1]] + [cache_row.source if cache_row else "", spec.source]
    return ServeHint(
        command=spec.command,
        options=tuple(option for option in words if option not in environment),
        environment=environment,
        notes=tuple(filter(None, notes)),
        sources=tuple(dict.fromkeys(filter(None, sources))),
    )


@cache
def _engines() -> Mapping[str, EngineSpec]:
    formats = [_format(row) for row in _rows("engine_formats.csv")]
    caches = [_kv(row) for row in _rows("engine_kv.csv")]
    specs = {}
    for row in _rows("engines.csv"):
        name = row["name"]
        specs[name] = EngineSpec(
            name=name,
            version=row["version"],
            formats=tuple(entry for entry in formats if entry.engine == name),
            kv=tuple(entry for entry in caches if entry.engine == name),
            cache=_policy(row),
            vendors=tuple(row["vendors"].split()),
            command=row["command"],
            context_flag=row["context_flag"],
            source=row["source"],
            min_compute_capability=_number(row["min_compute_capability"]),
            aliases=tuple(filter(None, row["aliases"].split("|"))),
        )
    return specs


def _policy(row: Mapping[str, str]) -> CachePolicy:
    return CachePolicy(
        windows=row["windows"],  # type: ignore[arg-type]
        mixed_only=row["mixed_only"] == "1",
        architectures=tuple(row["roll_architectures"].split()),
        block=int(row["block_tokens"]),
        window_extra=int(row["window_extra"] or 0),
        window_blocks=int(row["window_blocks"] or 0),
        window_share=_number(row["window_share"]),
        residual=int(row["residual_tokens"] or 0),
        quantized_windows=row["quantized_windows"] or "window",  # type: ignore[arg-type]
        notes=row["cache_notes"],
        source=row["source"],
    )


def _format(row: Mapping[str, str]) -> EngineFormat:
    return EngineFormat(
        engine=row["engine"],
        row=row["row"],
        format=row["format"],
        number_formats=tuple(row["schemes"].split()),
        groups=tuple(int(group) for group in row["groups"].split()),
        min_compute_capability=_number(row["min_compute_capability"]),
        max_compute_capability=_number(row["max_compute_capability"]),
        vendors=tuple(row["vendors"].split()),
        source=row["source"],
        notes=row["notes"],
        moe_only=row["moe_only"] == "1",
        group_divides=row["group_divides"] == "1",
        kernel=row["kernel"] or "unknown",  # type: ignore[arg-type]
        relative_speed=_number(row["relative_speed"]),
        flag=row["flag"],
    )


def _kv(row: Mapping[str, str]) -> EngineKv:
    return EngineKv(
        engine=row["engine"],
        name=row["name"],
        dtype=row["dtype"],
        code_bits=float(row["code_bits"]),
        scale_bytes=int(row["scale_bytes"] or 0),
        scale_per=int(row["scale_per"]) if row["scale_per"].isdigit() else None,
        flag=row["flag"],
        requirements=row["requirements"],
        source=row["source"],
        min_compute_capability=_number(row["min_compute_capability"]),
        max_compute_capability=_number(row["max_compute_capability"]),
        vendors=tuple(row["vendors"].split()),
        mla=row["mla"] != "0",
        head_multiple=int(row["head_multiple"] or 1),
        rolling=row["windows"] != "0",
    )


def _rows(name: str) -> Iterator[Mapping[str, str]]:
    with (CATALOG / name).open(encoding="utf-8", newline="") as file:
        yield from csv.DictReader(file)


def _number(text: str) -> float | None:
    return float(text) if text else None
