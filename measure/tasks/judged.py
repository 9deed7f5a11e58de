"""Open answers that a judge grades: talks of several turns (as MT-bench), instructions with constraints (as FollowBench).

Questions are JSON lines of the user. The model answers greedily, in its own chat template where it has one. The judge grades
one answer at a time: talks from 1 to 10 after Zheng et al. 2023 (arXiv 2306.05685), constraints one by one after Jiang et al.
2024 (arXiv 2310.20410): HSR is the share of instructions with all constraints met, SSR the mean share of constraints met, CSL
the mean number of consecutive levels, from the first, met in full.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any

import torch

from knowledge.measurements import Measurement
from measure.errors import JudgeError, TaskDataError
from measure.judge import Judge
from measure.stats import standard_error
from measure.tasks import TaskPlan, TaskResult
from measure.tasks.questions import Conversation, Instruction, read_conversations, read_instructions

if TYPE_CHECKING:
    from measure.loading import LoadedModel

Message = dict[str, str]

_NEW_TOKENS = 512
_DEFAULT_CONTEXT = 2048

_RATING = re.compile(r"\[\[\s*(\d+(?:\.\d+)?)\s*\]\]")
_VERDICT = re.compile(r"^\W*(\d+)\s*[:.)]\s*(yes|no)\b", re.IGNORECASE | re.MULTILINE)

_GRADE = (
    "You grade the last answer of an assistant in the conversation below. Weigh helpfulness, relevance, correctness, depth and "
    "detail{reference}. Be impartial; length alone is no merit. Explain in a few sentences, then end with the rating from 1 to "
    "10 in this form: [[5]]"
)
_CHECK = (
    "Below are an instruction, the answer of an assistant, and a numbered list of constraints. Say for each constraint whether "
    "the answer meets it: one line a constraint, its number, a colon, and yes or no. Nothing else."
)


class ConversationScorer:
    """Mean grade from 1 to 10, over all turns and by turn."""

    def __init__(self, task: TaskPlan, *, seed: int) -> None:
        self.task, self.seed = task, seed
        self._questions: list[Conversation] = []

    def prepare(self, loaded: "LoadedModel") -> None:
        """Read the questions, and see that there is a judge.

        Raises:
            TaskDataError: no judge, or questions that cannot be read.
        """
        _judge(self.task)
        self._questions = read_conversations(self.task)

    def score(self, loaded: "LoadedModel") -> TaskResult:
        """Hold the conversations and have every answer graded."""
        judge, grades = _judge(self.task), []
        for question in self._questions:
            messages: list[Message] = []
            of_question = []
            for turn, text in enumerate(question.turns):
                messages.append({"role": "user", "content": text})
                messages.append({"role": "assistant", "content": answer(loaded, messages, self.task.options.context)})
                of_question.append(_grade(judge, messages, question.reference_of(turn), self.seed))
            grades.append(of_question)
        turns = max(len(of_question) for of_question in grades)
        means = [fmean(of_question) for of_question in grades]
        found = [_mean("score10", means, unit="grade 1 to 10")]
        for turn in range(turns):
            values = [of_question[turn] for of_question in grades if len(of_question) > turn]
            found.append(_mean(f"score10@turn{turn + 1}", values, unit="grade 1 to 10", per_sample=False))
        samples: dict[str, list[float | int | str | None]] = {"id": [q.id for q in self._questions], "score10": list(means)}
        for turn in range(turns):
            column = [of_question[turn] if len(of_question) > turn else None for of_question in grades]
            samples[f"turn{turn + 1}"] = list(column)
        return _result(self.task, loaded, found, samples)


class ConstraintScorer:
    """HSR, SSR and CSL of instructions with constraints."""

    def __init__(self, task: TaskPlan, *, seed: int) -> None:
        self.task, self.seed = task, seed
        self._questions: list[Instruction] = []

    def prepare(self, loaded: "LoadedModel") -> None:
        """Read the instructions, and see that there is a judge.

        Raises:
            TaskDataError: no judge, or instructions that cannot be read.
        """
        _judge(self.task)
        self._questions = read_instructions(self.task)

    def score(self, loaded: "LoadedModel") -> TaskResult:
        """Answer every instruction and have its constraints checked."""
        judge, met = _judge(self.task), []
        for question in self._questions:
            text = answer(loaded, [{"role": "user", "content": question.instruction}], self.task.options.context)
            met.append(_check(judge, question, text, self.seed))
        hard, soft = [float(all(values)) for values in met], [fmean(values) for values in met]
        levels = consistent_levels(self._questions, hard)
        found = [
            _mean("hsr", hard, unit="share of instructions"),
            _mean("ssr", soft, unit="share of constraints"),
            _mean("csl", list(levels.values()), unit="levels", per_sample=False),
        ]
        samples: dict[str, list[float | int | str | None]] = {
            "id": [question.id for question in self._questions], "hsr": list(hard), "ssr": list(soft),
            "group": [question.group for question in self._questions], "level": [q.level for q in self._questions],
        }  # fmt: skip
        return _result(self.task, loaded, found, samples)


def consistent_levels(questions: Sequence[Instruction], hard: Sequence[float]) -> dict[str, float]:
    """Group -> number of consecutive levels, from the lowest, whose instructions were all met in full."""
    groups: dict[str, dict[int, list[float]]] = {}
    for question, value in zip(questions, hard, strict=True):
        groups.setdefault(question.group, {}).setdefault(question.level, []).append(value)
    found = {}
    for group, levels in groups.items():
        count = 0
        for level in sorted(levels):
            if not all(levels[level]):
                break
            count += 1
        found[group] = float(count)
    return found


@torch.no_grad()
def answer(loaded: "LoadedModel", messages: Sequence[Message], context: int | None) -> str:
    """The model's greedy answer to a conversation that ends with the user's message; a long one loses its beginning."""
    longest = min(context or _DEFAULT_CONTEXT, loaded.max_context or _DEFAULT_CONTEXT)
    new = min(_NEW_TOKENS, longest // 2)
    tokenizer = loaded.tokenizer
    if getattr(tokenizer, "chat_template", None):
        text = tokenizer.apply_chat_template(list(messages), add_generation_prompt=True, tokenize=False)
    else:
        text = "".join(f"{message['role'].upper()}: {message['content']}\n" for message in messages) + "ASSISTANT:"
    ids = torch.tensor([tokenizer(text, add_special_tokens=False)["input_ids"][-(longest - new) :]], device=loaded.device)
    out = loaded.model.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=new, do_sample=False,
        pad_token_id=tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id,
    )  # fmt: skip
    return str(tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True)).strip()


def _judge(task: TaskPlan) -> Judge:
    if task.options.judge is None:
        raise TaskDataError(f"{task.name} needs a judge", given=task.name, hint="--judge-url and --judge-model")
    return task.options.judge


def _grade(judge: Judge, messages: Sequence[Message], reference: str | None, seed: int) -> float:
    instruction = _GRADE.format(reference=", and agreement with the reference answer" if reference else "")
    shown = "\n\n".join(f"<{message['role']}>\n{message['content']}\n</{message['role']}>" for message in messages)
    shown += f"\n\n<reference>\n{reference}\n</reference>" if reference else ""
    found = _RATING.findall(reply := judge.ask(_prompt(instruction, shown), seed=seed))
    if not found or not 1 <= float(found[-1]) <= 10:
        raise JudgeError("it gave no rating from 1 to 10", given=reply[-200:], hint="try another --judge-model")
    return float(found[-1])


def _check(judge: Judge, question: Instruction, text: str, seed: int) -> list[bool]:
    numbered = "\n".join(f"{number}: {line}" for number, line in enumerate(question.constraints, 1))
    shown = f"<instruction>\n{question.instruction}\n</instruction>\n\n<answer>\n{text}\n</answer>\n\n{numbered}"
    reply = judge.ask(_prompt(_CHECK, shown), seed=seed)
    verdicts = {int(number): word.lower() == "yes" for number, word in _VERDICT.findall(reply)}
    if set(verdicts) != set(range(1, len(question.constraints) + 1)):
        raise JudgeError(
            f"it judged {len(verdicts)} of {len(question.constraints)} constraints", given=reply[-200:],
            hint="try another --judge-model",
        )  # fmt: skip
    return [verdicts[number] for number in sorted(verdicts)]


def _prompt(instruction: str, shown: str) -> list[Message]:
    return [{"role": "system", "content": instruction}, {"role": "user", "content": shown}]


def _mean(metric: str, values: list[float], *, unit: str, per_sample: bool = True) -> Measurement:
    return Measurement(
        metric=metric, value=fmean(values), stderr=standard_error(values), stderr_method="questions as samples",
        n=len(values), unit=unit, higher_is_better=True, per_sample=metric if per_sample else None,
    )  # fmt: skip


def _result(task: TaskPlan, loaded: "LoadedModel", found: list[Measurement], samples: Mapping[str, list[Any]]) -> TaskResult:
    template = getattr(loaded.tokenizer, "chat_template", None)
    return TaskResult(
        measurements=found,
        samples=dict(samples),
        data_hash=task.data_hash,
        shots=0,
        details={"judge": _judge(task).model},
        context=task.options.context,
        limit=task.options.limit,
        chat_template_hash=hashlib.sha256(str(template).encode()).hexdigest()[:16] if template else None,
    )
