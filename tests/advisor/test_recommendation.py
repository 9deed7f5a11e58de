"""What is recommended: the answers themselves, on the packaged knowledge. `test_rank` and `test_pool` hold the arithmetic."""

import itertools
import json
import subprocess
import sys
from collections.abc import Iterator

import pytest

from advisor import recommend
from advisor.predictor import load_predictor
from advisor.rank import BROKEN_LOSS
from advisor.recommendation import allowed_candidates, study_request
from advisor.request import make_request
from advisor.study import Study, make_study
from knowledge.errors import InvalidRequestError, NoAnswerError, UnknownNameError
from knowledge.rules import load_rules
from knowledge.store import KnowledgeStore, open_store

FAMILIES = (
    "opt-6.7b", "llama-2-7b", "falcon-7b", "bloomz-7b1", "mixtral-8x7b", "chatglm3-6b", "vicuna-7b-v1.5-16k",
    "longchat-7b-v1.5-32k", "stablelm-zephyr-3b", "gemma-7b", "mamba-2.8b",
)  # fmt: skip
"""One model of each family of the seed study."""

LADDERS = {
    "mistral-7b": (16, 12, 9, 7, 6),
    "vicuna-7b-v1.5-16k": (16, 12, 9, 8, 7),
    "llama-3.1-8b-instruct": (16, 12, 9, 8, 7),
    "qwen2.5-7b-instruct": (16, 12, 9, 7, 6),
    "longchat-7b-v1.5-32k": (24, 16, 12, 10),
}
RETRIEVAL_RULES = ("li2024-27", "li2024-29", "li2024-30", "li2024-31", "li2024-32")
"""What the seed study says of the cache in exact retrieval."""


@pytest.fixture(scope="module")
def store() -> Iterator[KnowledgeStore]:
    with open_store() as opened:
        yield opened


def study_of(store: KnowledgeStore, **request: object) -> Study:
    return study_request(make_request(request), store)


def first(study: Study) -> int:
    return int(study.order(allowed_candidates(study))[0])


@pytest.mark.parametrize("model", FAMILIES)
def test_every_family_of_the_seed_study_gets_an_answer(model: str) -> None:
    answer = recommend(model=model, task="basic-nlp", memory="40GB")
    best = answer.best
    assert best.memory.total_bytes <= best.memory.budget_bytes
    assert best.quality.loss.lower <= best.quality.loss.point <= best.quality.loss.upper
    assert best.engines
    assert len(answer.recommendations) == 3
    assert best.reasons


@pytest.mark.parametrize(("model", "budget"), [(model, budget) for model, budgets in LADDERS.items() for budget in budgets])
def test_in_long_context_weights_go_to_four_bits_before_the_cache_goes_below_eight(
    store: KnowledgeStore, model: str, budget: int
) -> None:
    study = study_of(store, model=model, task="long-context", mem=f"{budget}GB")
    allowed = allowed_candidates(study)
    best = study.candidates[first(study)].scheme
    if best.kv_bits >= 8:
        return
    sound = allowed & study.in_support & (study.expected < BROKEN_LOSS)
    kept = [c.scheme.name for c, ok in zip(study.candidates, sound, strict=True) if ok and c.scheme.kv_bits >= 8]
    assert kept == [], "a sound recipe with a cache of 8 bits or more fits, yet one with fewer is first"


def test_without_the_rules_on_retrieval_the_answer_is_another(store: KnowledgeStore) -> None:
    every = load_rules()
    fewer = [rule for rule in every if rule.id not in RETRIEVAL_RULES]
    assert len(fewer) == len(every) - len(RETRIEVAL_RULES)
    changed = []
    for model, budgets in LADDERS.items():
        for budget in budgets:
            request = make_request({"model": model, "task": "long-context", "mem": f"{budget}GB"})
            names = []
            for rules in (every, fewer):
                study = make_study(request, store, load_predictor(), rules)
                names.append(study.candidates[first(study)].scheme_name)
            if names[0] != names[1]:
                changed.append((model, budget, *names))
    assert changed, "nothing would show that the rules act"


