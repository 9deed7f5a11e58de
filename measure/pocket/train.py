"""Trains a pocket model on a CPU: `python -m measure.pocket.train FOLDER --size s|m|l [--minutes M | --steps N]`.

Sequences grow from 128 to 512 tokens as soon as look-ups succeed (short records first: attention learns to match names there).
The learning rate is constant, then falls linearly over the last third. Muon moves the matrices of the layers (look-ups are
learned in a quarter of the steps that AdamW takes), AdamW the rest. Weights compute in bfloat16 (fast where the CPU has AMX),
the optimizers keep them in float32. `training.json` beside the weights tells steps, losses, versions and the hash of the
text; `--steps` with the number found there repeats a run that was limited by minutes.
"""

import argparse
import json
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from platform import python_version
from typing import Any

import torch
from torch import Tensor

from measure.pocket.corpus import END, text_hash, train_tokenizer, training_documents
from measure.pocket.skills import Passage, instructions, look_up, statements, sums

CONTEXT = 512
VOCABULARY = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """Shape of a model and how it is trained."""

    hidden: int
    layers: int
    inner: int
    heads: int
    rate: float
    """Highest learning rate."""


SIZES = {
    "s": Size(hidden=128, layers=2, inner=256, heads=4, rate=4e-3),
    "m": Size(hidden=256, layers=2, inner=384, heads=4, rate=3e-3),
    "l": Size(hidden=256, layers=4, inner=512, heads=4, rate=3e-3),
}
"""About 0.4, 1.2 and 2.6 million parameters; all matrix widths are multiples of 128, so that every usual group divides them."""

_TOKENS_PER_STEP = 2048
_LENGTHS = (64, 128, 256, CONTEXT)
_LEARNED = 0.85
"""Share of right answer tokens in look-ups at which sequences grow."""
_LONGEST_STAGE = 0.4
"""Share of the budget after which they grow anyway."""
_DECAY = 0.5
"""Steps of falling rate per step of constant rate."""
_WEIGHTS = {True: 6.0, False: 0.05}
"""Weight of answer tokens and of other tokens of a skill's passage, where plain text counts 1."""
_SHARES = {"text": 0.26, "look-up": 0.48, "sums": 0.13, "facts": 0.07, "instructions": 0.06}
_LINE_TOKENS = 19
"""Tokens of a line of a look-up, and about those of a question with its answer."""


