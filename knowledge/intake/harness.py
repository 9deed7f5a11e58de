"""Result files of lm-evaluation-harness, 0.4.x and 0.3, as runs of one task each with the conditions under which they ran.

0.4 (`lm_eval/result_schema.py` at 0.4.13): `results` by task with keys `metric,filter`, groups among them, `group_subtasks`,
`versions`, `n-shot`, `n-samples`, `configs`, `config`, `lm_eval_version`, `chat_template_sha`, `task_hashes` where documents
were logged; `model_args` is text in early versions and an object in late ones. 0.3 (`main.py --output_path`): `results` with
plain metric names, `versions`, and `config` with `num_fewshot`, `limit` and no version of the harness.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

from knowledge.documents import number_of, object_of, text_of
from knowledge.errors import DataError
from knowledge.measurements import ComparabilityKey

_NOT_METRICS = ("alias", "name", "sample_len", "sample_count", "samples")
_DEFINITION = (
    "doc_to_text", "doc_to_target", "doc_to_choice", "description", "target_delimiter", "fewshot_delimiter", "output_type",
    "generation_kwargs", "filter_list", "metric_list", "repeats",
)  # fmt: skip
"""Fields of a task's configuration that decide its scores."""
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")
"""Where a function lay in memory: part of how 0.4.0 wrote configurations."""
_MOST_TASKS = 5000


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """One number of a task."""

    row: int
    """Position in the file, from 1."""
    metric: str
    filter: str | None
    value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class HarnessRun:
    """One task of one result file."""

    file: str
    path: Path
    """The file, beside which its logged documents may lie."""
    ref: str
    task: str
    scores: tuple[Score, ...]
    items: int | None
    key: ComparabilityKey
    """Conditions; the model's fingerprint in it is filled in once it is known what the model was made from."""
    group: str | None
    """The group of which it is a part."""
    leaves: tuple[str, ...]
    """The tasks whose documents it scores: itself, or those of a group."""
    model: str
    """What was loaded: a hub id or a path, as the harness was told."""
    arguments: Mapping[str, object]
    """`model_args`."""
    engine: str
    """Kind of model of the harness: hf, vllm, …"""
    dtype: str | None
    parameters: int | None


def read_harness(document: Mapping[str, Any], path: Path, shown: str) -> list[HarnessRun]:
    """The runs in a result file.

    Args:
        document: the file's content.
        path: where it lies.
        shown: what to call it.

    Raises:
        DataError: it does not say which model ran, or holds no results.
    """
    results = {**object_of(document.get("results")), **object_of(document.get("groups"))}
    config = object_of(document.get("config"))
    engine, arguments = text_of(config.get("model")), _arguments(config.get("model_args"))
    model = _model(document, engine, arguments)
    if not results or not model:
        raise DataError("output of lm-evaluation-harness without " + ("the name of its model" if results else "results"))
    if len(results) > _MOST_TASKS:
        raise DataError(f"{len(results):,} tasks are more than a result file may have ({_MOST_TASKS:,})")
    facts = _File(document, config, "n-shot" not in document and "num_fewshot" in config and "configs" not in document)
    parts = {part: group for group, members in facts.groups.items() for part in members}
    rows = count(start=1)
    runs = []
    for task, values in results.items():
        if not isinstance(values, dict):
            raise DataError(f"the results of {task!r} are not as the harness writes them", given=repr(values)[:80])
        scores = tuple(_scores(values, rows, old=facts.old))
        if not scores or not text_of(task):  # a group without a mean of its own: its tasks have the scores
            continue
        leaves = tuple(sorted(facts.leaves(task)))
        runs.append(HarnessRun(
            file=shown, path=path, ref=facts.ref, task=task, scores=scores,
            items=facts.items(values, leaves), key=facts.key(task, leaves), group=parts.get(task), leaves=leaves,
            model=model, arguments=arguments, engine=engine or "",
            dtype=_dtype(config, arguments), parameters=_whole(config.get("model_num_parameters")),
        ))  # fmt: skip
    if not runs:
        raise DataError("output of lm-evaluation-harness without a score")
    return runs


