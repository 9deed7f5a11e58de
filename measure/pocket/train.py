"""Trains a pocket model on a CPU: `python -m measure.pocket.train FOLDER --size s|m|l [--minutes M | --steps N]`.

What a step reads stands in `measure.pocket.mixture`, in which order skills come in `measure.pocket.curriculum`. The learning
rate is constant, then falls linearly over the last third. Muon moves the matrices of the layers (look-ups are learned in a
quarter of the steps that AdamW takes), AdamW the rest. Weights compute in bfloat16 (fast where the CPU has AMX), the optimizers
keep them in float32. `training.json` beside the weights tells steps, skills on the way, versions and the hash of the text;
`--steps` with the number found there repeats a run that was limited by minutes.
"""

import argparse
import json
import random
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from platform import python_version
from typing import Any

import torch

from measure.pocket.corpus import text_hash, train_tokenizer, training_documents
from measure.pocket.curriculum import LENGTHS, Curriculum
from measure.pocket.mixture import KINDS, TEXT_ONLY, TOKENS_PER_STEP, Batch, Mixture
from measure.pocket.skills import look_up

CONTEXT = LENGTHS[-1]
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

_DECAY = 0.5
"""Steps of falling rate per step of constant rate."""
_EAGER_UP_TO = 128
"""Tokens up to which attention written out is faster on a CPU than the fused kernel."""


@dataclass(slots=True)
class Log:
    """What happened in training."""

    steps: int = 0
    constant_steps: int = 0
    tokens: int = 0
    seconds: float = 0.0
    right: list[tuple[int, dict[str, float]]] = field(default_factory=list)
    """Step, and of each kind of passage the share of answer tokens (of text: all tokens) that came out right, smoothed."""


def build(size: Size, architecture: str, tokenizer: Any) -> Any:
    """A model with random weights, of a class of transformers that `architecture` names in lower case."""
    from transformers import AutoModelForCausalLM

    from measure.pocket.architectures import make_config

    config = make_config(architecture, size, vocabulary=len(tokenizer), context=CONTEXT)
    return AutoModelForCausalLM.from_config(config)


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
        # families without a fused kernel (Bloom) stay with attention written out
        self._fused = bool(getattr(model, "_supports_sdpa", False))
        self.curriculum, self.log = Curriculum(), Log()
        self._right = dict.fromkeys(KINDS, 0.0)

    def run(self, *, steps: int | None, minutes: float, tell: Callable[[str], None]) -> None:
        """Train `steps` steps, or as many as fit in `minutes`, the falling rate included."""
        start = time.monotonic()

        def progress() -> float:
            return self.log.steps / steps if steps else (time.monotonic() - start) / 60 / minutes

        while (done := progress()) < 1 / (1 + _DECAY):
            if self.curriculum.advance(self.log.steps, done, self._right):
                self._right["look-up"] = 0.0
            self._step(self.rate * min(1.0, (self.log.steps + 1) / 100), self.curriculum.length)
            self._tell(tell, start)
        self.log.constant_steps = constant = self.log.steps
        falling = max(1, round(constant * _DECAY))
        for step in range(falling):
            self._step(self.rate * (1 - step / falling), CONTEXT)
            self._tell(tell, start)
        self.log.seconds = time.monotonic() - start

    def _step(self, rate: float, length: int) -> None:
        for batch in self.mixture.step(length, large=self.curriculum.large):
            self._learn(batch)
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
        self.log.steps, self.log.tokens = self.log.steps + 1, self.log.tokens + TOKENS_PER_STEP

    def _learn(self, batch: Batch) -> None:
        """Add the gradient of a batch, and count what came out right."""
        if self._fused:
            self.model.set_attn_implementation("eager" if batch.ids.shape[1] <= _EAGER_UP_TO else "sdpa")
        logits = self.model(input_ids=batch.ids, use_cache=False).logits[:, :-1]
        kinds = batch.kinds[:, 1:].flatten()
        counted = (kinds >= 0).nonzero().flatten()
        logits = logits.flatten(0, 1).index_select(0, counted)
        ids, weights, kinds = batch.ids[:, 1:].flatten()[counted], batch.weights[:, 1:].flatten()[counted], kinds[counted]
        losses = torch.nn.functional.cross_entropy(logits.float(), ids, reduction="none")
        (losses * weights).sum().backward()
        right = logits.argmax(-1) == ids
        for number, name in enumerate(KINDS):
            if (own := right[kinds == number]).numel():
                self._right[name] += 0.05 * (float(own.float().mean()) - self._right[name])

    def _tell(self, tell: Callable[[str], None], start: float) -> None:
        if self.log.steps % 50 == 0:
            self.log.right.append((self.log.steps, {name: round(share, 4) for name, share in self._right.items()}))
            speed = self.log.tokens / (time.monotonic() - start)
            shares = "  ".join(f"{name} {share:.3f}" for name, share in self._right.items())
            tell(f"step {self.log.steps}  right: {shares}  {speed:.0f} tokens/s")


def train(
    folder: Path, documents: list[str], *, size: str, architecture: str, steps: int | None, minutes: float, seed: int,
    text_only: bool = False,
) -> None:  # fmt: skip
    """Train a model on `documents` and the skills; write weights, configuration, tokenizer and `training.json` to `folder`."""
    torch.manual_seed(seed)
    mixed = [*documents, *("".join(text for text, _ in look_up(random.Random(n), lines=9, questions=1)) for n in range(300))]
    tokenizer = train_tokenizer(mixed, vocabulary=VOCABULARY, context=CONTEXT)
    model = build(SIZES[size], architecture, tokenizer)
    mixture = Mixture(tokenizer, documents, seed=seed, kinds=TEXT_ONLY if text_only else KINDS)
    trainer = Trainer(model, mixture, rate=SIZES[size].rate)
    trainer.run(steps=steps, minutes=minutes, tell=lambda line: print(line, flush=True))  # noqa: T201 - a script
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    facts = {
        "size": size, "architecture": architecture, "seed": seed, "parameters": sum(p.numel() for p in model.parameters()),
        "text_only": text_only, "text_sha256": text_hash(documents), "text_licence": "PSF-2.0",
        "versions": {"python": python_version(), **{name: version(name) for name in ("torch", "transformers", "tokenizers")}},
        "stages": trainer.curriculum.stages, "large_sums_from": trainer.curriculum.large_from, **asdict(trainer.log),
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
    parser.add_argument("--text-only", action="store_true", help="teach no skills")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    train(
        options.folder, training_documents(), size=options.size, architecture=options.architecture, steps=options.steps,
        minutes=options.minutes, seed=options.seed, text_only=options.text_only,
    )  # fmt: skip


if __name__ == "__main__":
    main()
