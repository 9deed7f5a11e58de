"""Speed and memory of a model as it stands: time to first token, prefill and decode rate, peak memory; medians after a warm-up.

Simulated quantization computes in floating point and has no speed of its own: packed layers of a library take its place, and a
recipe without such layers is refused.
"""

import statistics
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from knowledge.measurements import Measurement
from measure.inference import release_memory, window_length
from measure.quantizers.kernels import packed
from measure.tasks import TaskPlan, TaskResult

if TYPE_CHECKING:
    from measure.loading import LoadedModel

_DEFAULT_CONTEXT = 256
"""Prompt tokens, as in the efficiency table of Jin et al. 2024 (256 in, 512 out)."""

_NEW_TOKENS = 32
_WARM_UP = 1
_DEFAULT_REPEATS = 5


class SpeedScorer:
    """Time to first token, tokens per second while reading the prompt and while writing, peak memory, bytes of weights.

    The batch is that of `--batch-size` (1 if not given), the prompt is `--context` tokens long, `--limit` says how often it
        is repeated.
    """

    def __init__(self, task: TaskPlan, *, seed: int) -> None:
        self.task, self.seed = task, seed
        self._ids: Tensor | None = None

    def prepare(self, loaded: "LoadedModel") -> None:
        """Draw the prompt: its content decides no time."""
        most = loaded.max_context
        length = window_length(
            loaded, self.task.options.context, min(_DEFAULT_CONTEXT, (most or _DEFAULT_CONTEXT) - _NEW_TOKENS)
        )
        generator = torch.Generator().manual_seed(self.seed)
        vocabulary = int(loaded.model.get_input_embeddings().weight.shape[0])
        self._ids = torch.randint(0, vocabulary, (self.task.options.batch or 1, length), generator=generator).to(loaded.device)

    def score(self, loaded: "LoadedModel") -> TaskResult:
        """Measure, on packed layers where the recipe at hand is simulated.

        Raises:
            NotApplicableError: the recipe is simulated, and no library here has a kernel for it.
        """
        if loaded.recipe is None or not loaded.simulated:
            return self._measure(loaded, "torch" if loaded.recipe is None else "bitsandbytes Linear8bitLt")
        with packed(loaded, loaded.recipe) as kernel:
            return self._measure(loaded, kernel.name)

    def _measure(self, loaded: "LoadedModel", kernel: str) -> TaskResult:
        if self._ids is None:
            raise RuntimeError("prepare() comes before score()")
        repeats = self.task.options.limit or _DEFAULT_REPEATS
        for _ in range(_WARM_UP):
            _time_once(loaded, self._ids)
        release_memory()
        if loaded.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(loaded.device)
        times = [_time_once(loaded, self._ids) for _ in range(repeats)]
        return self._result(loaded, kernel, [first for first, _ in times], [rest for _, rest in times])

    def _result(self, loaded: "LoadedModel", kernel: str, prefill: list[float], decode: list[float]) -> TaskResult:
        if self._ids is None:
            raise RuntimeError("prepare() comes before score()")
        rows, length = self._ids.shape
        repeats = len(prefill)
        measurements = [
            _median("time_to_first_token", prefill, unit="seconds", better=False),
            _median("prefill_rate", [rows * length / seconds for seconds in prefill], unit="tokens per second", better=True),
            _median(
                "decode_rate", [rows * (_NEW_TOKENS - 1) / seconds for seconds in decode], unit="tokens per second", better=True
            ),
            _bytes("weight_bytes", weight_bytes(loaded)),
        ]
        if loaded.device.type == "cuda":
            measurements.append(_bytes("peak_memory_bytes", torch.cuda.max_memory_allocated(loaded.device)))
        return TaskResult(
            measurements=measurements,
            samples={"id": list(range(repeats)), "prefill_seconds": list(prefill), "decode_seconds": list(decode)},
            details={
                "kernel": kernel,
                "batch": rows,
                "prompt_tokens": length,
                "new_tokens": _NEW_TOKENS,
                "warm_up": _WARM_UP,
                "timer": _timer(loaded),
            },
            context=length,
            limit=self.task.options.limit,
        )


def weight_bytes(loaded: "LoadedModel") -> int:
    """Bytes of all parameters and buffers as they lie in memory, packed codes with their scales, shared ones once."""
    tensors = {
        part.data_ptr(): part for tensor in [*loaded.model.parameters(), *loaded.model.buffers()] for part in _parts(tensor)
    }
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())


def _parts(tensor: Tensor) -> Iterator[Tensor]:
    """The plain tensors of a tensor: torchao and quanto wrap several, bitsandbytes hangs its scales on the codes."""
    if hasattr(tensor, "__tensor_flatten__"):
        for name in tensor.__tensor_flatten__()[0]:
            yield from _parts(getattr(tensor, name))
        return
    yield tensor
    state = getattr(tensor, "quant_state", None)
    while state is not None:
        yield from (part for part in (state.absmax, state.code, state.offset) if isinstance(part, Tensor))
        state = state.state2


@torch.no_grad()
def _time_once(loaded: "LoadedModel", ids: Tensor) -> tuple[float, float]:
    """Seconds of the prompt with the first token, and of the tokens after it (greedy, with the cache)."""
    out = None

    def prompt() -> None:
        nonlocal out
        out = loaded.model(input_ids=ids, use_cache=True, logits_to_keep=1)

    def write() -> None:
        past, token = _state(out)
        for _ in range(_NEW_TOKENS - 1):
            step = loaded.model(input_ids=token, use_cache=True, **past)
            past, token = _state(step)

    return _seconds(loaded, prompt), _seconds(loaded, write)


def _state(out: object) -> tuple[dict[str, object], Tensor]:
    names = ("past_key_values", "cache_params")
    past = {name: value for name in names if (value := getattr(out, name, None)) is not None}
    logits: Tensor = out.logits  # type: ignore[attr-defined]
    return past, logits[:, -1:].argmax(-1)


def _timer(loaded: "LoadedModel") -> str:
    return "CUDA events" if loaded.device.type == "cuda" else "perf_counter"


def _seconds(loaded: "LoadedModel", work: Callable[[], None]) -> float:
    """Wall time of `work`, on a GPU between two events on its stream."""
    if loaded.device.type == "cuda":
        start, stop = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        work()
        stop.record()
        torch.cuda.synchronize(loaded.device)
        return float(start.elapsed_time(stop)) / 1e3
    if loaded.device.type == "mps":
        torch.mps.synchronize()
    begin = time.perf_counter()
    work()
    if loaded.device.type == "mps":
        torch.mps.synchronize()
    return time.perf_counter() - begin


def _median(metric: str, values: list[float], *, unit: str, better: bool) -> Measurement:
    return Measurement(metric=metric, value=statistics.median(values), n=len(values), unit=unit, higher_is_better=better)


def _bytes(metric: str, value: int) -> Measurement:
    return Measurement(metric=metric, value=float(value), n=1, unit="bytes", higher_is_better=False)
