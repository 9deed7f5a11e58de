"""What lm-evaluation-harness 0.4.13 really wrote about a small random model, unquantized and with 3-bit weights.

The folder `tests/data/harness` holds the output as it came, less the description of the machine. The tasks bear the names of
known ones and have a few made-up documents each; the figures say nothing about anything.
"""

import json
import shutil
from typing import Any

import numpy as np
import pytest
from helpers import ROOT

from knowledge.evidence import BATCH_COLUMNS
from knowledge.intake import Intake, take_in

DATA = ROOT / "tests" / "data" / "harness"


@pytest.fixture(scope="module")
def intake(tmp_path_factory: pytest.TempPathFactory) -> Intake:
    """All of it, read from the folder in which the harness ran, so that its model paths lead somewhere."""
    folder = tmp_path_factory.mktemp("work")
    shutil.copytree(DATA, folder, dirs_exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return take_in(["results"])


def rows_of(intake: Intake) -> dict[tuple[str, str, str | None], dict[str, Any]]:
    rows = [dict(zip(BATCH_COLUMNS, values, strict=True)) for values in intake.rows]
    return {(row["task"], row["metric"], row["note"].removesuffix("hf")): row for row in rows if row["method"] != "none"}


def logged(model: str, task: str, metric: str) -> list[Any]:
    (file,) = (DATA / "results" / model).glob(f"samples_{task}_*.jsonl")
    return [json.loads(line)[metric] for line in file.read_text(encoding="utf-8").splitlines()]


def test_everything_has_its_place(intake: Intake) -> None:
    assert intake.read == {"harness output": 2}
    assert list(intake.quarantined) == []
    assert intake.left_out == {"part of mmlu": 8, "wikitext bits_per_byte: no evidence of a loss": 2}
    assert sorted(rows_of(intake)) == [
        ("arc_easy", "acc", ""), ("arc_easy", "acc_norm", ""), ("gsm8k", "exact_match", "flexible-extract; "),
        ("gsm8k", "exact_match", "strict-match; "), ("lambada_openai", "acc", ""), ("lambada_openai", "ppl", ""),
        ("mmlu", "acc", ""), ("wikitext", "byte_perplexity", ""), ("wikitext", "word_perplexity", ""),
    ]  # fmt: skip


def test_model_and_recipe_come_from_the_checkpoint(intake: Intake) -> None:
    found = {(row["model"], row["family"], row["scheme"], row["method"], row["shots"]) for row in rows_of(intake).values()}
    assert found == {("tiny", "llama", "w3a16-g64-sym", "rtn", 0)}


def test_accuracies_are_paired_document_by_document(intake: Intake) -> None:
    row = rows_of(intake)["arc_easy", "acc", ""]
    difference = np.array(logged("tiny-w3", "arc_easy", "acc")) - np.array(logged("tiny", "arc_easy", "acc"))
    assert row["baseline"] - row["score"] == pytest.approx(-100 * difference.mean())
    error = np.sqrt(difference.var(ddof=1) / 16 + 2 / (18 * 16))
    assert row["loss_se"] == pytest.approx(error / (row["baseline"] / 100 - 0.25))


def test_a_group_is_paired_over_the_documents_of_its_parts(intake: Intake) -> None:
    row = rows_of(intake)["mmlu", "acc", ""]
    difference = np.concatenate([
        np.array(logged("tiny-w3", task, "acc")) - np.array(logged("tiny", task, "acc"))
        for task in ("mmlu_birds", "mmlu_stones")
    ])  # fmt: skip
    assert (row["items"], row["baseline"] - row["score"]) == (20, pytest.approx(-100 * difference.mean()))
    assert row["loss_se"] == pytest.approx(
        np.sqrt(difference.var(ddof=1) / 20 + 2 / (22 * 20)) / (row["baseline"] / 100 - 0.25)
    )


def test_perplexities_are_differences_in_nats(intake: Intake) -> None:
    words = [np.array(logged(model, "wikitext", "word_perplexity")) for model in ("tiny", "tiny-w3")]
    before, after = (-log.sum() / count.sum() for log, count in (pairs.T for pairs in words))
    row = rows_of(intake)["wikitext", "word_perplexity", ""]
    assert (row["loss"], row["unit"]) == (pytest.approx(after - before), "nats per word")
    assert 0 < row["loss_se"] < 1
    answers = -np.array(logged("tiny-w3", "lambada_openai", "perplexity")) + np.array(
        logged("tiny", "lambada_openai", "perplexity")
    )
    row = rows_of(intake)["lambada_openai", "ppl", ""]
    assert row["loss"] == pytest.approx(answers.mean())
    assert row["loss_se"] == pytest.approx(answers.std(ddof=1) / np.sqrt(3))
