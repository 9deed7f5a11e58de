"""Devices to compute on."""

import torch

from knowledge.errors import InvalidRequestError


def find_device(text: str) -> torch.device:
    """The device that `text` names (`cpu`, `cuda`, `cuda:1`, `mps`).

    Raises:
        InvalidRequestError: it is not there.
    """
    kind = text.partition(":")[0]
    present = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not present[kind]:
        raise InvalidRequestError(
            f"no {kind} device here", given=text, allowed=[name for name, found in present.items() if found]
        )
    if kind == "cuda" and ":" in text and int(text.partition(":")[2]) >= torch.cuda.device_count():
        raise InvalidRequestError(
            f"no device {text}", given=text, allowed=[f"cuda:{i}" for i in range(torch.cuda.device_count())]
        )
    return torch.device(text)
