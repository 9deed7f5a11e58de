"""Rounding in one pass over memory: read a group, round it, write it, and note what that changed.

`torch.compile` makes one kernel of the rounding rules of `measure.quantizers.fake` (Triton on CUDA, C++ on a CPU), where the
plain operations pass over memory some twenty times. The values are those of the plain operations bit for bit: a kernel whose
values differ on a sample is not used.
"""

import itertools
import logging
import shutil
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from types import FunctionType
from typing import Any

import torch
from torch import Tensor

from knowledge.schemes import QuantArgs
from measure.quantizers.fake import Rounding, accumulator, rounding_for

_log = logging.getLogger(__name__)

DEVICES = frozenset({"cuda"})
"""Kinds of device where compiling (seconds a number format) pays."""

_OPTIONS = {
    "cpu": {"emulate_precision_casts": True},
    "cuda": {"emulate_precision_casts": True, "eager_numerics.division_rounding": True},
}
"""Options of the compiler under which values are rounded where the plain operations round them."""

_SAMPLE_GROUPS = 64

_NUMBERS = itertools.count()

Kernel = Callable[[Tensor], tuple[Tensor, Tensor, Tensor, Tensor, Tensor]]
"""(n, group) values -> rounded values, and of each group squared error, squared norm, least and largest value before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A rounding along groups, with everything that decides its values."""

    args: QuantArgs
    group: int
    symmetric: bool
    include_zero: bool
    floor: float

    def plain(self) -> Rounding:
        """The rounding by plain operations."""
        return rounding_for(self.args, self.group, symmetric=self.symmetric, include_zero=self.include_zero, floor=self.floor)


def find_kernel(rule: Rule, device: torch.device, dtype: torch.dtype, count: int) -> Kernel | None:
    """The fused kernel of a rule for `count` groups; None where plain operations are to be used.

    That is on devices not in `DEVICES`, where a scale spans the whole tensor (NVFP4, per-tensor integers: two passes), without
    a compiler, and where the compiled values differ from the plain ones.
    """
    compiler = find_spec("triton") if device.type == "cuda" else shutil.which("g++")
    whole = rule.args.dtype == "nvfp" or rule.args.strategy == "tensor"
    if device.type not in DEVICES or not compiler or whole:
        return None
    return _checked(rule, device, dtype, count)


def round_groups(kernel: Kernel, groups: Tensor) -> tuple[Tensor, Tensor]:
    """The rounded (n, group) values, and their squared error, squared norm, least and largest value before as one tensor.

    The four numbers stay on the device, so that a caller can wait for all matrices at once.
    """
    after, error, norm, low, high = kernel(groups)
    wide = accumulator(groups.device)
    return after, torch.stack([error.sum(dtype=wide), norm.sum(dtype=wide), low.amin().to(wide), high.amax().to(wide)])


@lru_cache(maxsize=256)
def _checked(rule: Rule, device: torch.device, dtype: torch.dtype, count: int) -> Kernel | None:
    """The compiled kernel, if its values are the plain ones on a sample with a constant group and wide and narrow ones."""
    generator = torch.Generator().manual_seed(0)
    sample = torch.randn(_SAMPLE_GROUPS, rule.group, generator=generator) * torch.logspace(-4, 2, _SAMPLE_GROUPS)[:, None]
    sample[0] = 0
    sample = sample.to(device, dtype).repeat(-(-count // _SAMPLE_GROUPS), 1)[:count]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            kernel = _compiled(rule, device)
            found = kernel(sample)[0]
    except Exception as error:  # noqa: BLE001 - a compiler may fail in any way; plain operations always work
        _log.warning("no fused kernel for %s: %s", rule.args.dtype, str(error).partition("\n")[0][:200])
        return None
    if not torch.equal(found, rule.plain()(sample)):
        _log.warning("the fused kernel for %s gives other values than plain operations and is not used", rule.args.dtype)
        return None
    return kernel


def _compiled(rule: Rule, device: torch.device) -> Kernel:
    """The kernel of a rule."""
    rounding = rule.plain()

    def one_pass(groups: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        before, after = groups.float(), rounding(groups)
        error, norm = (after.float() - before).square().sum(-1), before.square().sum(-1)
        return after, error, norm, before.amin(-1), before.amax(-1)

    # dynamic shapes would make variables of the rule's numbers as well, and then values are rounded elsewhere
    kernel: Kernel = torch.compile(_with_own_code(one_pass), dynamic=False, fullgraph=True, options=_OPTIONS[device.type])
    return kernel


def _with_own_code(function: Any) -> FunctionType:
    """A copy of a function with a code object of its own: the compiler counts versions by code object, and allows eight."""
    code = function.__code__.replace(co_name=f"{function.__name__}_{next(_NUMBERS)}")
    return FunctionType(code, function.__globals__, code.co_name, function.__defaults__, function.__closure__)
