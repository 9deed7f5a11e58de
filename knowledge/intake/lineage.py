"""What a run of the harness measured: which model, quantized how, and made from which one.

First match wins: the user's table (`--map`); options that quantize while loading (`load_in_4bit`, `kv_cache_dtype`, …); the
checkpoint's own files where they are on this machine; the catalogue, for a name that is exactly one of its models'. A name that
only looks quantized (`…-GPTQ`) says neither bits nor groups, so it is not guessed at.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from knowledge.catalogue import is_full_name, match_model
from knowledge.checkpoints import Origin, read_origin
from knowledge.errors import DataError, QAdvisorError
from knowledge.intake.figure import Subject
from knowledge.intake.harness import HarnessRun
from knowledge.intake.mapping import Statement, find_statement
from knowledge.intake.subjects import subject_of
from knowledge.model_fields import Fields
from knowledge.model_quantized import stored_format
from knowledge.models import ModelSpec
from knowledge.recipes import QuantRecipe
from knowledge.resolve import resolve_model
from knowledge.schemes import UNQUANTIZED, QuantScheme, parse_kv

_WAY_OUT = "say it in a table: --map FILE with the columns model, base, scheme, method"
_ADAPTERS = ("peft", "lora_local_path", "lora", "delta", "adapter")
_ON_THE_FLY = ("load_in_4bit", "load_in_8bit")
_TRUE = (True, 1, "true", "True", "1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Lineage:
    """What ran."""

    recipe: tuple[QuantScheme, str]
    subject: Subject | None
    """The unquantized model; None where nobody says what it was."""
    checkpoint: str

    @property
    def quantized(self) -> bool:
        """Whether anything was."""
        return self.recipe[1] != "none"


def lineage_of(run: HarnessRun, statements: Sequence[Statement], *, stated_unquantized: bool = False) -> Lineage:
    """What a run measured.

    Args:
        run: the run.
        statements: the user's table.
        stated_unquantized: whether the user gave the run as a baseline, so that a name nobody knows is one.

    Raises:
        DataError: it cannot be told; the message says what is missing and how to say it.
    """
    checkpoint = _checkpoint(run)
    stated = find_statement(statements, run.file, run.model)
    if stated and stated.recipe:
        base = stated.base or (run.model if stated.recipe.method.name == "none" else None)
        subject = _subject(base, run) if base else None
        return Lineage(recipe=_pair(stated.recipe), subject=subject, checkpoint=checkpoint)
    if adapter := next((name for name in _ADAPTERS if run.arguments.get(name)), None):
        raise DataError(f"{adapter} changes the weights of {run.model!r}: {_WAY_OUT}")
    spec = _spec(run)
    recipe = _recipe(run, spec, stated.method if stated else None)
    base = stated.base if stated else None
    if recipe is None and stated_unquantized:
        recipe = (UNQUANTIZED, "none")
    if recipe is None:
        raise DataError(f"cannot tell whether, and how, {run.model!r} is quantized: {_WAY_OUT}, or give --baseline FILE")
    return Lineage(recipe=recipe, subject=_base(run, spec, recipe, base), checkpoint=checkpoint)


def _base(run: HarnessRun, spec: ModelSpec | None, recipe: tuple[QuantScheme, str], stated: str | None) -> Subject | None:
    """The unquantized model."""
    if stated:
        return _subject(stated, run)
    stored = spec is not None and spec.stored_scheme is not None
    if not stored and spec is not None:  # quantized while loading, or not at all: the model is its own base
        return _of_spec(spec, run)
    if not stored and recipe[1] == "none":
        return _subject(run.model, run)
    if (base := _origin(run).base) is not None:
        return _subject(base, run, parameters=False)
    known = match_model(run.model)
    return _of_spec(known, run) if known else None


def _recipe(run: HarnessRun, spec: ModelSpec | None, stated_method: str | None) -> tuple[QuantScheme, str] | None:
    """How the model was quantized; None where nothing says."""
    scheme, method = _stored(run, spec)
    method = stated_method if scheme is not None and method is None else method
    loaded = _loaded(run)
    if loaded is not None and scheme == UNQUANTIZED:  # a checkpoint that is quantized already stays as it is
        scheme, method = loaded
    kv = str(run.arguments.get("kv_cache_dtype") or "auto")
    if scheme is not None and kv.startswith("fp8"):
        scheme, method = scheme.with_kv(parse_kv("kvfp8")), "rtn" if method == "none" else method
    elif kv not in ("auto", "float16", "bfloat16", "half"):
        raise DataError(f"kv_cache_dtype {kv} has no name here: {_WAY_OUT}")
    if scheme is not None and method is None:
        raise DataError(f"{run.model!r} is {scheme.name!r}, but by which method is not stated: {_WAY_OUT}")
    return None if scheme is None or method is None else (scheme, method)


def _stored(run: HarnessRun, spec: ModelSpec | None) -> tuple[QuantScheme | None, str | None]:
    """The format of the checkpoint as its own files state it; an exact name of the catalogue is not quantized."""
    if spec is not None and spec.stored_scheme is not None:
        return spec.stored_scheme, spec.stored_method or _origin(run).method
    if spec is not None and (_local(run) or is_full_name(run.model)):
        if any("quant" in note for note in spec.notes if _local(run)):
            raise DataError(f"{run.model!r}: {next(note for note in spec.notes if 'quant' in note)}; {_WAY_OUT}")
        return UNQUANTIZED, "none"
    return None, None


def _loaded(run: HarnessRun) -> tuple[QuantScheme, str] | None:
    """What the options of the run quantize while loading; None for nothing."""
    options = {name: value for name, value in run.arguments.items() if name.startswith(("load_in_", "bnb_4bit_"))}
    chosen = [name for name in _ON_THE_FLY if options.get(name) in _TRUE]
    if not chosen:
        return None
    config = {name: value in _TRUE if name == "bnb_4bit_use_double_quant" else value for name, value in options.items()}
    config |= {name: name in chosen for name in _ON_THE_FLY} | {"quant_method": "bitsandbytes"}
    scheme, method, notes = stored_format(Fields({"quantization_config": config}, "model_args"))
    if scheme is None or method is None:
        raise DataError(f"{run.model!r}: {'; '.join(notes)}: {_WAY_OUT}")
    return scheme, method


def _spec(run: HarnessRun) -> ModelSpec | None:
    """Facts about what was loaded: of a folder or file on this machine, a cached model, or the catalogue's."""
    try:
        return resolve_model(run.model)
    except QAdvisorError:
        return match_model(run.model)


