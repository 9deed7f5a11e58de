"""Scores against what transformers and a few lines of arithmetic give for the same samples."""

import json
import math
import random

import pytest

torch = pytest.importorskip("torch")

import tiny_models  # noqa: E402

from knowledge.errors import InvalidRequestError  # noqa: E402
from measure.errors import QuantizationMismatchError, TaskDataError  # noqa: E402
from measure.inference import in_batches, windows  # noqa: E402
from measure.presets import expand_recipes  # noqa: E402
from measure.tasks import TaskOptions, load_scorer, plan_tasks  # noqa: E402
from measure.tasks.perplexity import perplexity_measurements  # noqa: E402
from measure.tasks.retrieval import Question, _answer, write_questions  # noqa: E402

pytestmark = pytest.mark.measure


def scored(loaded, name, **options):
    scorer = load_scorer(plan_tasks([name], TaskOptions(**options))[0], seed=0)
    scorer.prepare(loaded)
    return scorer, scorer.score(loaded)


def metrics(result):
    return {measurement.metric: measurement for measurement in result.measurements}


@pytest.mark.parametrize("family", ["llama", "mamba"])
def test_perplexity_is_the_loss_of_transformers(backend_for, family):
    loaded = backend_for(family).loaded
    _, result = scored(loaded, "perplexity", limit=3, context=64)
    task = plan_tasks(["perplexity"], TaskOptions())[0]
    assert task.text is not None
    ids = windows(loaded, task.text.content, length=64, count=3)
    with torch.no_grad():
        losses = [float(loaded.model(input_ids=row[None], labels=row[None]).loss) for row in ids]
    assert result.samples["nll_per_token"] == pytest.approx(losses, rel=1e-5)
    found = metrics(result)
    assert found["nll_per_token"].value == pytest.approx(sum(losses) / 3, rel=1e-6)
    assert found["perplexity"].value == pytest.approx(math.exp(sum(losses) / 3), rel=1e-5)
    assert (result.context, found["perplexity"].n) == (64, 3)


def test_own_text(backend_for, tmp_path):
    file = tmp_path / "text.txt"
    file.write_text("the cat sat on the mat. " * 200)
    _, result = scored(backend_for("llama").loaded, "perplexity", text=file, context=32, limit=2)
    assert len(result.samples["id"]) == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "is empty"), (b"\xff\xfe\x00", "not UTF-8"), (b"short", "a window needs 512")],
    ids=["empty", "binary", "short"],
)
def test_unusable_text(backend_for, tmp_path, content, message):
    file = tmp_path / "text.txt"
    file.write_bytes(content)
    with pytest.raises(TaskDataError, match=message):
        scored(backend_for("llama").loaded, "perplexity", text=file)


def test_missing_text(tmp_path):
    with pytest.raises(TaskDataError, match="cannot read"):
        plan_tasks(["perplexity"], TaskOptions(text=tmp_path / "none.txt"))


def test_window_longer_than_the_model_sees(backend_for):
    with pytest.raises(InvalidRequestError, match="a window of 4096 tokens"):
        scored(backend_for("llama").loaded, "perplexity", context=4096)


def test_likelihoods_that_are_no_numbers_fail():
    with pytest.raises(QuantizationMismatchError, match="no finite likelihood"):
        perplexity_measurements([1.0, math.nan])


def test_divergence_is_zero_for_the_baseline_and_follows_its_formula(backend_for):
    backend = backend_for("llama")
    scorer, baseline = scored(backend.loaded, "kl-divergence", limit=2, context=32)
    assert [measurement.value for measurement in baseline.measurements] == [0.0, 0.0]
    rows = scorer._rows
    with torch.no_grad():
        p = backend.loaded.model(input_ids=rows).logits[:, :-1].softmax(-1)
        with backend.quantized(*expand_recipes(["w3a16-g32"])[1]):
            result = scorer.score(backend.loaded)
            q = backend.loaded.model(input_ids=rows).logits[:, :-1].softmax(-1)
    expected = (p * (p / q).log()).sum(-1).mean(-1)
    assert result.samples["kl_divergence"] == pytest.approx(expected.tolist(), rel=1e-3)
    assert metrics(result)["top1_flips"].value == pytest.approx(float((p.argmax(-1) != q.argmax(-1)).float().mean()))


def test_questions_fill_the_context_and_spread_the_needle():
    questions = write_questions(tiny_models.tokenizer(), 512, 5, random.Random(0))
    again = write_questions(tiny_models.tokenizer(), 512, 5, random.Random(0))
    assert questions == again
    assert [question.position for question in questions] == [0, 0.25, 0.5, 0.75, 1]
    for question in questions:
        assert 512 - 64 < len(question.prompt) + len(question.answer) <= 512
        text, answer = (tiny_models.tokenizer().decode(ids) for ids in (question.prompt, question.answer))
        name = text.rsplit("line ", 1)[1].removesuffix(" is")
        assert f"line {name}: the register content is{answer}\n" in text


def test_too_short_for_two_lines():
    with pytest.raises(TaskDataError, match="64 tokens hold no two lines"):
        write_questions(tiny_models.tokenizer(), 64, 1, random.Random(0))


def test_an_answer_is_right_when_greedy_decoding_gives_it(backend_for):
    loaded = backend_for("llama").loaded
    prompt = list(range(10, 40))
    made = loaded.model.generate(
        torch.tensor([prompt]), max_new_tokens=5, do_sample=False, eos_token_id=[], attention_mask=torch.ones(1, 30)
    )
    answer = made[0, 30:].tolist()
    question = Question(context=64, position=0.0, prompt=prompt, answer=answer)
    assert _answer(loaded, question)[0] == 1.0
    wrong = Question(context=64, position=0.0, prompt=prompt, answer=[*answer[:-1], (answer[-1] + 1) % 300])
    assert _answer(loaded, wrong)[0] == 0.0