def test_the_same_request_gives_the_same_bytes() -> None:
    arguments = ["recommend", "--model", "gemma-2-9b", "--task", "gsm8k:2,mmlu:1", "--mem", "12GB", "--json"]
    program = "import sys; from advisor.cli.main import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", program, *arguments]
    runs = [subprocess.run(command, capture_output=True, check=True).stdout for _ in range(2)]
    assert runs[0] == runs[1]
    assert json.loads(runs[0])["status"] == "ok"


def test_floats_have_six_significant_digits() -> None:
    def floats(value: object) -> Iterator[float]:
        if isinstance(value, dict):
            value = list(value.values())
        if isinstance(value, list):
            for item in value:
                yield from floats(item)
        elif isinstance(value, float):
            yield value

    document = json.loads(recommend(model="mistral-7b", task="mmlu", memory="10GB").to_json())
    assert all(number == float(f"{number:.6g}") for number in floats(document))


@pytest.mark.parametrize("objective", ["balanced", "quality", "speed", "memory"])
def test_each_objective_is_met(store: KnowledgeStore, objective: str) -> None:
    study = study_of(store, model="llama-3-8b", task="mmlu", mem="12GB", objective=objective)
    allowed = allowed_candidates(study)
    best = first(study)
    clean = allowed & ~study.findings.strong_avoid & study.in_support & (study.expected < BROKEN_LOSS)
    assert clean[best]
    if objective == "quality":
        assert study.expected[best] <= study.expected[clean].min() + 0.001
    elif objective == "memory":
        assert study.costs.total[best] == study.costs.total[clean].min()
    elif objective == "speed":
        assert study.costs.penalized[best] <= study.costs.penalized[clean].min() * 1.1
    else:
        assert study.expected[best] <= study.expected[clean].min() + 0.02


def test_published_scores_of_the_very_cell_decide_where_there_are_many() -> None:
    rows = recommend(model="llama-3.1-8b-instruct", task="mmlu", memory="80GB", objective="quality", top=50).recommendations
    direct = [option for option in rows if option.quality.basis == "direct"]
    assert direct
    for option in direct:
        quality = option.quality.by_task[0]
        assert quality.direct is not None
        assert quality.n_evidence == option.quality.n_evidence > 0
        assert min(quality.direct.point, quality.predicted.point) - 1e-9 <= quality.loss.point
        assert quality.loss.point <= max(quality.direct.point, quality.predicted.point) + 1e-9
        assert {row.model for row in option.evidence} == {"llama-3.1-8b-instruct"}


def test_more_memory_never_makes_the_best_worse() -> None:
    losses = [
        recommend(model="llama-2-13b", task="emergent", memory=f"{budget}GB", objective="quality").best.quality.expected_loss
        for budget in (8, 12, 16, 40)
    ]
    assert all(later <= earlier + 0.001 for earlier, later in itertools.pairwise(losses))


def test_max_loss_bounds_the_upper_end() -> None:
    answer = recommend(model="llama-3-70b", task="mmlu", memory="200GB", max_loss=4.0, top=10)
    assert all(option.quality.loss.upper <= 0.04 for option in answer.recommendations)
    assert any(rejection.limit == "max_loss" for rejection in answer.rejected)


def test_weights_of_tasks_are_respected() -> None:
    answer = recommend(model="llama-2-7b", task="gsm8k:3,hellaswag:1", memory="10GB")
    weights = {task.task: task.weight for task in answer.best.quality.by_task}
    assert weights == {"gsm8k": 0.75, "hellaswag": 0.25}
    mean = sum(task.weight * task.loss.point for task in answer.best.quality.by_task)
    assert answer.best.quality.loss.point == pytest.approx(mean)


def test_perplexity_is_answered_in_nats() -> None:
    best = recommend(model="llama-2-7b", task="wikitext2", memory="8GB").best
    assert best.quality.kind == "delta_nll"
    assert best.quality.unit.startswith("nats")


