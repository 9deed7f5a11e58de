"""Rounding a model's weights against reading and writing them once: the fused kernel and the plain operations.

    python tests/benchmarks/bench_rtn.py [--device cuda] [--layers 32] [--recipes w4a16-g128,mxfp4]

The model has the shape of Mistral-7B and random weights, made on the device. Timed is what a cell of a sweep does to the
weights when their originals are already kept (rounding, the sums that the record needs, writing); the copy moves the same bytes
once.
"""

import argparse
import statistics
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]


def time_recipe(recipe: str, device: str, *, layers: int, repeats: int, fused: bool = True) -> tuple[list[float], list[float]]:
    """Seconds of rounding every matrix of a model of `layers` blocks, and of copying them, `repeats` times each."""
    import torch
    from shaped_models import SEVEN_BILLION, loaded_model, random_model

    from measure.presets import expand_recipes
    from measure.quantizers import fused as kernels
    from measure.quantizers.apply import apply_recipe
    from measure.quantizers.targets import weight_targets

    kernels.DEVICES = frozenset({torch.device(device).type} if fused else ())
    loaded = loaded_model(random_model(SEVEN_BILLION | {"num_hidden_layers": layers}, device), device)
    recipe_and_protocol = expand_recipes([recipe])[1]

    def seconds(work: object) -> float:
        _wait(device)
        start = time.perf_counter()
        work()  # type: ignore[operator]
        _wait(device)
        return time.perf_counter() - start

    rounding = []
    for _ in range(1 + repeats):  # the first compiles, and copies the originals to the host
        applied = None

        def work() -> None:
            nonlocal applied
            applied = apply_recipe(loaded, *recipe_and_protocol)

        rounding.append(seconds(work))
        applied.undo()  # type: ignore[attr-defined]
    matrices = [target.parameter.detach() for target in weight_targets(loaded.model)]
    place = torch.empty_like(max(matrices, key=lambda matrix: matrix.numel())).reshape(-1)

    def copy() -> None:
        for matrix in matrices:
            place[: matrix.numel()].copy_(matrix.reshape(-1))

    return rounding[1:], [seconds(copy) for _ in range(1 + repeats)][1:]


def _wait(device: str) -> None:
    import torch

    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


def main() -> None:
    """Time the recipes both ways."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--layers", type=int, default=32)
    parser.add_argument("--recipes", default="w8a16-g128,w4a16-g128,w4a16-channel-sym,fp8a16,mxfp4a16")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    for recipe in arguments.recipes.split(","):
        for fused in (True, False):
            times = time_recipe(recipe, arguments.device, layers=arguments.layers, repeats=arguments.repeats, fused=fused)
            rounding, copying = (statistics.median(seconds) for seconds in times)
            kind = "fused" if fused else "plain"
            print(
                f"{recipe:<20} {kind}: {rounding * 1e3:9.1f} ms, copy {copying * 1e3:8.1f} ms, {rounding / copying:6.2f} copies"
            )


if __name__ == "__main__":
    main()
