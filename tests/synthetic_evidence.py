"""Evidence that follows a known law, for tests of fits and backtests."""

import numpy as np

from advisor.training import make_training_set

TASKS = (
    ("mmlu", "emergent", "acc", 60.0, 25.0),
    ("lambada_openai", "basic-nlp", "acc", 70.0, 0.0),
    ("wikitext2", "language-modeling", "ppl", 6.0, np.nan),
)
METHODS = {"rtn": 0.0, "gptq": -0.7}


def make_columns(n_models=24, seed=0):
    """Losses of `n_models` in eight families: exponential in bits, falling with size and method, with noise."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(n_models):
        family, size = f"family{i % 8}", float(rng.choice([1, 3, 7, 13, 70]))
        for bits in (8, 4, 3, 2):
            for method, gain in METHODS.items():
                for task in TASKS:
                    damage = np.exp(-3 + 1.5 * (4 - bits) - 0.3 * np.log(size / 7) + gain)
                    loss = damage if task[2] == "ppl" else 1 - np.exp(-damage)
                    noise = 0.01 * rng.standard_normal()
                    rows.append((f"m{i}-{size:g}b", family, size, bits, method, *task, loss + noise))
    names = ("model", "family", "params_b", "w_bits", "method", "task", "task_type", "metric", "baseline", "chance", "loss")
    columns = {
        name: np.array(cells, dtype=object if isinstance(cells[0], str) else float)
        for name, cells in zip(names, zip(*rows, strict=True), strict=True)
    }
    n = len(rows)
    texts = {"source": np.array([f"s{i % 3}" for i in range(n)], dtype=object), "w_dtype": np.full(n, "int", dtype=object)}
    blank = {name: np.full(n, "", dtype=object) for name in ("a_dtype", "kv_dtype", "kv_name", "format", "ability", "note")}
    schemes = {"scheme": np.array([f"w{int(bits)}a16-g128" for bits in columns["w_bits"]], dtype=object)}
    numbers = {"tuned": 0.0, "w_group": 128.0, "w_sym": 0.0, "a_bits": 16.0, "kv_bits": 16.0, "shots": 0.0, "context": np.nan}
    numbers |= {"score": np.nan, "items": 1000.0, "loss_se": 0.01}
    return columns | texts | blank | schemes | {name: np.full(n, value) for name, value in numbers.items()}


def make_evidence(n_models=24, seed=0):
    """The same as a training set."""
    return make_training_set(make_columns(n_models, seed))