def test_a_model_without_a_cache_is_offered_none() -> None:
    answer = recommend(model="mamba-2.8b", task="basic-nlp", memory="8GB", top=10)
    assert all("kv" not in option.scheme and option.memory.kv_cache_bytes == 0 for option in answer.recommendations)
    assert all(option.memory.state_bytes > 0 for option in answer.recommendations)


def test_licences_can_be_left_out() -> None:
    everything = recommend(model="mistral-7b", task="mmlu", memory="10GB")
    fewer = recommend(model="mistral-7b", task="mmlu", memory="10GB", exclude_licences=["none stated"])
    assert fewer.status == everything.status == "ok"
    with pytest.raises(UnknownNameError, match="licence"):
        recommend(model="mistral-7b", task="mmlu", memory="10GB", exclude_licences=["nonsense"])


def test_nothing_fits_says_what_would() -> None:
    with pytest.raises(NoAnswerError, match="the smallest is") as caught:
        recommend(model="llama-3-70b", task="mmlu", memory="4GB")
    assert caught.value.status == "nothing_fits"
    assert caught.value.exit_code == 3
    assert caught.value.allowed
    assert any(rejection.limit == "memory" for rejection in caught.value.rejected)


def test_nothing_within_the_loss_says_the_least() -> None:
    with pytest.raises(NoAnswerError, match="least upper bound") as caught:
        recommend(model="opt-1.3b", task="gsm8k", memory="1.3GB", max_loss=0.01)
    assert caught.value.status == "nothing_within_loss"
    assert caught.value.hint
    assert "--max-loss" in caught.value.hint


def test_a_task_without_a_chance_level_is_not_guessed_at() -> None:
    with pytest.raises(NoAnswerError, match="chance level") as caught:
        recommend(model="mistral-7b", task="hle", memory="16GB")
    assert caught.value.status == "insufficient_evidence"


@pytest.mark.parametrize(
    ("request_", "error", "match"),
    [
        ({"model": "mistrall-7b"}, UnknownNameError, "unknown model"),
        ({"task": "mmluu"}, UnknownNameError, "unknown task"),
        ({"engine": "vlm"}, UnknownNameError, "unknown engine"),
        ({"hardware": "rtx-9999"}, UnknownNameError, "unknown"),
        ({"context": "900k"}, InvalidRequestError, "beyond what"),
        ({"task": "mmlu:-1"}, InvalidRequestError, "weight"),
        ({"task": "mmlu,wikitext2"}, InvalidRequestError, "cannot be averaged"),
        ({"memory": "16"}, InvalidRequestError, "no unit"),
        ({"batch": 0}, InvalidRequestError, "--batch"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_requests_that_cannot_be_understood(request_: dict[str, object], error: type[Exception], match: str) -> None:
    request = {"model": "mistral-7b", "task": "mmlu", "memory": "16GB"} | request_
    with pytest.raises(error, match=match):
        recommend(**request)


def test_hardware_gives_its_memory_and_bounds_the_formats() -> None:
    answer = recommend(model="mistral-7b", task="mmlu", hardware="t4")
    assert answer.best.memory.budget_bytes == pytest.approx(16e9, rel=0.1)
    assert all(not option.scheme.startswith("fp8-") for option in answer.recommendations)
    assert any(rejection.limit == "hardware" for rejection in answer.rejected)
    assert answer.best.speed
    assert answer.best.speed["tokens_per_s"]


def test_an_engine_that_does_not_name_the_architecture_is_warned_of() -> None:
    best = recommend(model="stablelm-zephyr-3b", task="mmlu", memory="16GB", engine="exllamav2").best
    assert any(text.startswith("exllamav2 does not name StableLmForCausalLM") for text in best.cautions)


@pytest.mark.parametrize("content", [None, "", "{}", "[1, 2]"], ids=["missing", "empty", "no probe", "a list"])
def test_a_probe_that_cannot_be_read(tmp_path, content: str | None) -> None:
    path = tmp_path / "probe.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(InvalidRequestError, match=r"cannot read the probe .*probe\.json"):
        recommend(model="mistral-7b", task="mmlu", memory="10GB", probe=str(path))
