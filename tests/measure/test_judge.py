"""A judge behind a real HTTP server of a few lines on this machine: what is asked, what is read, what goes wrong."""

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

pytest.importorskip("httpx")

from knowledge.errors import InvalidRequestError
from knowledge.measurements import load_record
from measure.errors import JudgeError, TaskDataError
from measure.judge import Judge
from measure.tasks import TaskOptions, find_unjudged, plan_tasks
from measure.tasks.questions import Instruction, read_conversations, read_instructions

CONVERSATIONS = [
    {"question_id": 81, "category": "writing", "turns": ["Write a line.", "Shorter."]},
    {"question_id": 111, "category": "math", "turns": ["1 + 1 ="], "reference": ["2"]},
]
INSTRUCTIONS = [
    {"id": f"a{level}", "instruction": "Name a fruit.", "constraints": ["lower case", "one word", "a fruit"][:level],
     "group": "a", "level": level} for level in (1, 2, 3)
]  # fmt: skip


class Endpoint(HTTPServer):
    """Answers chat completions from a function of the request; keeps what it was asked."""

    def __init__(self, reply):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.reply, self.asked = reply, []

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/v1"


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append((self.path, dict(self.headers), body))
        status, content, headers = self.server.reply(body, len(self.server.asked))
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content.encode())

    def log_message(self, *arguments):
        pass


@contextmanager
def endpoint(reply):
    server = Endpoint(reply)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def says(text):
    return 200, json.dumps({"choices": [{"message": {"content": text}}]}), {"Content-Type": "application/json"}


def judge(server):
    return Judge(url=server.url, model="grader", pause_seconds=0.001)


MESSAGES = [{"role": "user", "content": "grade this"}]


@pytest.mark.parametrize("key", [None, "secret-1"], ids=["no key", "key"])
def test_what_is_asked(monkeypatch, key):
    monkeypatch.delenv("QADVISOR_JUDGE_KEY", raising=False)
    if key:
        monkeypatch.setenv("QADVISOR_JUDGE_KEY", key)
    with endpoint(lambda body, count: says("fine")) as server:
        assert judge(server).ask(MESSAGES, seed=7) == "fine"
    ((path, headers, body),) = server.asked
    assert path == "/v1/chat/completions"
    assert headers.get("Authorization") == (f"Bearer {key}" if key else None)
    assert (body["model"], body["messages"], body["temperature"], body["seed"]) == ("grader", MESSAGES, 0, 7)


def test_a_busy_endpoint_is_asked_again():
    with endpoint(lambda body, count: says("fine") if count == 3 else (503, "busy", {})) as server:
        assert judge(server).ask(MESSAGES) == "fine"
    assert len(server.asked) == 3


@pytest.mark.parametrize(
    ("reply", "message", "attempts"),
    [
        ((429, "slow down", {}), "no answer after 4 attempts: status 429", 4),
        ((401, "who?", {}), "refused with status 401", 1),
        ((404, "", {}), "refused with status 404", 1),
        ((302, "", {"Location": "http://127.0.0.1:9/elsewhere"}), "refused with status 302", 1),
        ((200, "no json", {}), "not answer in the form", 1),
        ((200, "[]", {}), "not answer in the form", 1),
        ((200, '{"choices": []}', {}), "not answer in the form", 1),
        (says("  "), "empty", 1),
    ],
    ids=["busy", "key", "path", "redirect", "text", "list", "no choice", "nothing said"],
)
def test_answers_that_cannot_be_used(monkeypatch, reply, message, attempts):
    monkeypatch.setenv("QADVISOR_JUDGE_KEY", "secret-2")
    with endpoint(lambda body, count: reply) as server, pytest.raises(JudgeError, match=message) as caught:
        judge(server).ask(MESSAGES)
    assert len(server.asked) == attempts
    assert "secret-2" not in repr(caught.value.__dict__) + str(caught.value)


def test_nobody_there():
    with endpoint(lambda body, count: says("x")) as server:
        pass
    with pytest.raises(JudgeError, match="no answer after 4 attempts: ConnectError"):
        judge(server).ask(MESSAGES)


@pytest.mark.parametrize(
    ("url", "model", "message"),
    [("ftp://x/v1", "m", "no address"), ("", "m", "no address"), ("http://u:p@x/v1", "m", "more than a place"),
     ("http://x/v1?key=1", "m", "more than a place"), ("http://x/v1", "", "no name")],
)  # fmt: skip
def test_judges_that_are_none(url, model, message):
    with pytest.raises(InvalidRequestError, match=message) as caught:
        Judge(url=url, model=model)
    assert "u:p" not in str(caught.value.given)


def write_questions(folder):
    (folder / "mt_bench.jsonl").write_text("".join(json.dumps(row) + "\n" for row in CONVERSATIONS))
    (folder / "followbench.jsonl").write_text("".join(json.dumps(row) + "\n" for row in INSTRUCTIONS))


def planned(folder, **options):
    return plan_tasks(["mt_bench", "followbench", "retrieval"], TaskOptions(task_dir=folder, **options))