class _File:
    """What a result file says about all its tasks."""

    def __init__(self, document: Mapping[str, Any], config: Mapping[str, Any], old: bool) -> None:
        self.document, self.config, self.old = document, config, old
        self.groups = {
            group: [part for part in members if isinstance(part, str)]
            for group, members in object_of(document.get("group_subtasks")).items()
            if isinstance(members, list) and members
        }
        version = text_of(document.get("lm_eval_version")) or text_of(document.get("git_hash"))
        self.harness = f"lm_eval {version or ('0.3' if old else 'of unknown version')}"

    @property
    def ref(self) -> str:
        """What names the run wherever its file lies: the time at which it began, else a hash of the file."""
        date = number_of(self.document.get("date"))
        if date is not None and 0 < date < 1e11:
            return f"{self.harness}, {datetime.fromtimestamp(date, UTC).isoformat(timespec='seconds')}"
        digest = hashlib.sha256(json.dumps(self.document, sort_keys=True).encode("utf-8", "surrogatepass")).hexdigest()
        return f"{self.harness}, results {digest[:12]}"

    def leaves(self, task: str, above: tuple[str, ...] = ()) -> set[str]:
        """The tasks that a group consists of; a task consists of itself."""
        members = self.groups.get(task)
        if not members or task in above:
            return {task}
        return {leaf for part in members for leaf in self.leaves(part, (*above, task))}

    def items(self, values: Mapping[str, Any], leaves: tuple[str, ...]) -> int | None:
        """Documents that were scored."""
        counts = object_of(self.document.get("n-samples"))
        numbers = [_whole(object_of(counts.get(leaf)).get("effective")) for leaf in leaves]
        if all(numbers):
            return sum(number for number in numbers if number)
        return _whole(values.get("sample_len")) or _whole(values.get("samples")) or self.limit

    @property
    def limit(self) -> int | None:
        """Documents a task was cut to; of a share, its parts in a million, so that equal shares are equal."""
        limit = number_of(self.config.get("limit"))
        if limit is None or limit <= 0:
            return None
        return int(limit) if limit >= 1 else int(limit * 1_000_000)

    def key(self, task: str, leaves: tuple[str, ...]) -> ComparabilityKey:
        """The conditions of a task, the model's fingerprint still empty."""
        configs = object_of(self.document.get("configs"))
        definitions = [object_of(configs.get(leaf)) for leaf in leaves]
        shots = self._shots(task, leaves)
        hashes = [text_of(object_of(self.document.get("task_hashes")).get(leaf)) for leaf in leaves]
        rolling = any(definition.get("output_type") == "loglikelihood_rolling" for definition in definitions)
        return ComparabilityKey(
            task=task,
            task_version=_version(object_of(self.document.get("versions")), (task, *leaves)),
            data_hash=_digest(hashes) if all(hashes) else None,
            metric_version=_digest([[_ADDRESS.sub("", json.dumps(d.get(name))) for name in _DEFINITION] for d in definitions]
                                   + [self.config.get("gen_kwargs") or None]),
            shots=shots,
            chat_template_hash=self._dialogue(),
            harness=self.harness,
            limit=self.limit,
            context=_whole(self.document.get("max_length")) if rolling else None,
            dtype="any",
            model_fingerprint="",
            seed=(_whole(self.config.get("fewshot_seed")) or 0) if shots else 0,
        )  # fmt: skip

    def _shots(self, task: str, leaves: tuple[str, ...]) -> int | None:
        if self.old:
            return _whole(self.config.get("num_fewshot"), least=0)
        stated = object_of(self.document.get("n-shot"))
        numbers = {_whole(stated.get(leaf), least=0) for leaf in leaves}
        return _whole(stated.get(task), least=0) if task in stated else numbers.pop() if len(numbers) == 1 else None

    def _dialogue(self) -> str | None:
        """Hash over chat template, system prompt and their use; None where there is none."""
        names = ("chat_template_sha", "chat_template", "system_instruction_sha", "system_instruction", "fewshot_as_multiturn")
        stated = {name: self.document.get(name) for name in names}
        if stated["chat_template_sha"]:
            stated["chat_template"] = None
        return _digest(stated) if any(stated.values()) else None


def _scores(values: Mapping[str, Any], rows: Iterator[int], *, old: bool) -> Iterator[Score]:
    for name, value in values.items():
        metric, comma, which = name.partition(",")
        number = number_of(value)
        if number is None or metric in _NOT_METRICS or metric.endswith("_stderr") or (not comma and not old):
            continue
        yield Score(row=next(rows), metric=metric, filter=which if which and which != "none" else None, value=number)


def _arguments(value: object) -> dict[str, object]:
    """`model_args`: an object, or text `a=1,b=2`."""
    if isinstance(value, dict):
        return value
    if not isinstance(value, str):
        return {}
    pairs = (part.partition("=") for part in value.split(",") if "=" in part)
    return {name.strip(): text.strip() for name, _, text in pairs}


def _model(document: Mapping[str, Any], engine: str | None, arguments: Mapping[str, object]) -> str | None:
    for value in (arguments.get("pretrained"), arguments.get("model"), document.get("model_name")):
        if name := text_of(value):
            return name
    return engine if engine and not arguments else None  # 0.3: `--model gpt2` alone


def _dtype(config: Mapping[str, Any], arguments: Mapping[str, object]) -> str | None:
    stated = text_of(config.get("model_dtype")) or text_of(arguments.get("dtype"))
    short = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16", "half": "fp16", "float": "fp32"}
    return short.get((stated or "").removeprefix("torch."))


def _version(versions: Mapping[str, Any], names: tuple[str, ...]) -> str | None:
    """The version of a task, of a group also those of its parts: as text, 1 and 1.0 being one."""
    stated = [versions.get(name) for name in names]
    texts = [
        value if isinstance(value, str) else f"{number_of(value) or 0:g}" for value in stated if value not in (None, "N/A")
    ]
    return "+".join(sorted({text.removesuffix(".0") for text in texts}))[:200] or None


def _whole(value: object, *, least: int = 1) -> int | None:
    number = number_of(value)
    return int(number) if number is not None and number.is_integer() and least <= number < 2**53 else None


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode("utf-8", "surrogatepass")).hexdigest()[:16]
