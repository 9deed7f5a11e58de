"""The trained pocket models: they have their skills, and quantization costs them what it costs real models."""

import json
import math
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

pytest.importorskip("torch")

from typer.testing import CliRunner

from knowledge.measurements import load_record
from measure.cli import app
from measure.pocket.skills import held_out_pairs, is_held_out
from measure.pocket.tasks import write_tasks
from measure.presets import expand_recipes
from measure.tasks import TaskOptions, load_scorer, plan_tasks

pytestmark = pytest.mark.measure

POCKET = Path(__file__).parents[1] / "data" / "pocket"
SIX = "w8a16-g128,w4a16-g128:gptq,nf4,w8a8,kv4,w2a16-g128"


@pytest.fixture(scope="module")
def largest():
    """The largest pocket model, and the scores of a task on it under a recipe."""
    from measure.backend import TorchBackend
    from measure.models import locate_model
    from measure.plan import Settings

    backend = TorchBackend(locate_model(str(POCKET / "pocket-l")), Settings())
    backend.open()
    scorers, results = {}, {}

    def score(recipe, task, **options):
        if (recipe, task) not in results:
            if task not in scorers:
                scorers[task] = load_scorer(plan_tasks([task], TaskOptions(**options))[0], seed=0)
                scorers[task].prepare(backend.loaded)
            with backend.quantized(*expand_recipes([recipe])[-1]):
                result = scorers[task].score(backend.loaded)
            results[recipe, task] = {measurement.metric: measurement.value for measurement in result.measurements}
        return results[recipe, task]

    return score


def unigram_nll():
    """Nats per token of the scored text under its own token frequencies: better than any unigram model can do."""
    from transformers import AutoTokenizer

    from measure.text import builtin_text

    ids = AutoTokenizer.from_pretrained(POCKET / "pocket-l")(builtin_text("score").content)["input_ids"]
    counts = Counter(ids)
    return -sum(count / len(ids) * math.log(count / len(ids)) for count in counts.values())


def test_baseline_skills(largest, tmp_path):
    assert largest("none", "retrieval", limit=8)["exact_match"] > 0.9
    assert largest("none", "perplexity", limit=8)["nll_per_token"] < unigram_nll() - 2
    tasks = write_tasks(tmp_path)
    for task, metric, lowest in (
        ("arithmetic-choice", "acc", 0.8),
        ("pocket-sums", "exact_match", 0.8),
        ("pocket-instructions", "exact_match", 0.5),
        ("pocket-modules", "acc", 0.5),
    ):
        assert largest("none", task, limit=50, task_dir=tasks)[metric] > lowest, task


def sums_held_out_in_both_orders(top, count):
    """Sums of numbers below `top` of which neither a + b nor b + a was taught."""
    rng, found = random.Random(2), []
    while len(found) < count:
        first, second = rng.randrange(top), rng.randrange(top)
        questions = (f"{first} + {second} =", f"{second} + {first} =")
        if all(question in held_out_pairs() or is_held_out(question) for question in questions):
            found.append((questions[0], f" {first + second}\n"))
    return found


@pytest.mark.parametrize(("top", "lowest"), [(100, 0.9), (1000, 0.9)])
def test_sums_are_worked_out_and_not_remembered(top, lowest):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(POCKET / "pocket-l")
    model = AutoModelForCausalLM.from_pretrained(POCKET / "pocket-l", dtype=torch.float32)
    right = 0
    for question, answer in (asked := sums_held_out_in_both_orders(top, 100)):
        ids = tokenizer(question + answer, return_tensors="pt")["input_ids"]
        length = len(tokenizer(answer)["input_ids"])
        with torch.no_grad():
            predicted = model(ids).logits[0, -length - 1 : -1].argmax(-1)
        right += torch.equal(predicted, ids[0, -length:])
    assert right / len(asked) > lowest


@pytest.mark.parametrize(
    ("recipe", "lowest", "highest"),
    [("w8a16-g128-asym", -0.01, 0.01), ("w4a16-g128-asym", 0.0, 0.3), ("w2a16-g128-asym", 0.5, 20.0)],
    ids=["eight bits are free", "four bits cost little", "two bits break it"],
)
def test_bits_of_weights(largest, recipe, lowest, highest):
    before = largest("none", "perplexity", limit=8)["nll_per_token"]
    assert lowest < largest(recipe, "perplexity", limit=8)["nll_per_token"] - before < highest


def test_bits_of_the_cache(largest):
    before, eight, two = (largest(recipe, "retrieval", limit=8)["exact_match"] for recipe in ("none", "kv8", "kv2"))
    assert eight == pytest.approx(before, abs=0.1)
    assert two < before - 0.3


def test_a_sweep_from_the_command_line_leaves_records_that_load(tmp_path):
    arguments = ["run", "--model", str(POCKET / "pocket-s"), "--suite", "quick", "--recipes", SIX, "--limit", "3"]
    arguments += ["--context", "256", "--calibration-samples", "8", "--output", str(tmp_path)]
    result = CliRunner().invoke(app, [*arguments, "--json"])
    assert result.exit_code == 0, result.output
    assert (json.loads(result.stdout)["ok"], json.loads(result.stdout)["failed"]) == (28, 0)
    records = [load_record(file) for file in tmp_path.glob("*.json")]
    assert {record.spec.model for record in records} == {"pocket-s"}
    assert Counter(record.spec.task for record in records) == dict.fromkeys(
        ("perplexity", "kl-divergence", "retrieval", "arithmetic-choice"), 7
    )


@pytest.mark.slow
def test_all_recipes_and_a_kill_in_between(tmp_path):
    """At least thirty recipes of every kind; killed in the middle, the same command goes on where it was."""
    command = [sys.executable, "-W", "ignore", "-c", "from advisor.cli.main import run; run()", "measure", "run"]
    command += ["--model", str(POCKET / "pocket-s"), "--suite", "quick", "--recipes", f"@{POCKET / 'recipes.txt'}"]
    command += ["--limit", "3", "--context", "256", "--calibration-samples", "8", "--output", str(tmp_path)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    first = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while len(list(tmp_path.glob("*.json"))) < 30 and first.poll() is None:
        time.sleep(0.1)
    first.send_signal(signal.SIGKILL)
    first.wait()
    done = {file: file.stat().st_mtime_ns for file in tmp_path.glob("*.json")}
    assert done
    second = subprocess.run([*command, "--json"], env=environment, capture_output=True, text=True, check=True)
    counts = json.loads(second.stdout)
    assert counts["failed"] == 0
    assert counts["skipped"] == len(done)
    assert counts["ok"] + counts["skipped"] == 4 * 40
    assert all(file.stat().st_mtime_ns == written for file, written in done.items())
    assert len([load_record(file) for file in tmp_path.glob("*.json")]) == 4 * 40
