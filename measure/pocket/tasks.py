"""Writes the pocket tasks for lm-evaluation-harness: `python -m measure.pocket.tasks FOLDER`, then `--task-dir FOLDER`.

`pocket-sums` and `pocket-instructions` generate answers, `pocket-modules` chooses among four modules of Python. What they ask
is held out of training (see `measure.pocket.skills`).
"""

import json
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from measure.pocket.skills import fact_question, facts, is_held_out, write_instruction, write_sum

TASKS = ("pocket-sums", "pocket-instructions", "pocket-modules")
ITEMS = 100
_SEED = 1_000_003


def write_tasks(folder: Path, *, items: int = ITEMS) -> Path:
    """YAML and JSONL of the tasks, at most `items` questions each; returns the folder, which is made if need be."""
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    for name, write in (("pocket-sums", write_sum), ("pocket-instructions", write_instruction)):
        _write(folder, name, _generated(write, items), _GENERATION)
    _write(folder, "pocket-modules", _modules(items), _CHOICE)
    return folder


_GENERATION: dict[str, Any] = {
    "output_type": "generate_until",
    "doc_to_text": "{{question}}",
    "doc_to_target": "{{answer}}",
    "generation_kwargs": {"until": ["\n"], "max_gen_toks": 12, "do_sample": False},
    "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
    "filter_list": [{"name": "none", "filter": [{"function": "remove_whitespace"}, {"function": "take_first"}]}],
}
_CHOICE: dict[str, Any] = {
    "output_type": "multiple_choice",
    "doc_to_text": "{{question}}",
    "doc_to_choice": "{{choices}}",
    "doc_to_target": "label",
    "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
}


def _generated(write: Callable[..., tuple[str, str]], items: int) -> list[dict[str, Any]]:
    rng = random.Random(_SEED)
    asked: dict[str, str] = {}
    while len(asked) < items:
        question, answer = write(rng, held_out=True)
        asked[question] = answer.strip()
    return [{"question": question, "answer": answer} for question, answer in asked.items()]


def _modules(items: int) -> list[dict[str, Any]]:
    rng = random.Random(_SEED)
    modules = sorted({module for _, module in facts()})
    asked = [(name, module) for name, module in facts() if is_held_out(name, share=3)]
    rows = []
    for name, module in rng.sample(asked, min(items, len(asked))):
        choices = [module, *rng.sample([other for other in modules if other != module], 3)]
        rng.shuffle(choices)
        rows.append({"question": fact_question(name), "choices": choices, "label": choices.index(module)})
    return rows


def _write(folder: Path, name: str, rows: list[dict[str, Any]], kind: dict[str, Any]) -> None:
    data = folder / f"{name}.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    definition = {
        "task": name, "dataset_path": "json", "dataset_kwargs": {"data_files": {"test": str(data)}}, "test_split": "test",
        "num_fewshot": 0, "metadata": {"version": 1.0}, **kind,
    }  # fmt: skip
    (folder / f"{name}.yaml").write_text(json.dumps(definition), encoding="utf-8")  # JSON is YAML


if __name__ == "__main__":
    write_tasks(Path(sys.argv[1]))
