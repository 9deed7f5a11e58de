"""The task catalogue: facts that hold for every task, names, groups, weights and refusals."""

import csv
from pathlib import Path

import pytest

import knowledge.task_catalogue
from knowledge.errors import InvalidRequestError, UnknownNameError
from knowledge.task_catalogue import all_tasks, find_task, resolve_tasks, task_groups
from knowledge.tasks import METRICS, TASK_TYPES, TaskSpec

TASKS = list(all_tasks().values())
HARNESS = (
    "arc_challenge", "arc_easy", "hellaswag", "mmlu", "mmlu_stem", "mmlu_abstract_algebra", "mmlu_pro", "gsm8k",
    "gsm8k_cot", "minerva_math", "bbh", "ifeval", "leaderboard_bbh", "leaderboard_gpqa", "leaderboard_ifeval",
    "leaderboard_math_hard", "leaderboard_mmlu_pro", "leaderboard_musr", "truthfulqa_mc1", "truthfulqa_mc2",
    "truthfulqa_gen", "winogrande", "piqa", "boolq", "openbookqa", "lambada_openai", "lambada_standard", "wikitext",
    "race", "copa", "rte", "logiqa", "sciq", "triviaqa", "nq_open", "humaneval", "mbpp", "longbench",
    "longbench_qasper", "longbench_passage_retrieval_en", "longbench2", "ruler", "ruler_vt", "niah_single_1",
    "niah_multikey_3", "ceval-valid", "cmmlu", "mgsm_direct", "mgsm_de", "xnli_fr", "toxigen", "crows_pairs_english",
    "bbq", "squadv2", "drop", "coqa", "gpqa_main_zeroshot", "gpqa_diamond_cot_zeroshot", "commonsense_qa", "social_iqa",
    "mathqa", "anli_r1", "wic", "wsc", "cb", "multirc", "sst2", "mnli", "qnli", "qqp", "mrpc", "cola", "wnli", "blimp",
    "belebele", "xcopa", "xstorycloze_en", "pawsx", "aime24", "aime25", "hendrycks_math", "asdiv", "webqs",
    "medqa_4options", "medmcqa", "pubmedqa", "wmdp_bio", "winogender_all", "global_mmlu_fr", "kmmlu", "swag", "c4",
    "mmlu_redux", "gsm_plus",
)  # fmt: skip


def test_names_are_unique_and_plain() -> None:
    with (Path(knowledge.task_catalogue.__file__).parent / "catalog" / "tasks.csv").open(encoding="utf-8", newline="") as file:
        names = [row["name"] for row in csv.DictReader(file)]
    assert len(names) == len(set(names))
    assert all(name == name.lower() and " " not in name for name in all_tasks())


def test_aliases_name_one_task_each() -> None:
    aliases = [alias.replace("-", "_") for task in TASKS for alias in task.aliases]
    assert len(aliases) == len(set(aliases))
    assert not set(aliases) & {name.replace("-", "_") for name in all_tasks()}


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_every_task_is_consistent(task: TaskSpec) -> None:
    metric = METRICS[task.metric]
    assert task.title
    assert task.source, "a fact carries where it was read"
    assert task.type in TASK_TYPES
    assert all(METRICS[name] for name in task.metrics)
    assert task.items is None or task.items > 0
    if metric.loss == "delta_nll":
        assert task.unit in ("nats per token", "nats per word", "nats per byte")
        assert task.chance is None
    if task.chance is not None:
        assert 0 <= task.chance < (metric.maximum or 0)
    if task.representative:
        assert task.chance is not None or metric.loss == "delta_nll"
    if task.part_of:
        assert all_tasks()[task.part_of].chance == task.chance


@pytest.mark.parametrize("name", HARNESS)
def test_harness_names_are_known(name: str) -> None:
    assert find_task(name)


@pytest.mark.parametrize(
    ("name", "task"),
    [
        ("GSM8K", "gsm8k"),
        ("gsm8k_cot", "gsm8k"),
        ("arc-c", "arc_challenge"),
        ("MMLU-Pro", "mmlu_pro"),
        ("math_500", "math500"),
        ("minerva_math", "hendrycks_math"),
        ("ruler_avg", "ruler"),
        ("mt-bench", "mt_bench"),
        (" ceval_valid ", "ceval-valid"),
        ("mgsm_native_cot", "mgsm"),
    ],
)
def test_names_are_forgiving(name: str, task: str) -> None:
    assert find_task(name).name == task


