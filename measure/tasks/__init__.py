"""Tasks: named kinds of scoring, suites of them, and what a scorer hands back. Nothing heavy is imported here."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from knowledge.errors import MissingDependencyError, UnknownNameError
from knowledge.measurements import Measurement, Scalar
from measure.errors import TaskDataError
from measure.judge import Judge
from measure.text import Text, load_text

if TYPE_CHECKING:
    from measure.loading import LoadedModel

KINDS: dict[str, str] = {
    "perplexity": "measure.tasks.perplexity:PerplexityScorer",
    "kl-divergence": "measure.tasks.kl_divergence:DivergenceScorer",
    "retrieval": "measure.tasks.retrieval:RetrievalScorer",
    "arithmetic-choice": "measure.tasks.harness:HarnessScorer",
    "harness": "measure.tasks.harness:HarnessScorer",
    "speed": "measure.latency:SpeedScorer",
    "mt_bench": "measure.tasks.judged:ConversationScorer",
    "followbench": "measure.tasks.judged:ConstraintScorer",
}
"""Kind -> "module:class". A task that is none of these names is a task of lm-evaluation-harness."""

JUDGED = ("mt_bench", "followbench")
"""Kinds whose answers a judge grades; their questions are JSON lines in the folder of own tasks."""

_STUDIES: dict[str, dict[str, tuple[str, ...]]] = {
    "li2024": {
        "basic": ("lambada_openai",),
        "emergent": (
            "mmlu", "ceval-valid", "bigbench_strategyqa_multiple_choice", "gsm8k", "arc_challenge", "arc_easy", "hellaswag",
        ),
        "trust": (
            "ethics_cm", "ethics_justice", "ethics_deontology", "ethics_virtue", "truthfulqa_mc1", "truthfulqa_mc2", "adv_sst2",
            "adv_qqp", "adv_mnli", "adv_mnli_mm", "adv_qnli", "adv_rte",
        ),
        "dialogue": ("mt_bench",),
        "long": ("retrieval",),
    },
    "jin2024": {
        "knowledge": ("mmlu", "ceval-valid", "cnn_dailymail_abisee", "xsum", "gsm8k", "snli", "perplexity"),
        "alignment": ("followbench", "truthfulqa_mc1", "bbq"),
        "efficiency": ("speed",),
    },
}  # fmt: skip
"""Study -> its types or dimensions -> tasks. XSum needs the package unitxt, the summaries need rouge_score and bert_score."""

SUITES: dict[str, tuple[str, ...]] = {
    "quick": ("perplexity", "kl-divergence", "retrieval", "arithmetic-choice"),
    "text": ("perplexity", "kl-divergence"),
    "efficiency": ("speed",),
    **{study: tuple(task for tasks in parts.values() for task in tasks) for study, parts in _STUDIES.items()},
    **{f"{study}-{part}": tasks for study, parts in _STUDIES.items() for part, tasks in parts.items()},
}
"""Suite -> tasks; a part of a study is called `li2024-trust`. `quick`, `text` and `efficiency` run without a network."""

SUITE_GAPS: dict[str, str] = {
    "li2024": "multi-document QA (LITM), which no task of the harness is; its nearest is longbench_hotpotqa",
    "jin2024": "FLORES-200 between English and Chinese, whose data are gated and which no task of the harness is",
}
"""What a study tested beyond the suite named after it."""

_VERSIONS = dict.fromkeys(KINDS, 1)
"""Raised when the way of scoring changes, so that old and new numbers are not compared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskOptions:
    """What a user may set for all tasks of a sweep; None = the task's own default."""

    limit: int | None = None
    """Samples (documents, windows, questions) a task."""
    context: int | None = None
    """Tokens of one window, or of the longest retrieval prompt."""
    shots: int | None = None
    text: Path | None = None
    """Text file for perplexity and KL divergence, in place of the built-in text."""
    task_dir: Path | None = None
    """Folder with own lm-evaluation-harness tasks (YAML and JSONL)."""
    batch: int | None = None
    """Sequences at once, where that decides the result (speed)."""
    judge: Judge | None = None
    """The model that grades open answers; none is asked unless the user names one."""
    online: bool = False
    """Whether data sets may be fetched."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskPlan:
    """One task of a sweep."""

    name: str
    kind: str
    options: TaskOptions
    data_hash: str | None
    """Hash of the data where they are known before the run."""
    text: Text | None = None

    @property
    def shown_options(self) -> dict[str, Scalar]:
        """Options that decide the result, for the record."""
        chosen: dict[str, Scalar] = {"limit": self.options.limit, "context": self.options.context, "shots": self.options.shots}
        if self.kind == "speed":
            chosen["batch"] = self.options.batch
        if self.kind in JUDGED and self.options.judge is not None:
            chosen["judge"] = self.options.judge.model
        return {name: value for name, value in chosen.items() if value is not None}

    @property
    def hash(self) -> str:
        """Sixteen hexadecimal digits over kind, version, options and data."""
        content = [self.name, self.kind, _VERSIONS[self.kind], self.shown_options, self.data_hash]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def version(self) -> str:
        """Version of the scoring."""
        return f"{self.kind}/{_VERSIONS[self.kind]}"


@dataclass(slots=True, kw_only=True)
class TaskResult:
    """What a scorer found; comparison with the baseline is the runner's part."""

    measurements: list[Measurement]
    samples: dict[str, list[float | int | str | None]] = field(default_factory=dict)
    weights: dict[str, str] = field(default_factory=dict)
    """Value column -> column of weights, where samples count unequally."""
    correct: str | None = None
    """Column with 1 for right and 0 for wrong, for flips."""
    details: dict[str, Scalar] = field(default_factory=dict)
    data_hash: str | None = None
    task_version: str | None = None
    shots: int | None = None
    harness: str | None = None
    context: int | None = None
    limit: int | None = None
    chat_template_hash: str | None = None


