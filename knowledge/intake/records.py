"""Run records of `qadvisor measure` as rows of evidence, each against the unquantized model under the same conditions.

Conditions are the record's `ComparabilityKey`: task and version, data, shots, limit, context, seed, dtype, the model's
fingerprint. A record that carries its comparison (the baseline ran in the same sweep) needs no more; for any other the
baseline is looked for among the records at hand. Without one of equal key there is no row, and the reason names what differs.
"""

import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property

from pydantic import ValidationError

from knowledge.columns import columns_of
from knowledge.errors import DataError, QAdvisorError
from knowledge.intake.entry import OWN, Entry, SpeedEntry
from knowledge.intake.figure import Figure, entry_of
from knowledge.intake.pairs import se_of_comparison, se_of_difference
from knowledge.intake.record_metrics import Place, place_measurement
from knowledge.intake.result import Quarantined
from knowledge.intake.subjects import subject_of_record
from knowledge.measurements import ComparabilityKey, Comparison, Measurement, RunRecord
from knowledge.recipes import QuantRecipe, parse_recipe
from knowledge.schemes import parse_scheme
from knowledge.tables import EfficiencyRow, refusal_reason

SOURCE = f"{OWN}measure"
_MOST_NATS = 700.0
"""Likelihood beyond which a perplexity is no number."""

LeftOut = str
"""Why something that is right is no evidence."""
Outcome = Entry | SpeedEntry | Quarantined | LeftOut


@dataclass(frozen=True, slots=True, kw_only=True)
class Located:
    """A record and the file that it came from."""

    file: str
    record: RunRecord


class Baselines:
    """Records of unquantized models, by the conditions under which they ran."""

    def __init__(self, records: Iterable[RunRecord], beside: Callable[[], Iterable[RunRecord]] = tuple) -> None:
        """Index `records`; `beside` gives further ones, and is asked once, when none of these fits."""
        self._beside = beside
        self._records = list(filter(_is_baseline, records))

    @cached_property
    def _all(self) -> dict[ComparabilityKey, RunRecord]:
        further = [record for record in self._beside() if _is_baseline(record)]
        self._records += further
        return {key: record for record in self._records if (key := record.comparability)}

    @cached_property
    def _at_hand(self) -> dict[ComparabilityKey, RunRecord]:
        return {key: record for record in self._records if (key := record.comparability)}

    def of(self, key: ComparabilityKey) -> RunRecord | None:
        """The baseline of equal conditions: at hand, else among the further ones."""
        return self._at_hand.get(key) or self._all.get(key)

    def missing(self, key: ComparabilityKey) -> str:
        """Why there is none: what differs from the nearest baseline of the same model and task."""
        same = [other for other in self._all if (other.task, other.model_fingerprint) == (key.task, key.model_fingerprint)]
        if not same:
            return "no run of the unquantized model on this task: measure the recipe none, or give its record along"
        least = min((key.differences(other) for other in same), key=len)
        return f"no comparison: the unquantized model ran under other conditions ({', '.join(least)} differ)"


def read_records(records: Sequence[Located], beside: Callable[[], Iterable[RunRecord]] = tuple) -> Iterator[Outcome]:
    """What the records say, measurement by measurement.

    Args:
        records: the records with their files.
        beside: gives further records in which a baseline may be found; asked only when one is missing.
    """
    baselines = Baselines((located.record for located in records), beside)
    for located in records:
        try:
            yield from _outcomes(located, baselines)
        except QAdvisorError as error:
            yield Quarantined(file=located.file, reason=error.message)


def _outcomes(located: Located, baselines: Baselines) -> Iterator[Outcome]:
    record = located.record
    if record.error is not None:
        yield f"failed run: {record.error.code}"
        return
    recipe = _recipe(record)
    if record.spec.task == "speed":
        yield _speed(located, recipe)
        return
    key = _key(record)
    unquantized = recipe.method.name == "none"
    baseline = record if unquantized else baselines.of(key)
    if baseline is None and not any(measurement.against_baseline for measurement in record.measurements):
        raise DataError(baselines.missing(key))
    for number, measurement in enumerate(record.measurements, start=1):
        place = place_measurement(record, measurement)
        if isinstance(place, str):
            yield place
        else:
            yield _entry(located, number, measurement, place, recipe, baseline)


def _entry(
    located: Located, number: int, measurement: Measurement, place: Place, recipe: QuantRecipe, baseline: RunRecord | None
) -> Entry | Quarantined | LeftOut:
    record, key = located.record, _key(located.record)
    other = _baseline_value(record, measurement, place, baseline)
    if other is None:
        return f"{record.spec.task} {measurement.metric}: the unquantized run has no such figure"
    facts = record.quantization
    scheme = recipe.scheme
    return entry_of(Figure(
        file=located.file, row=number, source=SOURCE, ref=record.spec.stem, subject=subject_of_record(record),
        recipe=(scheme, recipe.method.name), task=place.task, placed=place.placed, score=measurement.value, baseline=other,
        difference_se=_difference_se(record, measurement, place, baseline), items=measurement.n, shots=key.shots,
        context=place.context, bpw=facts.bits_per_weight if facts else None, baseline_dtype=_short_dtype(record.spec.dtype),
        note="; ".join(filter(None, (place.note, _how(record)))) or None, checkpoint=_checkpoint(record),
        conditions=json.dumps(asdict(key), sort_keys=True),
    ))  # fmt: skip


