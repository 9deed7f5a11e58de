"""Peak memory and time of `qadvisor measure probe` on a model of Llama-2-7B's shape, random weights in shards of two blocks.

    python tests/benchmarks/bench_probe.py [--layers 32] [--folder DIR]

Writes 2 bytes a weight (13.5 GB at 32 layers) below DIR, a temporary folder if not given, and removes them.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HIDDEN, INNER, VOCAB = 4096, 11008, 32000
SHAPES = {
    **dict.fromkeys(("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj"), (HIDDEN, HIDDEN)),
    **dict.fromkeys(("mlp.gate_proj", "mlp.up_proj"), (INNER, HIDDEN)),
    "mlp.down_proj": (HIDDEN, INNER),
}


def write_model(folder: Path, layers: int) -> int:
    """A checkpoint in bfloat16; returns its parameters."""
    import torch
    from safetensors.torch import save_file

    generator, index, count = torch.Generator().manual_seed(0), {}, 0

    def save(number: int, shapes: dict[str, tuple[int, int]]) -> None:
        nonlocal count
        name = f"model-{number:05}.safetensors"
        tensors = {key: torch.randn(shape, generator=generator).mul_(0.02).bfloat16() for key, shape in shapes.items()}
        count += sum(tensor.numel() for tensor in tensors.values())
        save_file(tensors, folder / name, metadata={"format": "pt"})
        index.update(dict.fromkeys(tensors, name))

    save(0, {"model.embed_tokens.weight": (VOCAB, HIDDEN), "lm_head.weight": (VOCAB, HIDDEN)})
    for first in range(0, layers, 2):
        blocks = range(first, min(first + 2, layers))
        save(1 + first, {f"model.layers.{n}.{part}.weight": shape for n in blocks for part, shape in SHAPES.items()})
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", "architectures": ["LlamaForCausalLM"]}))
    return count


def main() -> None:
    """Write, probe, report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layers", type=int, default=32)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--write", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.write:
        print(write_model(arguments.write, arguments.layers))
        return
    folder = Path(tempfile.mkdtemp(prefix="probe-", dir=arguments.folder))
    try:
        # in a process of its own: a child's peak counts what its parent held when it was started
        writer = [sys.executable, __file__, "--write", str(folder), "--layers", str(arguments.layers)]
        count = int(subprocess.run(writer, check=True, stdout=subprocess.PIPE, text=True).stdout)
        program = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from measure.cli import app; app()"
        start = time.perf_counter()
        child = subprocess.Popen(
            [sys.executable, "-c", program, "probe", str(folder), "-o", str(folder / "probe.json")], stdout=subprocess.DEVNULL
        )
        _, status, usage = os.wait4(child.pid, 0)  # the child's own peak, not that of this process
        seconds = time.perf_counter() - start
        if status:
            raise SystemExit(f"probe ended with status {status}")
        print(
            f"{count:,} parameters ({2 * count / 1e9:.1f} GB on disk): {seconds:.0f} s wall, "
            f"{usage.ru_utime + usage.ru_stime:.0f} s CPU, peak {usage.ru_maxrss * 1024 / 1e9:.2f} GB"
        )
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