def test_retrieval_by_context_length(backend_for):
    _, result = scored(backend_for("llama").loaded, "retrieval", limit=3)
    places = {f"exact_match@{place}" for place in ("256", "512", "start", "middle", "end")}
    assert set(metrics(result)) == {"exact_match", "answer_nll"} | places
    assert result.samples["context"] == [256] * 3 + [512] * 3
    assert result.data_hash is not None


def test_batches_halve_when_memory_runs_out(backend_for):
    loaded = backend_for("qwen2").loaded
    sizes = []

    def hungry(batch):
        sizes.append(len(batch))
        if len(batch) > 2:
            raise RuntimeError("CUDA out of memory. Tried to allocate")
        return batch.sum(-1)

    loaded.batch_size = 8
    rows = torch.arange(20).reshape(10, 2)
    results = torch.cat([result for _, result in in_batches(loaded, rows, hungry)])
    assert torch.equal(results, rows.sum(-1))
    assert sizes == [8, 4, 2, 2, 2, 2, 2]
    assert loaded.batch_size == 2


def test_memory_that_does_not_hold_one_row_is_an_error(backend_for):
    loaded = backend_for("qwen2").loaded

    def impossible(batch):
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        list(in_batches(loaded, torch.zeros(2, 2), impossible))


def test_multiple_choice_through_the_harness(backend_for):
    loaded = backend_for("llama").loaded
    scorer, result = scored(loaded, "arithmetic-choice", limit=6)
    found = metrics(result)
    assert found["acc"].value == sum(result.samples["acc"]) / 6
    assert 0 <= found["ece"].value <= 1
    assert all(0.25 <= confidence <= 1 for confidence in result.samples["confidence"])
    assert result.harness is not None
    assert result.harness.startswith("lm_eval ")
    assert result.samples["id"] == [f"arithmetic-choice/{n}" for n in range(6)]
    again = scorer.score(loaded)
    assert again.samples == result.samples


def test_harness_sees_the_quantized_cache(backend_for):
    backend = backend_for("llama")
    scorer, before = scored(backend.loaded, "arithmetic-choice", limit=6)
    with backend.quantized(*expand_recipes(["kv2"])[1]):
        after = scorer.score(backend.loaded)
    assert after.samples["confidence"] != before.samples["confidence"]
    assert after.data_hash == before.data_hash


@pytest.fixture
def own_tasks(tmp_path):
    """Local tasks of two more output types."""
    (tmp_path / "pages.jsonl").write_text("".join(json.dumps({"page": f"a page of {n} words"}) + "\n" for n in range(4)))
    (tmp_path / "answers.jsonl").write_text("".join(json.dumps({"q": f"{n} is", "a": "zz"}) + "\n" for n in range(3)))

    def write(name, **definition):
        data = {"dataset_path": "json", "test_split": "test", "task": name, "metadata": {"version": 2.0}}
        (tmp_path / f"{name}.yaml").write_text(json.dumps(data | definition))

    write(
        "own-pages",
        dataset_kwargs={"data_files": {"test": str(tmp_path / "pages.jsonl")}},
        output_type="loglikelihood_rolling",
        doc_to_text="",
        doc_to_target="{{page}}",
        metric_list=[{"metric": "word_perplexity"}, {"metric": "byte_perplexity"}],
    )
    write(
        "own-answers", dataset_kwargs={"data_files": {"test": str(tmp_path / "answers.jsonl")}}, output_type="generate_until",
        doc_to_text="{{q}}", doc_to_target="{{a}}", generation_kwargs={"until": ["\n"], "max_gen_toks": 4},
        metric_list=[{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
    )  # fmt: skip
    write("own-nothing", dataset_kwargs={"data_files": {"test": str(tmp_path / "gone.jsonl")}}, output_type="generate_until")
    return tmp_path


def test_rolling_likelihoods_become_nats_a_word(backend_for, own_tasks):
    _, result = scored(backend_for("llama").loaded, "own-pages", task_dir=own_tasks, context=64)
    found = metrics(result)
    assert found["nll_per_word"].value == pytest.approx(math.log(found["word_perplexity"].value), rel=1e-6)
    assert found["nll_per_byte"].unit == "nats per byte"
    assert result.weights["nll_per_word"] == "nll_per_word.weight"
    assert result.task_version == "own-pages/2.0"


@pytest.mark.parametrize("recipe", ["none", "kv2", "kivi2"])
def test_generation_through_the_harness(backend_for, own_tasks, recipe):
    backend = backend_for("llama")
    scorer, _ = scored(backend.loaded, "own-answers", task_dir=own_tasks, context=64)
    chosen = expand_recipes([recipe])[-1]
    if recipe == "kivi2":
        assert chosen[0].scheme.kv_cache is not None
    with backend.quantized(*chosen):
        assert metrics(scorer.score(backend.loaded))["exact_match"].value == 0.0


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("own-nothing", "data of own-nothing are not here"),
        pytest.param("no-such-task", "unknown task", marks=pytest.mark.slow),  # the harness reads its 14,000 task files
    ],
)
def test_tasks_that_cannot_run(backend_for, own_tasks, name, message):
    with pytest.raises(TaskDataError, match=message):
        scored(backend_for("llama").loaded, name, task_dir=own_tasks)


def test_task_folder_that_is_not_there(backend_for, tmp_path):
    with pytest.raises(TaskDataError, match="no task folder"):
        scored(backend_for("llama").loaded, "own-pages", task_dir=tmp_path / "none")
