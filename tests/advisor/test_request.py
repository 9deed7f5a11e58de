import pytest
from hypothesis import given
from hypothesis import strategies as st

from advisor.request import AdviceRequest, load_requests, make_request, parse_size, parse_tokens
from knowledge.errors import InvalidRequestError


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("16GB", 16_000_000_000),
        ("16GiB", 17_179_869_184),
        ("24576MiB", 25_769_803_776),
        ("1.5TB", 1_500_000_000_000),
        ("  8 gb ", 8_000_000_000),
        (".5GiB", 536_870_912),
    ],
)
def test_sizes_carry_their_unit(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("16", "has no unit"),
        ("16G", "has no unit"),
        ("0GB", "no memory budget"),
        ("-4GB", "no memory budget"),
        ("99999999TB", "no memory budget"),
        ("much", "cannot read the size"),
        ("16 GB RAM", "cannot read the size"),
        ("", "cannot read the size"),
    ],
)
def test_sizes_refused(text: str, match: str) -> None:
    with pytest.raises(InvalidRequestError, match=match) as caught:
        parse_size(text)
    assert caught.value.given == text
    assert caught.value.allowed


def test_a_bare_number_is_answered_with_both_spellings() -> None:
    with pytest.raises(InvalidRequestError) as caught:
        parse_size("16")
    assert caught.value.allowed == ["16GB", "16GiB"]


@given(st.integers(1, 4000), st.sampled_from(["MB", "MiB", "GB", "GiB"]))
def test_every_positive_size_is_read_without_loss(number: int, unit: str) -> None:
    factor = {"MB": 10**6, "MiB": 2**20, "GB": 10**9, "GiB": 2**30}[unit]
    assert parse_size(f"{number}{unit}") == number * factor


@pytest.mark.parametrize(("text", "tokens"), [("32768", 32768), ("32k", 32768), ("1m", 1048576), ("0.5k", 512)])
def test_tokens(text: str, tokens: int) -> None:
    assert parse_tokens(text) == tokens


@pytest.mark.parametrize("text", ["0", "-5", "32kb", "many", "1.5", "9999999m"])
def test_tokens_refused(text: str) -> None:
    with pytest.raises(InvalidRequestError, match="no context length"):
        parse_tokens(text)


def test_a_request_keeps_bytes_and_tokens() -> None:
    request = make_request({"model": "m", "task": "t", "mem": "16GB", "context": "32k"})
    assert request == AdviceRequest(model="m", task="t", memory=16 * 10**9, context=32768)
    assert (request.memory, request.context, request.batch, request.objective) == (16 * 10**9, 32768, 1, "balanced")


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"model": "m", "task": "t"}, "memory is not given"),
        ({"task": "t", "memory": "1GB"}, "--model: field required"),
        ({"model": "m", "task": "t", "memory": "1GB", "colour": "red"}, "unknown field 'colour'"),
        ({"model": "m", "task": "t", "memory": "1GB", "batch": 0}, "--batch"),
        ({"model": "m", "task": "t", "memory": "1GB", "max_loss": -1}, "--max-loss"),
        ({"model": "m", "task": "t", "memory": "1GB", "objective": "best"}, "--objective"),
        ({"model": "m", "task": "t", "memory": "16"}, "has no unit"),
    ],
)
def test_requests_refused(values: dict[str, object], match: str) -> None:
    with pytest.raises(InvalidRequestError, match=match):
        make_request(values)


def test_hardware_stands_in_for_memory() -> None:
    assert make_request({"model": "m", "task": "t", "hardware": "rtx-4090"}).memory is None


def test_requests_from_yaml(tmp_path) -> None:
    path = tmp_path / "requests.yaml"
    path.write_text("- {model: a, task: t, mem: 8GB}\n- {model: b, task: t, mem: 8GiB, context: 8k}\n")
    assert [(r.model, r.context) for r in load_requests(path)] == [("a", None), ("b", 8192)]
    path.write_text("model: a\ntask: t\nmem: 8GB\n")
    assert [r.model for r in load_requests(path)] == ["a"]


@pytest.mark.parametrize(
    "text", ["", "just text", "[1, 2]", "a: [", "[]"], ids=["empty", "text", "numbers", "broken", "no entry"]
)
def test_yaml_that_holds_no_request(tmp_path, text: str) -> None:
    path = tmp_path / "requests.yaml"
    path.write_text(text)
    with pytest.raises(InvalidRequestError, match=r"requests\.yaml"):
        load_requests(path)