@pytest.mark.parametrize(
    ("name", "chance", "items", "part_of"),
    [
        ("mmlu", 25, 14042, None),
        ("mmlu_stem", 25, 3153, "mmlu"),
        ("mmlu_professional_law", 25, 1534, "mmlu"),
        ("mmlu_french", 25, None, None),
        ("ceval_hard", 25, None, "ceval"),
        ("longeval_position", 0, 50, "longeval"),
        ("hendrycks_math_algebra", 0, 1187, "hendrycks_math"),
        ("truthfulqa_mc1", 22.5, 817, None),
        ("mt_bench", 1, 80, None),
        ("hle", None, None, None),
    ],
)
def test_facts(name: str, chance: float | None, items: int | None, part_of: str | None) -> None:
    task = find_task(name)
    assert (task.chance, task.items, task.part_of) == (chance, items, part_of)


def test_parts_of_mmlu_add_up() -> None:
    groups = [find_task(f"mmlu_{group}").items or 0 for group in ("stem", "humanities", "social_sciences", "other")]
    parts = [task.items or 0 for task in TASKS if task.part_of == "mmlu"]
    assert sum(groups) == 14042
    assert sum(parts) - sum(groups) == 14042


def test_wikitext_is_counted_per_word_and_wikitext2_per_token() -> None:
    assert (find_task("wikitext").unit, find_task("wikitext2").unit) == ("nats per word", "nats per token")


@pytest.mark.parametrize("name", TASK_TYPES)
def test_every_type_is_answered(name: str) -> None:
    members = task_groups()[name]
    assert members
    assert all(task.type == name and task.part_of is None for task in members)


def test_long_context_has_exact_retrieval_and_document_qa() -> None:
    abilities = [item.task.ability for item in resolve_tasks("long-context")]
    assert abilities.count("retrieval") >= 2
    assert "multi-document-qa" in abilities


@pytest.mark.parametrize(
    ("text", "shares"),
    [
        ("gsm8k", {"gsm8k": 1}),
        ("gsm8k:2,mmlu:1", {"gsm8k": 2 / 3, "mmlu": 1 / 3}),
        ("gsm8k:2,mmlu", {"gsm8k": 2 / 3, "mmlu": 1 / 3}),
        (" gsm8k : 0.5 , mmlu:0.5,", {"gsm8k": 0.5, "mmlu": 0.5}),
        ("gsm8k,gsm8k_cot", {"gsm8k": 1}),
        ("math", {"gsm8k": 0.5, "math500": 0.5}),
        ("math:1,mmlu:1", {"gsm8k": 0.25, "math500": 0.25, "mmlu": 0.5}),
        ("chat", {"mt_bench": 1}),
        ("knowledge:3", {"mmlu": 1}),
        ("in-context-learning", {"mmlu": 0.5, "ceval": 0.5}),
        ("Language_Modeling", {"wikitext2": 0.5, "c4": 0.5}),
    ],
)
def test_requests_become_shares_that_sum_to_one(text: str, shares: dict[str, float]) -> None:
    found = {item.task.name: item.weight for item in resolve_tasks(text)}
    assert found == pytest.approx(shares)
    assert sum(found.values()) == pytest.approx(1)


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("gsm9k", UnknownNameError, "unknown task 'gsm9k'; did you mean gsm8k"),
        ("long-contxt", UnknownNameError, "did you mean long-context"),
        ("mmlu_abstract_algebr", UnknownNameError, "did you mean mmlu_abstract_algebra"),
        ("gsm8k:much", InvalidRequestError, "the weight in 'gsm8k:much' is no number"),
        ("gsm8k:-1,mmlu", InvalidRequestError, "the weight in 'gsm8k:-1' must be above 0"),
        ("gsm8k:0", InvalidRequestError, "must be above 0"),
        ("gsm8k:nan", InvalidRequestError, "must be above 0"),
        ("gsm8k:inf", InvalidRequestError, "must be above 0"),
        ("", InvalidRequestError, "no task is named"),
        (" , ", InvalidRequestError, "no task is named"),
        ("wikitext2,mmlu", InvalidRequestError, "losses of different units cannot be averaged"),
        ("wikitext2,wikitext", InvalidRequestError, "losses of different units cannot be averaged"),
    ],
)
def test_requests_that_cannot_be_understood(text: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        resolve_tasks(text)
    assert getattr(caught.value, "allowed", None)
