"""Key retrieval by context length: one line of many holds the value that is asked for (after LongEval, DachengLi1/LongChat)."""

import hashlib
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from knowledge.measurements import Measurement
from measure.errors import TaskDataError
from measure.inference import forward_logits, in_batches, token_log_probabilities, window_length
from measure.stats import standard_error, weighted_mean
from measure.tasks import TaskPlan, TaskResult

if TYPE_CHECKING:
    from measure.loading import LoadedModel

_DEFAULT_CONTEXT = 1024
_DEFAULT_QUESTIONS = 20
_SHORTEST = 128
HEAD = "Below is a record of lines. Each line has a name and a register content.\n\n"
WORDS = (
    "amber",
    "birch",
    "cedar",
    "delta",
    "ember",
    "frost",
    "grove",
    "haven",
    "ivory",
    "jolly",
    "karma",
    "lemon",
    "maple",
    "noble",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One prompt with the tokens that answer it."""

    context: int
    """Tokens that the prompt may take; the prompt is filled up to it line by line."""
    position: float
    """Where among the lines the wanted one stands, 0 first, 1 last."""
    prompt: list[int]
    answer: list[int]


class RetrievalScorer:
    """Share of questions whose every answer token is the likeliest one, and the answer's likelihood.

    Shares are also given by context length and by the third of the prompt in which the needle stands.

    The answer is scored in one forward behind its prompt. That equals greedy decoding, token by token, with a quantized
    cache too. Lengths double from 128 tokens to the context; needles stand evenly spread over the lines.
    """

    def __init__(self, task: TaskPlan, *, seed: int) -> None:
        self.task, self.seed = task, seed
        self._questions: list[Question] = []

    def prepare(self, loaded: "LoadedModel") -> None:
        """Write the questions."""
        longest = window_length(loaded, self.task.options.context, _DEFAULT_CONTEXT)
        count = self.task.options.limit or _DEFAULT_QUESTIONS
        rng = random.Random(self.seed)
        self._questions = write_questions(loaded.tokenizer, longest, count, rng)
        length = longest // 2
        while length >= _SHORTEST:
            try:
                shorter = write_questions(loaded.tokenizer, length, count, rng)
            except TaskDataError:  # this tokenizer takes more tokens for a line than the shortest lengths hold
                break
            self._questions = shorter + self._questions
            length //= 2

    def score(self, loaded: "LoadedModel") -> TaskResult:
        """Score every question."""
        correct: list[float] = []
        losses: list[float] = []
        for question in self._questions:
            right, loss = _answer(loaded, question)
            correct.append(right)
            losses.append(loss)
        contexts = [question.context for question in self._questions]
        measurements = [_accuracy("exact_match", correct)]
        for length in sorted(set(contexts)):
            chosen = [value for value, context in zip(correct, contexts, strict=True) if context == length]
            measurements.append(_accuracy(f"exact_match@{length}", chosen, column=None))
        for place in ("start", "middle", "end"):
            chosen = [value for value, q in zip(correct, self._questions, strict=True) if _place(q.position) == place]
            measurements += [_accuracy(f"exact_match@{place}", chosen, column=None)] if chosen else []
        measurements.append(
            Measurement(
                metric="answer_nll", value=weighted_mean(losses), stderr=standard_error(losses), n=len(losses),
                stderr_method="questions as samples", unit="nats per token", higher_is_better=False, per_sample="answer_nll",
            )
        )  # fmt: skip
        return TaskResult(
            measurements=measurements,
            samples={
                "id": list(range(len(correct))),
                "exact_match": list(correct),
                "answer_nll": list(losses),
                "context": list(contexts),
                "position": [question.position for question in self._questions],
            },
            correct="exact_match",
            data_hash=_hash(self._questions),
            limit=self.task.options.limit,
            context=max(contexts),
            shots=0,
        )


def write_questions(tokenizer: object, context: int, count: int, rng: random.Random) -> list[Question]:
    """`count` questions whose prompt and answer fill `context` tokens as far as whole lines allow.

    Raises:
        TaskDataError: not even two lines fit.
    """
    return [_write_question(tokenizer, context, index / max(1, count - 1), rng) for index in range(count)]


def _write_question(tokenizer: object, context: int, position: float, rng: random.Random) -> Question:
    def encode(text: str) -> list[int]:
        return list(tokenizer(text, add_special_tokens=False)["input_ids"])  # type: ignore[operator]

    lines: list[tuple[str, int]] = []
    sizes: list[int] = []
    head, asked = encode(HEAD), len(encode(query_text("amber-birch-99")))
    room = context - len(head) - asked - len(encode(" 99999")) - 2
    while True:
        name = f"{rng.choice(WORDS)}-{rng.choice(WORDS)}-{rng.randrange(100)}"
        if any(name == other for other, _ in lines):
            continue
        value = rng.randrange(10000, 100000)
        size = len(encode(line_text(name, value)))
        if sum(sizes) + size > room:
            break
        lines.append((name, value))
        sizes.append(size)
    if len(lines) < 2:
        raise TaskDataError(f"{context} tokens hold no two lines", given=str(context), hint="a larger --context")
    name, value = lines[round(position * (len(lines) - 1))]
    prompt = head + [token for line in lines for token in encode(line_text(*line))] + encode(query_text(name))
    return Question(context=context, position=position, prompt=prompt, answer=encode(f" {value}"))


def line_text(name: str, value: int) -> str:
    """A line of the record."""
    return f"line {name}: the register content is {value}\n"


def query_text(name: str) -> str:
    """What is asked behind the record; the answer follows after a space."""
    return f"\nThe register content in line {name} is"


def _answer(loaded: "LoadedModel", question: Question) -> tuple[float, float]:
    ids = torch.tensor([question.prompt + question.answer])
    wanted = len(question.answer)

    def judge(rows: Tensor) -> Tensor:
        logits = forward_logits(loaded.model, rows)[:, -wanted - 1 :]
        tail = rows[:, -wanted - 1 :]
        right = (logits[:, :-1].argmax(-1) == tail[:, 1:]).all(-1)
        return torch.stack([right.double(), -token_log_probabilities(logits, tail).double().mean(-1)], dim=-1)

    _, result = next(iter(in_batches(loaded, ids, judge)))
    right, loss = result[0].tolist()
    return right, loss


def _place(position: float) -> str:
    """Third of the prompt in which the wanted line stands."""
    return ("start", "middle", "end")[min(2, int(position * 3))]


def _accuracy(metric: str, values: list[float], column: str | None = "exact_match") -> Measurement:
    return Measurement(
        metric=metric, value=weighted_mean(values), stderr=standard_error(values), stderr_method="questions as samples",
        n=len(values), unit="share of questions", higher_is_better=True, per_sample=column,
    )  # fmt: skip


def _hash(questions: list[Question]) -> str:
    content = repr([(question.prompt, question.answer) for question in questions])
    return hashlib.sha256(content.encode()).hexdigest()[:16]