class Scorer(Protocol):
    """Scores one task; one object lives through a sweep, so that it can keep what the unquantized model said."""

    def __init__(self, task: TaskPlan, *, seed: int) -> None: ...

    def prepare(self, loaded: "LoadedModel") -> None:
        """Build the samples, and take from the unquantized model what later scores are compared with."""
        ...

    def score(self, loaded: "LoadedModel") -> TaskResult:
        """Score the model as it stands."""
        ...


def load_scorer(task: TaskPlan, *, seed: int) -> Scorer:
    """The scorer of `task`."""
    module, _, name = KINDS[task.kind].partition(":")
    scorer: type[Scorer] = getattr(import_module(module), name)
    return scorer(task, seed=seed)


def plan_tasks(names: Sequence[str], options: TaskOptions) -> list[TaskPlan]:
    """The tasks that `names` (tasks or suites) mean, each once, in the order given.

    Raises:
        TaskDataError: the text file cannot be used.
        UnknownNameError: no task given.
    """
    expanded = [task for name in names for task in SUITES.get(name, (name,))]
    if not expanded:
        raise UnknownNameError.of("task", "", [*SUITES, *KINDS], hint="name a suite with --suite or tasks with --tasks")
    return [_plan_task(name, options) for name in dict.fromkeys(expanded)]


def _plan_task(name: str, options: TaskOptions) -> TaskPlan:
    kind = name if name in KINDS and name != "harness" else "harness"
    if kind in ("perplexity", "kl-divergence"):
        text = load_text(options.text, part="score")
        return TaskPlan(name=name, kind=kind, options=options, data_hash=text.sha256, text=text)
    data_hash = folder_hash(options.task_dir) if kind in ("harness", *JUDGED) and options.task_dir else None
    return TaskPlan(name=name, kind=kind, options=options, data_hash=data_hash)


def find_unjudged(tasks: Sequence[TaskPlan]) -> dict[str, str]:
    """Judged tasks that cannot run, with the reason: no judge is named, or the questions are not here."""
    from measure.tasks.questions import data_file

    missing = {}
    for task in tasks:
        if task.kind in JUDGED:
            file = data_file(task)
            if task.options.judge is None:
                missing[task.name] = "needs a judge: --judge-url and --judge-model"
            elif file is None or not file.is_file():
                missing[task.name] = f"needs {task.name}.jsonl in --task-dir"
    return missing


def find_missing_data(tasks: Sequence[TaskPlan]) -> dict[str, str]:
    """Tasks of the harness whose definition or data are not on this machine, with the reason. Loads the data that are.

    Raises:
        MissingDependencyError: the extra `measure` is not installed.
    """
    harness = [task for task in tasks if task.kind == "harness"]
    if not harness:
        return {}
    try:
        from measure.tasks.harness import HarnessScorer
    except ModuleNotFoundError as error:
        raise MissingDependencyError.of(
            str(error.name).partition(".")[0], extra="measure", purpose="looking for data"
        ) from error
    missing = {}
    for task in harness:
        try:
            HarnessScorer(task, seed=0).find()
        except TaskDataError as error:
            missing[task.name] = error.message
    return missing


def folder_hash(folder: Path) -> str:
    """Sixteen hexadecimal digits over the YAML, JSON and JSONL files of a task folder."""
    digest = hashlib.sha256()
    for file in sorted(folder.rglob("*")):
        if file.suffix in (".yaml", ".yml", ".json", ".jsonl", ".py") and file.is_file():
            digest.update(file.relative_to(folder).as_posix().encode())
            digest.update(file.read_bytes())
    return digest.hexdigest()[:16]