def _recipe(record: RunRecord) -> QuantRecipe:
    """The recipe that was asked for, seen to be the one that was made."""
    recipe, facts = parse_recipe(record.spec.recipe), record.quantization
    if recipe.method.name != "none" and facts is None:
        raise DataError("a quantized run that does not say how the model was quantized", given=record.spec.recipe)
    if facts and (parse_scheme(facts.scheme), facts.method) != (recipe.scheme, recipe.method.name):
        raise DataError(f"recipe {record.spec.recipe} was asked for, {facts.scheme}:{facts.method} was made")
    return recipe


def _key(record: RunRecord) -> ComparabilityKey:
    key = record.comparability
    if key is None:
        raise DataError("the record states no conditions (comparability): its figures cannot be compared")
    if key.task != record.spec.task or not key.model_fingerprint == record.spec.model_fingerprint == record.model.fingerprint:
        raise DataError("the record contradicts itself: task or model of its conditions are not those that ran")
    return key


def _baseline_value(record: RunRecord, measurement: Measurement, place: Place, baseline: RunRecord | None) -> float | None:
    """The same figure of the unquantized run; None where neither its record nor the comparison has it."""
    if measurement.against_baseline is not None:
        return measurement.against_baseline.baseline
    for other in baseline.measurements if baseline else ():
        if other.metric == measurement.metric:
            return other.value
    compared = _comparison(record, place.column) if place.placed.scale == "perplexity" and place.context is None else None
    return math.exp(compared.baseline) if compared and compared.baseline < _MOST_NATS else None


def _comparison(record: RunRecord, column: str | None) -> Comparison | None:
    """The record's own comparison of the figure that is the mean of `column`."""
    return next((m.against_baseline for m in record.measurements if column and m.per_sample == column), None)


def _difference_se(record: RunRecord, measurement: Measurement, place: Place, baseline: RunRecord | None) -> float | None:
    """Standard error of the paired difference: from the samples of both runs, else from the record's own bootstrap."""
    if record is baseline:
        return None
    column = place.column
    ids = record.samples.get("id")
    if column and baseline and ids is not None and column in record.samples and ids == baseline.samples.get("id"):
        chosen = _rows(record, place)
        values, before = _numbers(record, column, chosen), _numbers(baseline, column, chosen)
        weights = _numbers(record, f"{column}.weight", chosen) if f"{column}.weight" in record.samples else None
        if values and before and (weights or f"{column}.weight" not in record.samples):
            return se_of_difference(values, before, weights)
    compared = _comparison(record, column)
    return se_of_comparison(compared) if compared and place.context is None else None


def _rows(record: RunRecord, place: Place) -> list[int]:
    """Positions of the samples behind a figure: those of one length, where it is that of one length."""
    contexts = record.samples.get("context", [])
    return [
        position for position in range(len(record.samples["id"]))
        if place.context is None or (contexts and contexts[position] == place.context)
    ]  # fmt: skip


def _numbers(record: RunRecord, column: str, rows: Sequence[int]) -> list[float] | None:
    """Finite numbers of a column; None where it has anything else, or is missing."""
    cells = record.samples.get(column)
    values = [cells[row] for row in rows] if cells else []
    numbers = [float(value) for value in values if isinstance(value, (int, float)) and math.isfinite(value)]
    return numbers if len(numbers) == len(rows) else None


def _checkpoint(record: RunRecord) -> str:
    """The very weights: quantized in memory, so that model, recipe, conventions, calibration and seed name them."""
    spec = record.spec
    parts = (spec.model_fingerprint, spec.recipe, spec.protocol, spec.calibration, str(spec.seed) if spec.seed else None)
    return "/".join(filter(None, parts))


def _how(record: RunRecord) -> str | None:
    facts = record.quantization
    if facts is None:
        return None
    kind = "simulated" if facts.simulated else "packed"
    return f"{kind}, {facts.library}" + ("" if facts.protocol == "default" else f", protocol {facts.protocol}")


def _short_dtype(dtype: str) -> str:
    return {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16"}.get(dtype, dtype)


def _speed(located: Located, recipe: QuantRecipe) -> SpeedEntry | Quarantined:
    """Rate and memory of a run as a row of speeds."""
    record = located.record
    value = {measurement.metric: measurement.value for measurement in record.measurements}
    subject, columns = subject_of_record(record), columns_of(recipe.scheme, recipe.method.name)
    byte_figures = {name: value[metric] / 1e9 for name, metric in _BYTES.items() if metric in value}
    device = record.environment.device_name or record.environment.device
    try:
        row = EfficiencyRow.model_validate({
            "source": SOURCE, "ref": record.spec.stem, "model": subject.name, "params_b": subject.params_b,
            **{name: columns[name] for name in ("method", "w_bits", "a_bits", "kv_bits", "format")}, "engine": "transformers",
            "hardware": device, "n_gpus": 1 if record.environment.device == "cuda" else None,
            "batch": record.details.get("batch"), "prompt_len": record.details.get("prompt_tokens"),
            "gen_len": record.details.get("new_tokens"), "prefill_tok_s": value.get("prefill_rate"),
            "decode_tok_s": value.get("decode_rate"), **byte_figures, "note": _how(record),
        })  # fmt: skip
    except ValidationError as error:
        return Quarantined(file=located.file, reason=refusal_reason(error), content=str(value))
    return SpeedEntry(file=located.file, row=None, value=row)


_BYTES = {"peak_mem_gb": "peak_memory_bytes", "weights_gb": "weight_bytes"}


def _is_baseline(record: RunRecord) -> bool:
    return record.spec.recipe == "none" and record.error is None
