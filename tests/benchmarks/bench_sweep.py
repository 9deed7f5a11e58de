"""One sweep against one process per cell: ten recipes and the baseline on two tasks, on a random model or a given one.

    python tests/benchmarks/bench_sweep.py [--model PATH] [--device cpu]

Prints wall times and their ratio. The second way is that of the study's public code: each cell starts a process, loads the
model and quantizes it.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RECIPES = (
    "w8a16-g128", "w6a16-g128", "w4a16-g128", "w4a16-g64", "w3a16-g128", "w2a16-g128", "kv8", "kv4", "kv2", "w4a16-g128-kv4",
)  # fmt: skip
TASKS = ["perplexity", "retrieval"]


PROGRAM = """
import sys
sys.path.insert(0, {root!r})
from pathlib import Path
from measure import expand_recipes, locate_model, make_plan, run_plan
from measure.backend import TorchBackend
from measure.plan import Settings
from measure.tasks import TaskOptions, plan_tasks
source, settings = locate_model({model!r}), Settings(device={device!r})
recipes = [pair for pair in expand_recipes({recipes!r}) if pair[0].name != "none" or "none" in {recipes!r}]
tasks = plan_tasks({tasks!r}, TaskOptions(limit=4, context=256))
plan = make_plan(source, recipes, tasks, settings=settings, output=Path({output!r}))
summary = run_plan(plan, TorchBackend(source, settings))
assert (summary.ok, summary.failed) == (len(plan.cells), 0)
"""


def measure(model: Path, recipes: list[str], tasks: list[str], output: Path, device: str) -> None:
    """Measure these cells in a process of their own."""
    values = {
        "root": str(ROOT),
        "model": str(model),
        "device": device,
        "recipes": recipes,
        "tasks": tasks,
        "output": str(output),
    }
    subprocess.run(
        [sys.executable, "-c", PROGRAM.format(**values)], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def random_model(folder: Path) -> Path:
    """A Llama-like model of about 20 million parameters with random weights."""
    sys.path.insert(0, str(ROOT / "tests"))
    import tiny_models
    from transformers import AutoModelForCausalLM, LlamaConfig

    config = LlamaConfig(
        vocab_size=tiny_models.VOCAB, hidden_size=512, intermediate_size=1536, num_hidden_layers=6, num_attention_heads=8,
        num_key_value_heads=4, max_position_embeddings=1024, bos_token_id=1, eos_token_id=2, pad_token_id=0,
    )  # fmt: skip
    AutoModelForCausalLM.from_config(config).save_pretrained(folder / "llama-20m")
    tiny_models.tokenizer().save_pretrained(folder / "llama-20m")
    return folder / "llama-20m"


def main() -> None:
    """Time both ways."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = arguments.model or random_model(folder)
        start = time.perf_counter()
        measure(model, ["none", *RECIPES], TASKS, folder / "sweep", arguments.device)
        sweep = time.perf_counter() - start
        start = time.perf_counter()
        for recipe in ("none", *RECIPES):
            for task in TASKS:
                measure(model, [recipe], [task], folder / "alone", arguments.device)
        alone = time.perf_counter() - start
    cells = len(TASKS) * (1 + len(RECIPES))
    print(f"{cells} cells: one sweep {sweep:.1f} s, one process a cell {alone:.1f} s, ratio {alone / sweep:.1f}")


if __name__ == "__main__":
    main()
