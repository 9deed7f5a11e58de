"""Forward passes in batches: logits, log-probabilities, greedy continuation; the batch is halved when memory runs out."""

import gc
import logging
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from measure.loading import LoadedModel

_log = logging.getLogger(__name__)


def out_of_memory(error: BaseException) -> bool:
    """Whether `error` says that memory ran out, on a device or on the host."""
    text = str(error)
    return isinstance(error, (torch.cuda.OutOfMemoryError, MemoryError)) or (
        isinstance(error, RuntimeError) and ("out of memory" in text or "can't allocate memory" in text)
    )


def in_batches(loaded: LoadedModel, rows: Tensor, function: Callable[[Tensor], Tensor]) -> Iterator[tuple[int, Tensor]]:
    """Apply `function` to batches of `rows`, giving the first row's number and the result.

    A batch that does not fit is halved, and so are all later ones of this model.

    Raises:
        RuntimeError: a single row does not fit.
    """
    start = 0
    while start < len(rows):
        batch = rows[start : start + loaded.batch_size]
        try:
            result = function(batch.to(loaded.device))
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error) or len(batch) == 1:
                raise
            loaded.batch_size = max(1, len(batch) // 2)
            _log.warning("out of memory: going on with batches of %d", loaded.batch_size)
            result = None
        if result is None:
            release_memory()
            continue
        yield start, result
        start += len(batch)


def release_memory() -> None:
    """Give back what the allocator keeps."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


@torch.no_grad()
def forward_logits(model: Any, ids: Tensor) -> Tensor:
    """Logits of every position, float32."""
    logits: Tensor = model(input_ids=ids).logits
    return logits.float()


@torch.no_grad()
def token_log_probabilities(logits: Tensor, ids: Tensor) -> Tensor:
    """Log-probability of each token given those before it, shape (rows, tokens - 1)."""
    log_probabilities = torch.log_softmax(logits[:, :-1].float(), dim=-1)
    return log_probabilities.gather(-1, ids[:, 1:, None])[..., 0]


@torch.no_grad()
def relative_change(logits: Tensor, reference: Tensor) -> float:
    """|logits - reference| / |reference|."""
    return float((logits.float() - reference.float()).norm() / reference.float().norm())


def windows(loaded: LoadedModel, text: str, *, length: int, count: int | None) -> Tensor:
    """Non-overlapping windows of `length` tokens from the start of `text`, at most `count`, without special tokens.

    Raises:
        TaskDataError: the text gives no window.
    """
    from measure.errors import TaskDataError

    needed = (
        None if count is None else count * length * 24
    )  # characters; no tokenizer takes 24 of them for one token on average
    ids = loaded.tokenizer(text[:needed], add_special_tokens=False)["input_ids"]
    found = len(ids) // length
    if found == 0:
        raise TaskDataError(
            f"the text has {len(ids)} tokens, a window needs {length}",
            given=f"{len(ids)} tokens",
            hint="a longer --text or a smaller --context",
        )
    rows = found if count is None else min(count, found)
    return torch.tensor(ids[: rows * length]).reshape(rows, length)


def window_length(loaded: LoadedModel, wanted: int | None, default: int) -> int:
    """Tokens of a window: as asked, else `default` or what the model can look back on, if that is less.

    Raises:
        InvalidRequestError: more than the model can look back on, or fewer than 2.
    """
    from knowledge.errors import InvalidRequestError

    most = loaded.max_context
    if wanted is not None and (wanted < 2 or (most is not None and wanted > most)):
        raise InvalidRequestError(
            f"a window of {wanted} tokens cannot be scored", given=str(wanted), allowed=f"2 to {most or 'any number of'} tokens"
        )
    return wanted or min(default, most or default)
