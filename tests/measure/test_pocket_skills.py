"""What pocket models are taught is answered right, repeats from its seed, and never holds what the tasks ask."""

import json
import random
import re
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("torch")

from measure.pocket import skills
from measure.pocket.corpus import _without, train_tokenizer
from measure.pocket.tasks import TASKS, write_tasks
from measure.tasks.harness import write_arithmetic

pytestmark = pytest.mark.measure

SEEDS = st.integers(0, 2**32)


def lines_of(passage):
    return "".join(text for text, _ in passage)


@settings(deadline=None)  # facts and held-out sums are gathered in the first call
@given(SEEDS)
def test_sums_are_right_and_not_those_that_are_asked(seed):
    text = lines_of(skills.sums(random.Random(seed), large=0.5))
    found = re.findall(r"(\d+) \+ (\d+) = (\d+)\n", text)
    assert found
    for first, second, total in found:
        assert int(first) + int(second) == int(total)
        question = f"{first} + {second} ="
        assert question not in skills.held_out_pairs()
        assert not skills.is_held_out(question)


@settings(deadline=None)
@given(SEEDS, st.integers(1, 20), st.integers(1, 30))
def test_look_ups_are_answered_from_the_record(seed, lines, questions):
    passage = skills.look_up(random.Random(seed), lines=lines, questions=questions)
    values = dict(re.findall(r"line (\S+): the register content is (\d{5})\n", passage[0][0]))
    asked = re.findall(r"The register content in line (\S+) is (\d{5})", lines_of(passage[1:]))
    assert len(asked) == questions
    assert all(values[name] == value for name, value in asked)
    assert len({name for name, _ in asked}) == min(questions, len(values))


@settings(deadline=None)
@given(SEEDS)
def test_instructions_are_followed(seed):
    text = lines_of(skills.instructions(random.Random(seed)))
    found = re.findall(r"Instruction: ([\w ]+): ([\w ]+)\nResponse: ([\w ]+)\n", text)
    assert found
    for verb, words, answer in found:
        given_words = words.split()
        expected = {
            "Repeat": given_words, "Reverse": given_words[::-1], "First of": given_words[:1], "Last of": given_words[-1:],
        }  # fmt: skip
        assert answer.split() == expected[verb]
        assert not skills.is_held_out(words)


@settings(deadline=None)
@given(SEEDS)
def test_facts_are_true_and_the_wording_of_the_question_is_kept_for_others(seed):
    known = dict(skills.facts())
    text = lines_of(skills.statements(random.Random(seed)))
    for name, module in re.findall(r"Which module has (\w+)\?\nAnswer: (\w+)\n", text):
        assert known[name] == module
        assert not skills.is_held_out(name, share=3)
    assert any(f" {module}\n" in text for module in known.values())


@pytest.mark.parametrize("write", [partial(skills.sums, large=0.5), skills.statements, skills.instructions])
def test_passages_repeat_from_their_seed(write):
    assert write(random.Random(7)) == write(random.Random(7)) != write(random.Random(8))


def test_what_the_built_in_task_asks_is_held_out(tmp_path):
    for seed, items in ((0, 50), (3, 200)):
        write_arithmetic(tmp_path, items=items, seed=seed)
        asked = {json.loads(line)["question"] for line in (tmp_path / "arithmetic.jsonl").read_text().splitlines()}
        assert asked <= skills.held_out_pairs()


def test_tasks_ask_what_is_held_out_only(tmp_path):
    write_tasks(tmp_path, items=40)
    rows = {
        name: [json.loads(line) for line in (tmp_path / f"{name}.jsonl").read_text().splitlines()] for name in TASKS
    }  # fmt: skip
    for row in rows["pocket-sums"]:
        assert skills.is_held_out(row["question"]) or row["question"] in skills.held_out_pairs()
        first, second = map(int, re.findall(r"\d+", row["question"]))
        assert row["answer"] == str(first + second)
    known = dict(skills.facts())
    for row in rows["pocket-modules"]:
        name = re.search(r"has (\w+)\?", row["question"])[1]
        assert skills.is_held_out(name, share=3)
        assert row["choices"][row["label"]] == known[name]
        assert len(set(row["choices"])) == 4
    assert all(len({row["question"] for row in found}) == len(found) for found in rows.values())


def test_lines_of_the_scored_text_are_removed():
    assert _without("one\n    two\nthree", {"two"}) == "one\nthree"


def test_every_digit_is_a_token_and_texts_come_back():
    tokenizer = train_tokenizer(["the register content is 12345\n"] * 3, vocabulary=300, context=64)
    text = "line amber: the register content is 90210 \u00e9\n"
    ids = tokenizer(text)["input_ids"]
    assert tokenizer.decode(ids) == text
    assert tokenizer.convert_ids_to_tokens(tokenizer(" 12345")["input_ids"])[-5:] == list("12345")
