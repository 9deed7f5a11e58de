"""What a refresh learns, as a user sees it: broken checkpoints, conflicts, and when a fit is not worth it."""

import csv
from pathlib import Path

import pytest
from helpers import run_cli

from knowledge.evidence import BROKEN

TASKS = {"mmlu": (62, 25), "hellaswag": (80, 25), "arc_challenge": (58, 25), "winogrande": (74, 50), "piqa": (82, 50)}
COLUMNS = (
    "source", "ref", "model", "family", "method", "w_bits", "w_dtype", "w_group", "w_sym", "a_bits", "kv_bits", "task",
    "task_type", "ability", "metric", "higher_is_better", "baseline", "score",
)  # fmt: skip
HEALTHY, RUINED = (0.01, 0.03, 0.02, 0.0, 0.015), (0.45, 0.5, 0.4, 0.6, 0.35)


def table(path: Path, **losses: tuple[float, ...]) -> Path:
    """A table of one's own 4-bit checkpoints of Mistral 7B: for each method its loss on every task."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for method, values in losses.items():
            for (task, (baseline, chance)), loss in zip(TASKS.items(), values, strict=True):
                score = round(baseline - loss * (baseline - chance), 2)
                recipe = ("mine", "this week", "mistral-7b", "mistral", method, 4, "int", 128, 0, 16, 16)
                writer.writerow((*recipe, task, "emergent", "knowledge", "acc", 1, baseline, score))
    return path


@pytest.fixture
def broken(fresh_home, tmp_path):
    """A refresh of three checkpoints, of which one is ruined; its JSON."""
    return run_cli("refresh", table(tmp_path / "a.csv", gptq=HEALTHY, hqq=HEALTHY, awq=RUINED), "--json").json


def test_a_broken_checkpoint_is_kept_shown_and_not_believed(broken) -> None:
    (flag,) = broken["broken"]
    assert (flag["model"], flag["method"]) == ("mistral-7b-v0.1", "awq")
    rows = run_cli("evidence", "--model", "mistral-7b", "--method", "awq", "--source", "own:mine", "--json").json["evidence"]
    assert len(rows) == 5
    assert all(not row["learnable"] and row["reason"].startswith(BROKEN) for row in rows)
    answer = run_cli(
        "explain", "--model", "mistral-7b", "--task", "mmlu", "--mem", "8GB", "--scheme", "w4a16-g128-asym", "--method", "awq"
    )
    assert BROKEN in " ".join(answer.out.split())


def test_few_rows_are_pooled_and_the_predictor_stays(broken) -> None:
    assert "too few to refit" in broken["fit"]["words"][0]
    assert not broken["fit"]["promoted"]
    (version, *_) = run_cli("knowledge", "log", "--json").json["versions"]
    assert version["predictor"] is None
    assert version["backtest"]["new_rows"] == 10
    again = run_cli("refresh", "--json").json
    assert again["status"] == "nothing_new", "a version that was judged is not judged again"


def test_the_summary_names_what_was_learned(fresh_home, tmp_path) -> None:
    out = run_cli("refresh", "--no-fit", table(tmp_path / "a.csv", gptq=HEALTHY, hqq=HEALTHY, awq=RUINED)).out
    assert "broken?        mistral-7b-v0.1" in out
    assert "\npredictor" not in out, "--no-fit"


def test_conflicts_with_published_scores_are_listed(fresh_home, tmp_path) -> None:
    assert run_cli("evidence", "--conflicts").out == "0 conflicts between own and published scores\n"
    done = run_cli("refresh", "--no-fit", table(tmp_path / "a.csv", gptq=(0.8, 0.8, 0.8, 0.8, 0.8)), "--json").json
    found = run_cli("evidence", "--conflicts", "--json").json["conflicts"]
    assert found == done["conflicts"]
    assert all(conflict["model"] == "mistral-7b-v0.1" and conflict["own"] > 0.7 for conflict in found)
