"""`qadvisor apply`: make a packed checkpoint of a recipe, and do not hand it over before it has been read back and checked."""

import json
import math
import os
import shlex
import shutil
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path

from knowledge.checkpoints import ORIGIN_FILE
from knowledge.engines import all_engines, find_formats, serve_hint
from knowledge.errors import InvalidModelError, InvalidRequestError, MissingDependencyError
from knowledge.measurements import CalibrationFacts
from knowledge.recipes import QuantRecipe
from knowledge.schemes import QuantScheme
from knowledge.weights import weights_bytes
from measure.errors import NotApplicableError, QuantizationMismatchError
from measure.models import ModelSource, tensor_ranges
from measure.packing import FORMAT, Packing, plan_packing
from measure.plan import Settings
from measure.staging import check_output, staged

_QUIET = {"TQDM_DISABLE": "1", "LLM_COMPRESSOR_LOG_LEVEL": "ERROR", "TOKENIZERS_PARALLELISM": "false"}
"""Read by the libraries when they are imported."""

_PACKAGES = ("torch", "transformers", "llmcompressor", "compressed_tensors", "datasets", "accelerate")

_DTYPES = ("bfloat16", "float16")
"""What stays unquantized is stored in 16 bits, as every size that this program states assumes."""

_COMPANIONS = (
    "tokenizer*", "*.model", "vocab*", "merges.txt", "added_tokens.json", "special_tokens_map.json", "chat_template*",
    "generation_config.json", "LICENSE*", "NOTICE*",
)  # fmt: skip
"""Files beside the weights that go along unchanged."""

_REFUSED = {
    "chatglm": "it is loaded as transformers' GLM, so that the checkpoint would be one of another architecture",
    "mamba": "transformers uses weights of its layers directly and finds none in a packed layer",
}
"""`model_type` -> why not."""

_BYTES_TOLERANCE = 0.01
"""Largest relative difference between the bytes written and those that the advice counts with."""

_READ_BACK_SHARE = 0.5
"""Largest change of the logits by saving and reading back, as a share of what quantizing changed: with the originals, or
with other weights, in place of the quantized ones it is 1 or more; on one device it should be 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """How one engine serves the checkpoint."""

    engine: str
    command: str
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A packed checkpoint that passed every check."""

    path: str
    model: str
    scheme: str
    """Fully stated, without its KV part."""
    method: str
    format: str
    dtype: str
    """Of what is not quantized, and of the scales of integers."""
    tensor_bytes: int
    """Bytes of the tensors in the files."""
    expected_bytes: int | None
    """The same as `knowledge.weights` computes it; None where it does not know the model's shape, and nothing is compared."""
    parameters: int
    bits_per_weight: float
    """Bytes of all tensors times eight over all parameters."""
    layers: int
    """Linear layers that are quantized."""
    logit_change: float
    """|logits - those of the original| / |those of the original| on the probe tokens, after reading back."""
    read_back_change: float
    """The same against the model in memory before it was saved."""
    calibration: CalibrationFacts | None
    serve: tuple[Serving, ...]
    notes: tuple[str, ...]

    @property
    def difference(self) -> float | None:
        """Share by which the files are larger than computed; None where nothing was."""
        return self.tensor_bytes / self.expected_bytes - 1 if self.expected_bytes else None

    def as_dict(self) -> dict[str, object]:
        """Plain values for JSON."""
        return asdict(self) | {"difference": self.difference}


def settings_dtype(source: ModelSource) -> str:
    """The 16-bit type that the checkpoint itself has; bfloat16 where it has 32 bits or does not say."""
    stated = str(source.config.get("dtype") or source.config.get("torch_dtype") or "")
    return stated if stated in _DTYPES else _DTYPES[0]


def check_request(recipe: QuantRecipe, *, model: str, dtype: str | None) -> Packing:
    """What will be written, once it is sure that it can be, as far as that can be said without the model.

    Raises:
        NotApplicableError: the recipe cannot be written here.
        InvalidRequestError: another dtype than one of 16 bits.
        MissingDependencyError: the extra `measure` is not installed.
    """
    packing = plan_packing(recipe, model=model)
    if dtype is not None and dtype not in _DTYPES:
        raise InvalidRequestError(f"a checkpoint is not written in {dtype!r}", given=dtype, allowed=_DTYPES)
    for package in _PACKAGES:
        if find_spec(package) is None:
            raise MissingDependencyError.of(package, extra="measure", purpose="`qadvisor apply`")
    return packing


