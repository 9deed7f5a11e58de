"""What to measure next: only what could change an answer, the most worth per second first, within the budget."""

import pytest
from helpers import run_cli
from own_evidence import make_store, own_row

from advisor.cli.suggest import parse_time
from advisor.past_requests import FILE, KEPT, note_request, past_requests
from advisor.request import make_request
from advisor.suggest import suggest
from knowledge.errors import InvalidRequestError


def ask(model="llama-2-7b", task="mmlu", memory="6GB", **fields):
    return make_request({"model": model, "task": task, "memory": memory, "engine": "vllm", **fields})


def anything(scheme, method):
    return method in ("rtn", "gptq", "awq") and not scheme.startswith("gguf")


def suggested(*rows, requests=None, budget_s=1e6, measurable=anything, past_s=None):
    with make_store(*rows) as store:
        wanted = requests or {ask(): 1}
        return suggest(store, wanted, budget_s=budget_s, measurable=measurable, past_s=past_s or {})


@pytest.fixture(scope="module")
def found():
    return suggested()


def test_suggestions_can_change_an_answer_and_come_by_worth_per_second(found) -> None:
    assert found
    assert all(one.value > 0 and 0 < one.flips <= 1 and one.estimated for one in found)
    assert {one.cell.task for one in found} == {"mmlu"}
    assert (
        found[0].command
        == f"qadvisor measure run --model meta-llama/Llama-2-7b-hf --recipes {found[0].cell.recipe} --tasks mmlu"
    )
    assert found[0].value == max(one.value for one in found), "equal cost: by worth"


def test_the_budget_holds_and_pays_for_the_unquantized_run(found) -> None:
    assert found[0].seconds == pytest.approx(2 * found[1].seconds)
    assert len(suggested(budget_s=found[0].seconds)) == 1
    assert suggested(budget_s=found[0].seconds - 1) == ()


def test_what_was_asked_more_often_is_worth_more(found) -> None:
    (first, *_) = suggested(requests={ask(): 3})
    assert first.cell == found[0].cell
    assert first.value == pytest.approx(3 * found[0].value)


def test_past_runs_tell_the_cost(found) -> None:
    (first, *_) = suggested(past_s={("llama-2-7b", "mmlu"): 100.0})
    assert (first.seconds, first.estimated) == (200.0, False)


def test_what_cannot_be_made_here_is_not_suggested() -> None:
    assert suggested(measurable=lambda scheme, method: False) == ()


def test_what_is_known_for_sure_need_not_be_measured(found) -> None:
    best = found[0].cell
    row = own_row(best.model, best.scheme, best.method, best.task, 0.02, loss_se=0.003)
    value = {one.cell: one.value for one in suggested(row)}.get(best, 0.0)
    assert value < 0.5 * found[0].value


def test_requests_are_kept_counted_and_cut(tmp_path, monkeypatch) -> None:
    for request in (ask(), ask(), ask(task="gsm8k")):
        note_request(request, home=tmp_path)
    assert sorted(past_requests(tmp_path).values()) == [1, 2]
    assert set(past_requests(tmp_path)) == {ask(), ask(task="gsm8k")}
    for _ in range(1500):
        note_request(ask(), home=tmp_path)
    assert len((tmp_path / FILE).read_text().splitlines()) < 1500
    assert sum(past_requests(tmp_path).values()) == KEPT
    monkeypatch.setenv("QADVISOR_HISTORY", "off")
    before = (tmp_path / FILE).read_bytes()
    note_request(ask(), home=tmp_path)
    assert (tmp_path / FILE).read_bytes() == before


def test_lines_that_are_no_request_are_passed_over(tmp_path) -> None:
    (tmp_path / FILE).write_text('nonsense\n[1]\n{"model": 3, "task": "mmlu"}\n{"task": "mmlu"}\n')
    assert past_requests(tmp_path) == {}
    note_request(ask(), home=tmp_path / "not" / "there")


@pytest.mark.parametrize(("text", "seconds"), [("30m", 1800), ("4h", 14400), ("1.5d", 129600), ("90s", 90)])
def test_times_have_units(text, seconds) -> None:
    assert parse_time(text) == seconds


@pytest.mark.parametrize("text", ["4", "h", "-1h", "0h", "4 weeks"])
def test_what_is_no_time_is_refused(text) -> None:
    with pytest.raises(InvalidRequestError, match="no time"):
        parse_time(text)


def test_the_command_line_suggests_for_what_was_asked(fresh_home) -> None:
    (fresh_home / FILE).unlink(missing_ok=True)
    line = ("--model", "llama-2-7b", "--task", "mmlu", "--mem", "6GB", "--engine", "vllm", "--json")
    assert run_cli("recommend", *line).code == 0
    answer = run_cli("measure", "plan", "--suggest", "--budget", "100h", "--json").json
    assert (answer["requests"], answer["origin"]) == (1, "past requests")
    assert answer["suggestions"][0]["model"] == "llama-2-7b"
    assert "may change answers to past requests: 1" in run_cli("measure", "suggest", "--budget", "2h").out
    assert run_cli("measure", "plan", "--suggest", "--budget", "soon").code == 2