def test_plans_say_what_is_missing(tmp_path):
    assert find_unjudged(planned(None)) == dict.fromkeys(
        ("mt_bench", "followbench"), "needs a judge: --judge-url and --judge-model"
    )
    named = Judge(url="http://x/v1", model="m")
    assert find_unjudged(planned(tmp_path, judge=named))["mt_bench"] == "needs mt_bench.jsonl in --task-dir"
    write_questions(tmp_path)
    assert find_unjudged(planned(tmp_path, judge=named)) == {}


def test_the_judge_and_the_questions_decide_the_key(tmp_path):
    write_questions(tmp_path)
    one, two = (planned(tmp_path, judge=Judge(url="http://x/v1", model=name))[0].hash for name in ("a", "b"))
    moved = planned(tmp_path, judge=Judge(url="http://elsewhere/v1", model="a"))[0].hash
    (tmp_path / "mt_bench.jsonl").write_text(json.dumps(CONVERSATIONS[0]))
    other = planned(tmp_path, judge=Judge(url="http://x/v1", model="a"))[0].hash
    assert one == moved
    assert len({one, two, other}) == 3


@pytest.mark.parametrize(
    ("content", "message"),
    [("", "is empty"), ("{", "line 1 is no conversation"), ('{"turns": []}', "line 1 is no conversation"),
     ('{"question_id": 1, "turns": []}', "asks nothing"), ('\n[1]', "line 2 is no conversation")],
    ids=["empty", "no json", "no id", "no turn", "list"],
)  # fmt: skip
def test_questions_that_cannot_be_read(tmp_path, content, message):
    (tmp_path / "mt_bench.jsonl").write_text(content)
    with pytest.raises(TaskDataError, match=message):
        read_conversations(planned(tmp_path)[0])
    with pytest.raises(TaskDataError, match="are not here"):
        read_instructions(planned(tmp_path)[1])


@pytest.mark.parametrize(
    ("met", "levels"), [([1, 1, 1], 3.0), ([1, 0, 1], 1.0), ([0, 1, 1], 0.0)], ids=["all", "gap", "first missed"]
)
def test_consistent_levels(met, levels):
    pytest.importorskip("torch")
    from measure.tasks.judged import consistent_levels

    assert consistent_levels([Instruction(**row) for row in INSTRUCTIONS], met) == {"a": levels}


def grader(body, count):
    """Grades by what it is shown: 8 where there is a reference, else 4 and then 6; of constraints the second fails."""
    system, shown = (message["content"] for message in body["messages"])
    if "constraints" in system:
        numbers = [line.partition(":")[0] for line in shown.rpartition("</answer>\n\n")[2].splitlines()]
        return says("\n".join(f"{number}: {'no' if number == '2' else 'yes'}" for number in numbers))
    return says(f"Well. [[{8 if '<reference>' in shown else 4 if shown.count('<user>') == 1 else 6}]]")


@pytest.mark.measure
def test_judged_tasks_from_the_command_line(model_folder, tmp_path):
    pytest.importorskip("torch")
    from typer.testing import CliRunner

    from measure.cli import app

    write_questions(tmp_path)
    where = ["--model", str(model_folder("llama")), "--recipes", "kv8", "--tasks", "mt_bench,followbench", "--context", "64"]
    where += ["--task-dir", str(tmp_path), "--output", str(tmp_path / "runs")]
    cells = json.loads(CliRunner().invoke(app, ["plan", *where, "--json"], catch_exceptions=False).stdout)["cells"]
    assert {(cell["status"], cell["reason"]) for cell in cells} == {("no_data", "needs a judge: --judge-url and --judge-model")}
    with endpoint(grader) as server:
        named = ["--judge-url", server.url, "--judge-model", "grader"]
        done = json.loads(CliRunner().invoke(app, ["run", *where, *named, "--json"], catch_exceptions=False).stdout)
    assert (done["ok"], done["failed"]) == (4, 0)
    records = {(r.spec.recipe, r.spec.task): r for r in map(load_record, (tmp_path / "runs").glob("*.json"))}
    talk, checked = records["none", "mt_bench"], records["w16a16-kv8", "followbench"]
    assert {m.metric: m.value for m in talk.measurements} == {
        "score10": (5 + 8) / 2,
        "score10@turn1": 6.0,
        "score10@turn2": 6.0,
    }
    assert talk.samples["turn2"] == [6.0, None]
    assert {m.metric: m.value for m in checked.measurements} == pytest.approx(
        {"hsr": 1 / 3, "ssr": (1 + 1 / 2 + 2 / 3) / 3, "csl": 1.0}
    )
    assert checked.measurements[0].against_baseline is not None
    assert (checked.spec.options["judge"], checked.details["judge"]) == ("grader", "grader")


@pytest.mark.measure
@pytest.mark.parametrize(
    ("said", "message"), [("[[11]]", "no rating from 1 to 10"), ("good", "no rating"), ("1: yes", "judged 1 of 2 constraints")]
)
def test_grades_that_cannot_be_read(said, message):
    pytest.importorskip("torch")
    from measure.tasks.judged import _check, _grade

    def ask(server):
        if "constraints" in message:
            return _check(judge(server), Instruction(**INSTRUCTIONS[1]), "pear", 0)
        return _grade(judge(server), [{"role": "user", "content": "x"}], None, 0)

    with endpoint(lambda body, count: says(said)) as server, pytest.raises(JudgeError, match=message):
        ask(server)
