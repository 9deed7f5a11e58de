"""Skills that pocket models are taught besides text: sums, look-ups in long lists, facts, instructions. All from a seed.

A passage is a list of pieces; each piece is text and whether it is an answer. What the tasks ask later is held out: the pairs
of numbers, the names in the wording of the question, the words of an instruction.
"""

import hashlib
import json
import random
import tempfile
from functools import cache
from importlib import import_module
from pathlib import Path

from measure.tasks.harness import write_arithmetic
from measure.tasks.retrieval import HEAD, WORDS, line_text, query_text

Passage = list[tuple[str, bool]]
"""Pieces of text in order; True marks an answer, which weighs more in training."""

_HELD_OUT_SEEDS = range(4)
_HELD_OUT_ITEMS = 200
"""Of the built-in task `arithmetic-choice`: what it asks with these seeds and up to so many items is never trained on."""

_MODULES = (
    "argparse", "ast", "asyncio", "collections", "ctypes", "datetime", "decimal", "email", "functools", "inspect", "itertools",
    "logging", "math", "os", "random", "shutil", "socket", "statistics", "subprocess", "threading", "tokenize", "turtle",
    "typing", "unittest",
)  # fmt: skip
_NAMES_PER_MODULE = 12
_STATEMENTS = ("The name {name} is defined in", "Use {name} from the module", "To get {name}, import")


@cache
def held_out_pairs() -> frozenset[str]:
    """Sums that `arithmetic-choice` asks, as it writes them."""
    asked: set[str] = set()
    with tempfile.TemporaryDirectory() as folder:
        for seed in _HELD_OUT_SEEDS:
            write_arithmetic(Path(folder), items=_HELD_OUT_ITEMS, seed=seed)
            lines = (Path(folder) / "arithmetic.jsonl").read_text(encoding="utf-8").splitlines()
            asked |= {str(json.loads(line)["question"]) for line in lines}
    return frozenset(asked)


def is_held_out(text: str, *, share: int = 5) -> bool:
    """Whether a text belongs to the fifth that is asked and never taught; the same on every machine."""
    return int(hashlib.sha256(text.encode()).hexdigest(), 16) % share == 0


def write_sum(rng: random.Random, *, held_out: bool = False, large: float = 0.3) -> tuple[str, str]:
    """Question and answer of a sum of two numbers below 100, or (a share `large`) below 1000."""
    while True:
        top = 100 if rng.random() < 1 - large else 1000
        first, second = rng.randrange(top), rng.randrange(top)
        question = f"{first} + {second} ="
        if (question in held_out_pairs() or is_held_out(question)) == held_out:
            return question, f" {first + second}"


def sums(rng: random.Random, *, large: float) -> Passage:
    """A few sums, one a line, a share `large` of them of numbers up to 999."""
    pieces: Passage = []
    for _ in range(rng.randrange(1, 9)):
        question, answer = write_sum(rng, large=large)
        pieces += [(question, False), (f"{answer}\n", True)]
    return pieces


def look_up(rng: random.Random, *, lines: int, questions: int) -> Passage:
    """A record of lines as the task `retrieval` writes it, and questions on them, each line asked in turn."""
    names = list(dict.fromkeys(f"{rng.choice(WORDS)}-{rng.choice(WORDS)}-{rng.randrange(100)}" for _ in range(lines)))
    values = {name: rng.randrange(10_000, 100_000) for name in names}
    head = HEAD if rng.random() < 0.7 else ""
    pieces: Passage = [(head + "".join(line_text(name, values[name]) for name in names), False)]
    order: list[str] = []
    while len(order) < questions:
        order += rng.sample(names, len(names))
    for name in order[:questions]:
        pieces += [(query_text(name), False), (f" {values[name]}", True)]
    return pieces


@cache
def facts() -> tuple[tuple[str, str], ...]:
    """Names of the standard library with the only module (of those taught) that exports them."""
    owners: dict[str, list[str]] = {}
    for module in _MODULES:
        loaded = import_module(module)
        for name in sorted(getattr(loaded, "__all__", None) or (name for name in dir(loaded) if name.islower())):
            if name.isalpha() and len(name) > 3:
                owners.setdefault(name, []).append(module)
    chosen: list[tuple[str, str]] = []
    for module in _MODULES:
        own = [name for name, found in owners.items() if found == [module]]
        chosen += [(name, module) for name in random.Random(module).sample(own, min(len(own), _NAMES_PER_MODULE))]
    return tuple(chosen)


def fact_question(name: str) -> str:
    """The wording in which the task asks for a module."""
    return f"Question: Which module has {name}?\nAnswer:"


def statements(rng: random.Random) -> Passage:
    """Facts in several wordings; the wording of the question only for names that are not asked later."""
    pieces: Passage = []
    for name, module in rng.sample(facts(), 6):
        asked = rng.random() < 0.25 and not is_held_out(name, share=3)
        pieces += [(fact_question(name) if asked else rng.choice(_STATEMENTS).format(name=name), False)]
        pieces += [(f" {module}", True), ("\n", False)]
    return pieces


def write_instruction(rng: random.Random, *, held_out: bool = False) -> tuple[str, str]:
    """An instruction on two to four words, and what follows it."""
    while True:
        words = [rng.choice(WORDS) for _ in range(rng.randrange(2, 5))]
        if is_held_out(" ".join(words)) != held_out:
            continue
        verb, answer = rng.choice(
            [("Repeat", words), ("Reverse", words[::-1]), ("First of", words[:1]), ("Last of", words[-1:])]
        )
        return f"Instruction: {verb}: {' '.join(words)}\nResponse:", " " + " ".join(answer)


def instructions(rng: random.Random) -> Passage:
    """A few instructions with responses."""
    pieces: Passage = []
    for _ in range(rng.randrange(1, 5)):
        question, answer = write_instruction(rng)
        pieces += [(question, False), (answer + "\n", True)]
    return pieces
