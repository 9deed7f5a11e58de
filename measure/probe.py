"""A look at a model's own tensors: weights always, activations and the landscape of the loss where they are asked for."""

from collections.abc import Callable
from math import prod

from knowledge.errors import InvalidRequestError, MissingDependencyError
from knowledge.measurements import ModelFacts
from knowledge.probes import Probe
from measure.environment import capture_environment
from measure.models import ModelSource, tensor_entries, tokenizer_hash
from measure.plan import Settings


def probe_model(
    source: ModelSource,
    settings: Settings,
    *,
    activations: bool = False,
    landscape: bool = False,
    on_matrix: Callable[[int, int], None] = lambda done, total: None,
) -> Probe:
    """Statistics of the weights of `source`, read from its files some rows at a time.

    Args:
        source: the model on disk.
        settings: device, seed and calibration text.
        activations: load the model and look at activations, keys and values over the calibration text too.
        landscape: load the model and look at the loss around its weights too (float32).
        on_matrix: called with the weights seen so far and all of them.

    Raises:
        InvalidModelError: no matrix to look at, or weights that are not numbers.
        InvalidRequestError: a landscape in a type smaller than float32.
        TaskDataError: the calibration text is too short.
        MissingDependencyError: the extra `measure` is not installed.
    """
    if landscape:
        check_landscape_dtype(settings.dtype)
    try:
        from measure.spread import total_stats
        from measure.weightstats import measure_weights
    except ModuleNotFoundError as error:
        raise MissingDependencyError.of(str(error.name).partition(".")[0], extra="measure", purpose="measuring") from error
    found = measure_weights(source, device=settings.device, on_matrix=on_matrix)
    calibration, around = None, None
    if activations or landscape:
        from measure.backend import TorchBackend
        from measure.calibration import calibration_ids
        from measure.landscape import measure_landscape
        from measure.tensorstats import measure_flows

        backend = TorchBackend(source, settings)
        backend.open()
        ids, text = calibration_ids(backend.loaded)
        if activations:
            found += measure_flows(backend.loaded, ids)
            calibration = text
        if landscape:
            around = measure_landscape(backend.loaded, ids, text)
    return Probe(
        model=source.name,
        facts=_facts(source),
        calibration=calibration,
        tensors=[sums.stats() for sums in found],
        totals=total_stats(found),
        landscape=around,
        environment=capture_environment(settings.device),
    )


def check_landscape_dtype(dtype: str) -> None:
    """See that the loss around the weights can be told from rounding.

    Raises:
        InvalidRequestError: it cannot: a change of one percent is lost in a smaller type.
    """
    if dtype != "float32":
        raise InvalidRequestError(
            "the landscape is taken in float32: smaller types round away small changes of the weights",
            given=dtype, allowed="--dtype float32",
        )  # fmt: skip


def _facts(source: ModelSource) -> ModelFacts:
    """The model as its files tell it: parameters as stored, a tied output head not counted twice."""
    entries = [entry for file in source.weight_files for entry in tensor_entries(file)[0].values()]
    return ModelFacts(
        family=source.family,
        architecture=next((str(name) for name in source.config.get("architectures") or ()), source.family),
        parameters=sum(prod(entry["shape"]) for entry in entries),
        fingerprint=source.fingerprint,
        revision=source.revision,
        tokenizer_hash=tokenizer_hash(source),
    )
