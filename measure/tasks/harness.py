"""Any task of lm-evaluation-harness, with per-sample results, pairing, and calibration of multiple-choice confidence."""

import json
import logging
import os
import random
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from measure.errors import TaskDataError
from measure.inference import out_of_memory, release_memory
from measure.tasks import TaskPlan, TaskResult
from measure.tasks.samples import add_summaries, read_columns

if TYPE_CHECKING:
    from measure.loading import LoadedModel

_DEFAULT_ITEMS = 50

DEFINITIONS = Path(__file__).parent / "definitions"
"""Tasks of the studies that the harness does not have, in its own form."""


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
            overlay = own and read_locally(name, own, Path(folder) / "local")
            folders = [str(place) for place in (DEFINITIONS, own, overlay) if place]
            manager = TaskManager(include_path=folders, include_defaults=False)
            if name not in manager.all_tasks:
                manager = TaskManager(include_path=folders, include_defaults=True)
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
        except ImportError as error:
            raise TaskDataError(
                f"{name} needs a package that is not installed: {error.name or error}", given=name,
                hint=f"pip install {error.name}" if error.name else "see the harness's README of this task",
            ) from error  # fmt: skip
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
        samples = [(name, sample) for name, rows in sorted(results["samples"].items()) for sample in rows]
        columns = read_columns(samples, results["higher_is_better"])
        add_summaries(columns, results)
        shots = {int(value) for value in results.get("n-shot", {}).values()}
        versions = results.get("versions", {})
        return TaskResult(
            measurements=columns.measurements,
            samples=columns.samples,
            weights=columns.weights,
            correct=columns.correct,
            data_hash=columns.data_hash,
            task_version=f"{self.task.name}/{versions.get(self.task.name, 'group')}",
            shots=shots.pop() if len(shots) == 1 else None,
            harness=f"lm_eval {version('lm_eval')}",
            limit=self.task.options.limit,
            context=self.task.options.context,
        )


def read_locally(name: str, own: Path, folder: Path) -> Path | None:
    """A definition of ours that reads its documents from `NAME.jsonl` in `own`, in `folder`; None where that is not there."""
    documents = (own / f"{name}.jsonl").resolve()
    if not documents.is_file() or not (DEFINITIONS / f"{name}.yaml").is_file():
        return None
    definition = {
        "include": str(DEFINITIONS / f"{name}.yaml"), "task": name, "dataset_path": "json", "dataset_name": None,
        "dataset_kwargs": {"data_files": {split: str(documents) for split in ("test", "validation")}},
    }  # fmt: skip
    folder.mkdir()
    (folder / f"{name}.yaml").write_text(json.dumps(definition), encoding="utf-8")  # JSON is YAML
    return folder


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