def _of_spec(spec: ModelSpec, run: HarnessRun) -> Subject:
    known = match_model(spec.name)
    count = spec.params_published or run.parameters
    same = known is not None and (known.layers, known.hidden) == (spec.layers, spec.hidden)
    name = f"{spec.name}@{spec.layers}x{spec.hidden}" if known and not same else spec.name  # another than its namesake
    return Subject(name=name, family=spec.family, params_b=count / 1e9 if count else None, in_catalogue=same)


def _subject(name: str, run: HarnessRun, *, parameters: bool = True) -> Subject:
    """A model by name: a folder on this machine, or whatever the name says."""
    if Path(name).expanduser().is_dir():
        try:
            return _of_spec(resolve_model(name), run)
        except QAdvisorError:
            pass
    return subject_of(name, family=None, parameters=run.parameters if parameters else None)


def _origin(run: HarnessRun) -> Origin:
    folder = _local(run)
    return read_origin(folder) if folder else Origin()


def _local(run: HarnessRun) -> Path | None:
    """The folder of the checkpoint on this machine."""
    path = Path(run.model).expanduser()
    try:
        return path if path.is_dir() else path.parent if path.is_file() else None
    except (OSError, ValueError):
        return None


def _checkpoint(run: HarnessRun) -> str:
    options = sorted(f"{name}={value}" for name, value in run.arguments.items() if name in ("revision", *_ON_THE_FLY))
    return " ".join([run.model, *options])[:500]


def _pair(recipe: QuantRecipe) -> tuple[QuantScheme, str]:
    return recipe.scheme, recipe.method.name