def write_checkpoint(
    source: ModelSource,
    packing: Packing,
    settings: Settings,
    output: Path,
    *,
    on_stage: Callable[[str], None] = lambda text: None,
) -> Checkpoint:
    """Quantize `source`, save it packed in `output`, read it back and compare.

    Args:
        source: the model on disk.
        packing: what to write, see `check_request`.
        settings: device, dtype, seed, calibration text.
        output: a folder that does not exist or is empty; it appears when everything has been checked.
        on_stage: told what begins.

    Raises:
        InvalidRequestError: the output cannot be used, or the device is not there.
        NotApplicableError: layers that llm-compressor does not pack, or rows that the group does not divide.
        TaskDataError: the calibration text is too short.
        QuantizationMismatchError: what was written is not what was asked for; it is kept with `.failed` behind the name.
        StoreError: the output cannot be written, the disk is full.
    """
    _refuse_family(source)
    expected = _expected_bytes(source, packing)
    path = check_output(output, needed_bytes=expected)
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    from measure.inference import relative_change
    from measure.loading import load_model
    from measure.quantizers import packed

    on_stage(f"loading {source.name}")
    loaded = load_model(source, settings)
    layers = packed.layers_to_pack(loaded, packing)
    parameters = sum(parameter.numel() for parameter in loaded.model.parameters())
    original = packed.logits_of(loaded)
    on_stage(f"quantizing {len(layers)} layers: {packing.recipe.name}")
    calibration = packed.quantize_in_place(loaded, packing, layers)
    quantized = packed.logits_of(loaded)
    with staged(path) as folder:
        on_stage("writing")
        packed.save_packed(loaded, folder)
        _copy_companions(source.path, folder, code=settings.trust_remote_code)
        on_stage("reading back")
        again = packed.read_back(folder, loaded)
        checkpoint = _describe(
            source, packing, settings, path, expected,
            tensors=_stored(folder), parameters=parameters, layers=len(layers), calibration=calibration,
            changes=(relative_change(again, original), relative_change(again, quantized)),
        )  # fmt: skip
        _verify(checkpoint, relative_change(quantized, original), layers, _stored(folder))
        _write_origin(folder, source, checkpoint)
    return checkpoint


def _refuse_family(source: ModelSource) -> None:
    if source.family in _REFUSED:
        raise NotApplicableError(
            f"no checkpoint of {source.name} is written: {_REFUSED[source.family]}", given=source.name,
            hint="`qadvisor measure` measures it; `qadvisor recipe` shows the commands of other formats",
        )  # fmt: skip


def _expected_bytes(source: ModelSource, packing: Packing) -> int | None:
    """Bytes of the tensors as the advice counts them; None where it does not know the model's shape in full."""
    from knowledge.resolve import resolve_model

    try:
        found = weights_bytes(resolve_model(str(source.path.resolve())), packing.recipe.scheme, FORMAT)
    except InvalidModelError:  # an architecture of the model's own
        return None
    return found.total if found.exact else None


def _copy_companions(source: Path, folder: Path, *, code: bool) -> None:
    """Tokenizer, chat template, licence as they are, and the model's own code where the user trusts it."""
    for pattern in (*_COMPANIONS, *(("*.py",) if code else ())):
        for file in sorted(source.glob(pattern)):
            if file.is_file():
                shutil.copyfile(file, folder / file.name)


def _write_origin(folder: Path, source: ModelSource, checkpoint: Checkpoint) -> None:
    """Say in the folder what it was made from and how, which config.json does not: runs on it find their baseline by that."""
    calibration = checkpoint.calibration
    origin = {
        "schema_version": 1, "base_model": source.name, "base_fingerprint": source.fingerprint, "scheme": checkpoint.scheme,
        "method": checkpoint.method, "calibration_sha256": calibration.sha256 if calibration else None,
    }  # fmt: skip
    (folder / ORIGIN_FILE).write_text(json.dumps(origin, indent=1) + "\n", encoding="utf-8")


def _stored(folder: Path) -> dict[str, int]:
    """Bytes of each tensor in the files of `folder`."""
    return {
        name: end - start for file in sorted(folder.glob("*.safetensors")) for name, (start, end) in tensor_ranges(file).items()
    }


