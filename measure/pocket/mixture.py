"""What a pocket model reads in a step of training: text and passages of every skill, in fixed amounts."""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from measure.pocket.corpus import END
from measure.pocket.skills import Passage, instructions, look_up, statements, sums

SHORT = 64
"""Tokens of the sequences in which sums, facts and instructions stand."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One kind of passage."""

    tokens: int
    """Tokens of it in every step."""
    weight: float
    """What the mean loss over its answers (of text: over all its tokens) counts."""
    grows: bool = False
    """Whether its sequences grow in training; all others are short."""


KINDS = {
    "text": Kind(tokens=512, weight=1.0, grows=True),
    "look-up": Kind(tokens=1024, weight=2.0, grows=True),
    "sums": Kind(tokens=1024, weight=3.0),
    "facts": Kind(tokens=128, weight=0.3),
    "instructions": Kind(tokens=128, weight=0.5),
}
"""Every step has some of each: Muon's steps are all of one size, so a kind that most steps lack is lost in their noise."""

TOKENS_PER_STEP = sum(kind.tokens for kind in KINDS.values())
TEXT_ONLY = {"text": Kind(tokens=TOKENS_PER_STEP, weight=1.0, grows=True)}
"""What a model reads that is to know no skills."""
_LINE_TOKENS = 19
"""Tokens of a line of a look-up, and about those of a question with its answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Sequences of one length; every field has the shape sequences x tokens."""

    ids: Tensor
    weights: Tensor
    """What the loss on a token counts; the weights of a kind add up to `Kind.weight`."""
    kinds: Tensor
    """The position in `KINDS` of the kind that a token is an answer to, -1 for tokens that do not count."""


class Mixture:
    """Endless batches: in a sequence stand passages of one kind, one after another."""

    def __init__(self, tokenizer: Any, documents: list[str], *, seed: int, kinds: Mapping[str, Kind] = KINDS) -> None:
        self._rng, self._kinds = random.Random(seed), kinds
        self._tokenizer = tokenizer
        self._end = self._encode([END])[0]
        self._text = [token for row in self._encode(documents) for token in (*row, *self._end)]

    def step(self, length: int, *, large: float) -> list[Batch]:
        """What one step reads: text and look-ups in sequences of `length` tokens, the rest in short ones.

        A share `large` of the sums has numbers up to 999, the others up to 99.
        """
        growing, short = ([name for name, kind in self._kinds.items() if kind.grows == grows] for grows in (True, False))
        return [self._batch(names, tokens, large) for names, tokens in ((growing, length), (short, SHORT)) if names]

    def _encode(self, texts: list[str]) -> list[list[int]]:
        rows: list[list[int]] = self._tokenizer(texts, add_special_tokens=False)["input_ids"]
        return rows

    def _batch(self, names: list[str], length: int, large: float) -> Batch:
        ids, weights, kinds = [], [], []
        for name in names:
            rows = [self._sequence(name, length, large) for _ in range(self._kinds[name].tokens // length)]
            counted = torch.tensor([answers for _, answers in rows])
            counted[:, 0] = False  # nothing predicts the first token
            ids.append(torch.tensor([row for row, _ in rows]))
            weights.append(counted * (self._kinds[name].weight / counted.sum().clamp(min=1)))
            kinds.append(torch.where(counted, list(KINDS).index(name), -1))
        return Batch(ids=torch.cat(ids), weights=torch.cat(weights), kinds=torch.cat(kinds))

    def _sequence(self, name: str, length: int, large: float) -> tuple[list[int], list[bool]]:
        if name == "text":
            start = self._rng.randrange(len(self._text) - length)
            return self._text[start : start + length], [True] * length
        ids: list[int] = []
        answers: list[bool] = []
        while len(ids) < length:
            passage = self._passage(name, length, large)
            for row, (_, answer) in zip(self._encode([text for text, _ in passage]), passage, strict=True):
                ids += row
                answers += [answer] * len(row)
            if self._rng.random() < 0.5:
                ids += self._end
                answers += [False] * len(self._end)
        return ids[:length], answers[:length]

    def _passage(self, name: str, length: int, large: float) -> Passage:
        if name == "sums":
            return sums(self._rng, large=large)
        if name != "look-up":
            return {"facts": statements, "instructions": instructions}[name](self._rng)
        most = max(1, (length - 2 * _LINE_TOKENS) // _LINE_TOKENS)
        lines = self._rng.randrange(1, most + 1)
        return look_up(self._rng, lines=lines, questions=max(1, min(2 * lines, most - lines + 1)))
