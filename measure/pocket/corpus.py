"""Text that pocket models learn from, and their tokenizer. The text is Python's documentation and library (licence PSF-2.0)."""

import ast
import hashlib
import random
import sysconfig
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from measure.text import builtin_text

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

END = "<|endoftext|>"
"""Stands between documents."""

_LEFT_OUT = ("test", "idlelib", "lib2to3", "site-packages", "pydoc_data", "ensurepip", "turtledemo", "__pycache__")
_SHORTEST_SHARED = 40
"""Characters from which on a line that also stands in the scored text counts as copied from it."""


def training_documents() -> list[str]:
    """Docstrings and sources of the standard library, and the half of the language reference that is not scored.

    Lines that also stand in the half that `measure.text` scores are removed, so that perplexity is measured on unseen text.
    The order is shuffled with a fixed seed. The text differs between Python versions; `text_hash` tells.
    """
    scored = {line.strip() for line in builtin_text("score").content.splitlines() if len(line.strip()) >= _SHORTEST_SHARED}
    documents = [builtin_text("calibrate").content]
    library = Path(sysconfig.get_path("stdlib"))
    for file in sorted(library.rglob("*.py")):
        if not set(file.relative_to(library).parts) & set(_LEFT_OUT):
            documents += _documents_of(file)
    documents = [_without(document, scored) for document in documents]
    random.Random(0).shuffle(documents)
    return documents


def _documents_of(file: Path) -> Iterator[str]:
    """The docstrings of a module as one document, and its source as another (of big modules the beginning)."""
    source = file.read_text(encoding="utf-8", errors="ignore")
    try:
        nodes = list(ast.walk(ast.parse(source)))
    except (SyntaxError, ValueError):
        return
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef)
    texts = [text for node in nodes if isinstance(node, kinds) and (text := ast.get_docstring(node))]
    if texts:
        yield "\n\n".join(texts)
    yield source[:20_000]


def _without(document: str, lines: set[str]) -> str:
    return "\n".join(line for line in document.splitlines() if line.strip() not in lines)


def text_hash(documents: Sequence[str]) -> str:
    """Sixteen hexadecimal digits over the documents."""
    return hashlib.sha256(END.join(documents).encode()).hexdigest()[:16]


def train_tokenizer(documents: Sequence[str], *, vocabulary: int, context: int) -> "PreTrainedTokenizerFast":
    """A byte-level BPE of `vocabulary` tokens in which every digit is a token of its own."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(r"\d"), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(documents, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END, pad_token=END, model_max_length=context)