class Mixture:
    """Endless sequences of one kind each: text, or passages of a skill one after another."""

    def __init__(self, tokenizer: Any, documents: list[str], *, seed: int) -> None:
        self._rng = random.Random(seed)
        self._encode: Callable[[str], list[int]] = lambda text: tokenizer(text, add_special_tokens=False)["input_ids"]
        self._end = self._encode(END)
        rows = tokenizer(documents, add_special_tokens=False)["input_ids"]
        self._text = [token for row in rows for token in (*row, *self._end)]

    def batch(self, count: int, length: int) -> tuple[Tensor, Tensor, Tensor]:
        """Token ids, their weights in the loss, and which of them answer a look-up: each count x length."""
        rows = [self._sequence(length) for _ in range(count)]
        return (
            torch.tensor([ids for ids, _, _ in rows]),
            torch.tensor([weights for _, weights, _ in rows]),
            torch.tensor([looked_up for _, _, looked_up in rows]),
        )

    def _sequence(self, length: int) -> tuple[list[int], list[float], list[bool]]:
        kind = self._rng.choices(list(_SHARES), list(_SHARES.values()))[0]
        if kind == "text":
            start = self._rng.randrange(len(self._text) - length)
            return self._text[start : start + length], [1.0] * length, [False] * length
        ids: list[int] = []
        answers: list[bool] = []
        while len(ids) < length:
            for token, answer in self._passage(kind, length):
                ids.append(token)
                answers.append(answer)
        weights = [_WEIGHTS[answer] for answer in answers[:length]]
        return ids[:length], weights, [answer and kind == "look-up" for answer in answers[:length]]

    def _passage(self, kind: str, length: int) -> Iterator[tuple[int, bool]]:
        for text, answer in self._write(kind, length):
            yield from ((token, answer) for token in self._encode(text))
        yield from ((token, False) for token in self._end if self._rng.random() < 0.5)

    def _write(self, kind: str, length: int) -> Passage:
        if kind == "look-up":
            most = max(1, (length - 2 * _LINE_TOKENS) // _LINE_TOKENS)
            lines = self._rng.randrange(1, most + 1)
            return look_up(self._rng, lines=lines, questions=max(1, min(2 * lines, most - lines + 1)))
        return {"sums": sums, "facts": statements, "instructions": instructions}[kind](self._rng)


@dataclass(slots=True)
class Log:
    """What happened in training."""

    steps: int = 0
    constant_steps: int = 0
    tokens: int = 0
    seconds: float = 0.0
    stages: list[tuple[int, int]] = field(default_factory=list)
    """Step and sequence length from there on."""
    losses: list[tuple[int, float, float]] = field(default_factory=list)
    """Step, weighted loss, share of right answer tokens in look-ups, both smoothed."""


def build(size: Size, architecture: str, tokenizer: Any) -> Any:
    """A model with random weights, of a class of transformers that `architecture` names in lower case."""
    from transformers import AutoModelForCausalLM

    from measure.pocket.architectures import make_config

    config = make_config(architecture, size, vocabulary=len(tokenizer), context=CONTEXT)
    return AutoModelForCausalLM.from_config(config, attn_implementation="eager")  # its backward is faster on a CPU than SDPA's


class Trainer:
    """Muon for the matrices of the layers and AdamW for the rest, on float32 copies of bfloat16 weights."""

    def __init__(self, model: Any, mixture: Mixture, *, rate: float) -> None:
        self.model, self.mixture, self.rate = model, mixture, rate
        self._masters = [parameter.detach().clone().float() for parameter in model.parameters()]
        outer = {id(module.weight) for module in (model.get_input_embeddings(), model.get_output_embeddings())}
        pairs = list(zip(model.parameters(), self._masters, strict=True))
        matrices = [master for parameter, master in pairs if parameter.ndim == 2 and id(parameter) not in outer]
        others = [master for parameter, master in pairs if parameter.ndim != 2 or id(parameter) in outer]
        self._optimizers = [
            torch.optim.Muon(matrices, lr=rate, weight_decay=0.05, adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW(others, lr=rate, betas=(0.9, 0.95), weight_decay=0.0, fused=True),
        ]
        model.bfloat16()
        self.log = Log()
        self._loss, self._right = 7.0, 0.0

    def run(self, *, steps: int | None, minutes: float, tell: Callable[[str], None]) -> None:
        """Train `steps` steps, or as many as fit in `minutes`, the falling rate included."""
        start = time.monotonic()

        def progress() -> float:
            return self.log.steps / steps if steps else (time.monotonic() - start) / 60 / minutes

        stage, entered = 0, 0.0
        self.log.stages.append((0, _LENGTHS[0]))
        while (done := progress()) * (1 + _DECAY) < 1:
            if stage < len(_LENGTHS) - 1 and (self._right > _LEARNED or done - entered > _LONGEST_STAGE / (1 + _DECAY)):
                stage, entered, self._right = stage + 1, done, 0.0
                self.log.stages.append((self.log.steps, _LENGTHS[stage]))
            self._step(self.rate * min(1.0, (self.log.steps + 1) / 100), _LENGTHS[stage])
            self._tell(tell, start)
        self.log.constant_steps = constant = self.log.steps
        falling = max(1, round(constant * _DECAY))
        for step in range(falling):
            self._step(self.rate * (1 - step / falling), CONTEXT)
            self._tell(tell, start)
        self.log.seconds = time.monotonic() - start

    def _step(self, rate: float, length: int) -> None:
        ids, weights, looked_up = self.mixture.batch(_TOKENS_PER_STEP // length, length)
        logits = self.model(input_ids=ids, use_cache=False).logits[:, :-1]
        losses = torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), ids[:, 1:].flatten(), reduction="none")
        shifted = weights[:, 1:].flatten()
        loss = (losses * shifted).sum() / shifted.sum()
        loss.backward()
        for master, parameter in zip(self._masters, self.model.parameters(), strict=True):
            master.grad, parameter.grad = parameter.grad.float(), None
        torch.nn.utils.clip_grad_norm_(self._masters, 1.0)
        for optimizer in self._optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()
        with torch.no_grad():
            for master, parameter in zip(self._masters, self.model.parameters(), strict=True):
                parameter.copy_(master)
        self.log.steps, self.log.tokens = self.log.steps + 1, self.log.tokens + ids.numel()
        right = (logits.argmax(-1) == ids[:, 1:])[looked_up[:, 1:]]
        self._loss += 0.05 * (float(loss.detach()) - self._loss)
        if len(right):
            self._right += 0.05 * (float(right.float().mean()) - self._right)

    def _tell(self, tell: Callable[[str], None], start: float) -> None:
        if self.log.steps % 50 == 0:
            self.log.losses.append((self.log.steps, round(self._loss, 4), round(self._right, 4)))
            speed = self.log.tokens / (time.monotonic() - start)
            tell(f"step {self.log.steps}  loss {self._loss:.3f}  look-up tokens right {self._right:.3f}  {speed:.0f} tokens/s")


def train(
    folder: Path, documents: list[str], *, size: str, architecture: str, steps: int | None, minutes: float, seed: int
) -> None:
    """Train a model on `documents` and the skills; write weights, configuration, tokenizer and `training.json` to `folder`."""
    torch.manual_seed(seed)
    mixed = [*documents, *("".join(text for text, _ in look_up(random.Random(n), lines=9, questions=1)) for n in range(300))]
    tokenizer = train_tokenizer(mixed, vocabulary=VOCABULARY, context=CONTEXT)
    model = build(SIZES[size], architecture, tokenizer)
    trainer = Trainer(model, Mixture(tokenizer, documents, seed=seed), rate=SIZES[size].rate)
    trainer.run(steps=steps, minutes=minutes, tell=lambda line: print(line, flush=True))  # noqa: T201 - a script
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    facts = {
        "size": size, "architecture": architecture, "seed": seed, "parameters": sum(p.numel() for p in model.parameters()),
        "text_sha256": text_hash(documents), "text_licence": "PSF-2.0",
        "versions": {"python": python_version(), **{name: version(name) for name in ("torch", "transformers", "tokenizers")}},
        **asdict(trainer.log),
    }  # fmt: skip
    (folder / "training.json").write_text(json.dumps(facts) + "\n", encoding="utf-8")


def main() -> None:
    """Parse the command line and train."""
    parser = argparse.ArgumentParser(description="Train a pocket model.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size", choices=sorted(SIZES), default="s")
    parser.add_argument("--architecture", default="llama")
    parser.add_argument("--steps", type=int, help="steps of constant and falling rate together")
    parser.add_argument("--minutes", type=float, default=5.0, help="budget where no steps are given")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    train(
        options.folder, training_documents(), size=options.size, architecture=options.architecture, steps=options.steps,
        minutes=options.minutes, seed=options.seed,
    )  # fmt: skip


if __name__ == "__main__":
    main()