def _describe(
    source: ModelSource,
    packing: Packing,
    settings: Settings,
    path: Path,
    expected: int | None,
    *,
    tensors: dict[str, int],
    parameters: int,
    layers: int,
    calibration: CalibrationFacts | None,
    changes: tuple[float, float],
) -> Checkpoint:
    scheme = packing.recipe.scheme
    serve = serving_of(scheme, path)
    total = sum(tensors.values())
    return Checkpoint(
        path=str(path), model=source.name, scheme=scheme.weights_name, method=packing.recipe.method.name, format=FORMAT,
        dtype=settings.dtype, tensor_bytes=total, expected_bytes=expected,
        parameters=parameters, bits_per_weight=8 * total / parameters, layers=layers,
        logit_change=changes[0], read_back_change=changes[1], calibration=calibration, serve=serve,
        notes=_notes(scheme, serve, calibration),
    )  # fmt: skip


def serving_of(scheme: QuantScheme, path: Path) -> tuple[Serving, ...]:
    """The engines that are known to serve `scheme` from such a checkpoint, with its KV cache where they have it."""
    found = []
    for engine in all_engines():
        if find_formats(engine.name, FORMAT, scheme) and (scheme.kv_cache is None or engine.find_kv(scheme.kv_name)):
            hint = serve_hint(engine.name, FORMAT, scheme.kv_cache, scheme=scheme)
            line = hint.line.replace("(MODEL", f"({str(path)!r}").replace("MODEL", shlex.quote(str(path)))
            found.append(Serving(engine=engine.name, command=line, notes=hint.notes))
    return tuple(found)


def _notes(scheme: QuantScheme, serve: Sequence[Serving], calibration: CalibrationFacts | None) -> tuple[str, ...]:
    notes = []
    if scheme.kv_cache is not None:
        notes.append(f"{scheme.kv_name} is an option of the engine, in its command: the checkpoint holds the weights alone")
    if not serve:
        what = scheme.name if scheme.kv_cache is not None else scheme.weights_name
        notes.append(f"no engine is known here to serve {what} from {FORMAT}; transformers reads it, as was checked")
    if calibration is not None and calibration.source.startswith("pydoc_data"):
        notes.append("calibrated on Python's own documentation: --calibration FILE with text like that of your task is better")
    return tuple(notes)


def _verify(checkpoint: Checkpoint, change: float, layers: Collection[str], tensors: Collection[str]) -> None:
    """Refuse a checkpoint that is not what was asked for.

    Args:
        checkpoint: what was found.
        change: how far quantizing moved the logits in memory.
        layers: names of the layers that should be quantized.
        tensors: names of the tensors in the files.
    """
    for message in _faults(checkpoint, change, set(layers), tensors):
        raise QuantizationMismatchError(message, given=f"{checkpoint.scheme}:{checkpoint.method}")


def _faults(checkpoint: Checkpoint, change: float, layers: set[str], tensors: Collection[str]) -> list[str]:
    faults = []
    packed = {name.removesuffix(".weight_scale") for name in tensors if name.endswith(".weight_scale")}
    if missing := sorted(layers - packed):
        faults.append(f"{len(missing)} of {len(layers)} layers were not quantized, the first is {missing[0]}")
    if unasked := sorted(packed - layers):
        faults.append(f"{len(unasked)} other layers were quantized, the first is {unasked[0]}")
    if not math.isfinite(checkpoint.logit_change + change):
        faults.append("the quantized model gives logits that are not finite")
    if change == 0 or checkpoint.logit_change == 0:
        faults.append("no logit moved: the recipe had no effect")
    if checkpoint.read_back_change > _READ_BACK_SHARE * change:
        faults.append(
            f"read back, the checkpoint gives other logits: they moved by {checkpoint.read_back_change:.3g},"
            f" quantizing alone moved them by {change:.3g}"
        )
    if checkpoint.difference is not None and abs(checkpoint.difference) > _BYTES_TOLERANCE:
        faults.append(
            f"the tensors take {checkpoint.tensor_bytes:,} bytes, {checkpoint.expected_bytes:,} were computed"
            f" ({checkpoint.difference:+.1%})"
        )
    return faults
