"""Any task of lm-evaluation-harness, with per-sample results, pairing, and calibration of multiple-choice confidence."""

import hashlib
import json
import logging
import math
import os
import random
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from knowledge.measurements import Measurement
from measure.errors import TaskDataError
from measure.inference import out_of_memory, release_memory
from measure.stats import expected_calibration_error, standard_error, weighted_mean
from measure.tasks import TaskPlan, TaskResult

if TYPE_CHECKING:
    from measure.loading import LoadedModel

_DEFAULT_ITEMS = 50
_ACCURACIES = ("acc", "acc_norm", "exact_match", "em", "mc2")
_ROLLING = {"word_perplexity": "nats per word", "byte_perplexity": "nats per byte"}


class HarnessScorer:
    """Runs one task or group of the harness on the model in memory, and reads per-sample results out of it."""

    def __init__(self, task: TaskPlan, *, seed: int) -> None:
        self.task, self.seed = task, seed
        self._loaded_tasks: Any = None

    def prepare(self, loaded: "LoadedModel") -> None:
        """Find the task and its data; see `find`."""
        self.find()

    def find(self) -> None:
        """Find the task and its data.

        Raises:
            TaskDataError: nobody knows the task, or its data are not on this machine.
        """
        name = self.task.name
        with _quiet(online=self.task.options.online), tempfile.TemporaryDirectory() as folder:
            from lm_eval.tasks import TaskManager

            own = self.task.options.task_dir
            if self.task.kind == "arithmetic-choice":
                own = write_arithmetic(Path(folder), items=self.task.options.limit or _DEFAULT_ITEMS, seed=self.seed)
            if own is not None and not own.is_dir():
                raise TaskDataError(f"no task folder {own}", given=str(own))
            manager = TaskManager(include_path=str(own) if own else None, include_defaults=False)
            if name not in manager.all_tasks:
                manager = TaskManager(include_path=str(own) if own else None, include_defaults=True)
            if name not in manager.all_tasks:
                raise TaskDataError(
                    f"unknown task {name!r}", given=name, hint="`lm-eval ls tasks` lists them; --task-dir adds your own"
                )
            self._loaded_tasks = self._load(manager, name)
        for task in self._loaded_tasks["tasks"].values():
            if self.task.options.shots is not None:
                task.set_config(key="num_fewshot", value=self.task.options.shots)
            elif task.get_config("num_fewshot") is None:
                task.set_config(key="num_fewshot", value=0)
            task.set_fewshot_seed(seed=self.seed)

    def _load(self, manager: Any, name: str) -> Any:
        try:
            return manager.load([name])
        except (OSError, ConnectionError, ValueError, RuntimeError) as error:
            text = " ".join(str(error).split())[:200]
            raise TaskDataError(
                f"the data of {name} are not here: {text}", given=name,
                hint="--online fetches them, --task-dir takes a task with local files",
            ) from error  # fmt: skip

    def score(self, loaded: "LoadedModel") -> TaskResult:
        """Evaluate, halving the batch when memory runs out."""
        if self._loaded_tasks is None:
            raise RuntimeError("prepare() comes before score()")
        while True:
            try:
                results = self._evaluate(loaded)
                break
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error) or loaded.batch_size == 1:
                    raise
            loaded.batch_size = max(1, loaded.batch_size // 2)
            release_memory()
        return self._read(results)

    def _evaluate(self, loaded: "LoadedModel") -> Mapping[str, Any]:
        with _quiet(online=self.task.options.online):
            from lm_eval.evaluator import evaluate
            from lm_eval.models.huggingface import HFLM

            language_model = HFLM(
                pretrained=loaded.model,
                tokenizer=loaded.tokenizer,
                batch_size=loaded.batch_size,
                max_length=self.task.options.context or min(loaded.max_context or 2048, 8192),
                device=str(loaded.device),
            )
            results: Mapping[str, Any] | None = evaluate(
                lm=language_model,
                task_dict=self._loaded_tasks,
                limit=self.task.options.limit,
                bootstrap_iters=0,
                log_samples=True,
            )
        if results is None or not results.get("samples"):
            raise TaskDataError(f"{self.task.name} gave no samples", given=self.task.name)
        return results

    def _read(self, results: Mapping[str, Any]) -> TaskResult:
        samples = [
            (name, sample)
            for name, rows in sorted(results["samples"].items())
            for sample in sorted(rows, key=lambda row: row["doc_id"])
        ]
        columns = read_columns(samples, results["higher_is_better"])
        shots = {int(value) for value in results.get("n-shot", {}).values()}
        versions = results.get("versions", {})
        digest = hashlib.sha256(json.dumps([sample.get("doc_hash") for _, sample in samples]).encode()).hexdigest()[:16]
        return TaskResult(
            measurements=columns.measurements + _summaries(results, columns),
            samples=columns.samples,
            weights=columns.weights,
            correct=next((name for name in _ACCURACIES if name in columns.samples), None),
            data_hash=digest,
            task_version=f"{self.task.name}/{versions.get(self.task.name, 'group')}",
            shots=shots.pop() if len(shots) == 1 else None,
            harness=f"lm_eval {version('lm_eval')}",
            limit=self.task.options.limit,
            context=self.task.options.context,
        )


class _Columns:
    """Per-sample columns of a task, and the metrics that are their means."""

    def __init__(self, ids: list[str]) -> None:
        self.samples: dict[str, list[float | int | str | None]] = {"id": list(ids)}
        self.weights: dict[str, str] = {}
        self.measurements: list[Measurement] = []

    def add(
        self, metric: str, values: list[float], *, unit: str, higher_is_better: bool, weights: list[float] | None = None
    ) -> None:
        """A column, and its mean as a measurement."""
        self.samples[metric] = list(values)
        if weights is not None:
            self.samples[f"{metric}.weight"] = list(weights)
            self.weights[metric] = f"{metric}.weight"
        self.measurements.append(
            Measurement(
                metric=metric, value=weighted_mean(values, weights), stderr=standard_error(values, weights), unit=unit,
                stderr_method="documents as samples", n=len(values), higher_is_better=higher_is_better, per_sample=metric,
            )
        )  # fmt: skip


def read_columns(samples: Sequence[tuple[str, Mapping[str, Any]]], directions: Mapping[str, Mapping[str, bool]]) -> _Columns:
    """Columns from the harness's sample log: each number that a metric gave a document, and option confidences.

    Rolling perplexities give (log-likelihood, words or bytes) a document; they become nats per word or byte with weights.
    """
    columns = _Columns([f"{name}/{sample['doc_id']}" for name, sample in samples])
    direction = {metric: better for table in directions.values() for metric, better in table.items()}
    metrics = sorted({metric for _, sample in samples for metric in sample.get("metrics", ())})
    for metric in metrics:
        values = [sample.get(metric) for _, sample in samples]
        if metric in _ROLLING and all(isinstance(value, (tuple, list)) for value in values):
            weights = [float(count) for _, count in values]  # type: ignore[misc]
            losses = [-float(total) / count for total, count in values]  # type: ignore[misc]
            name = "nll_per_word" if metric == "word_perplexity" else "nll_per_byte"
            columns.add(name, losses, unit=_ROLLING[metric], higher_is_better=False, weights=weights)
        elif all(isinstance(value, (int, float)) and math.isfinite(value) for value in values):
            better = direction.get(metric)
            columns.add(
                metric,
                [float(value) for value in values if value is not None],
                unit="share of items" if metric in _ACCURACIES else "harness metric",
                higher_is_better=True if better is None else bool(better),
            )
    _add_confidence(columns, [sample for _, sample in samples])
    return columns


def _add_confidence(columns: _Columns, samples: Sequence[Mapping[str, Any]]) -> None:
    """Expected calibration error of multiple choice: confidence is the softmax of the options' log-likelihoods."""
    confidences: list[float] = []
    for sample in samples:
        options = sample.get("filtered_resps") or []
        if len(options) < 2 or not all(isinstance(option, (tuple, list)) and len(option) == 2 for option in options):
            return
        scores = [float(option[0]) for option in options]
        top = max(scores)
        confidences.append(1 / sum(math.exp(score - top) for score in scores))
    correct = columns.samples.get("acc")
    if correct is None or not confidences:
        return
    columns.samples["confidence"] = list(confidences)
    columns.measurements.append(
        Measurement(
            metric="ece", value=expected_calibration_error(confidences, [float(value or 0) for value in correct]),
            n=len(confidences), unit="10 equal bins", higher_is_better=False,
        )
    )  # fmt: skip


def _summaries(results: Mapping[str, Any], columns: _Columns) -> list[Measurement]:
    """Metrics that are no mean over documents (F1, BLEU, perplexities): the harness's value, without a standard error."""
    found = []
    have = {measurement.metric for measurement in columns.measurements}
    for task, values in results["results"].items():
        for key, value in values.items():
            metric, _, _ = key.partition(",")
            if metric in have or metric.endswith("_stderr") or "," not in key or not isinstance(value, (int, float)):
                continue
            if not math.isfinite(value):
                continue
            better = results["higher_is_better"].get(task, {}).get(metric)
            name = metric if len(results["results"]) == 1 else f"{metric}[{task}]"
            found.append(
                Measurement(
                    metric=name,
                    value=float(value),
                    n=len(columns.samples["id"]),
                    unit="harness metric",
                    higher_is_better=better,
                )
            )
    return found


@contextmanager
def _quiet(*, online: bool) -> Iterator[None]:
    """Offline unless asked, and none of the harness's talk and bars between our lines; errors are raised as ever."""
    offline = str(int(not online))
    settings = {"HF_HUB_OFFLINE": offline, "HF_DATASETS_OFFLINE": offline, "TOKENIZERS_PARALLELISM": "false"}
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    logger = logging.getLogger("lm_eval")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with (
            warnings.catch_warnings(),
            Path(os.devnull).open("w", encoding="utf-8") as nowhere,
            redirect_stdout(nowhere),
            redirect_stderr(nowhere),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def write_arithmetic(folder: Path, *, items: int, seed: int) -> Path:
    """A multiple-choice task on sums of two numbers below 100, as YAML and JSONL for the harness; returns the folder.

    Wrong options are off by 1, 2 or 10, so that magnitude alone does not help; the right one stands anywhere.
    """
    rng = random.Random(seed)
    rows = []
    for _ in range(items):
        first, second = rng.randrange(100), rng.randrange(100)
        options = [first + second] + [first + second + offset for offset in rng.sample((-10, -2, -1, 1, 2, 10), 3)]
        rng.shuffle(options)
        rows.append(
            {
                "question": f"{first} + {second} =",
                "choices": [str(value) for value in options],
                "label": options.index(first + second),
            }
        )
    data = folder / "arithmetic.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    definition = {
        "task": "arithmetic-choice",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(data)}},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "{{question}}",
        "doc_to_choice": "{{choices}}",
        "doc_to_target": "label",
        "num_fewshot": 0,
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
        "metadata": {"version": 1.0},
    }
    (folder / "arithmetic.yaml").write_text(json.dumps(definition), encoding="utf-8")  # JSON is YAML
    return folder
