"""Draws the panel: 200 requests spread over the catalogue, to which every version of the knowledge base is put.

Half of the models are those with the most published scores, whose answers rest on evidence; the others are dealt family
by family, so that no large family crowds the panel. Each model is asked twice, on different tasks, budgets and objectives.
What a request looks like follows from its number alone: nothing is drawn at random, and nothing was chosen by its answer.

`python -m advisor.panel_draw` writes `panel.csv`. The file is fixed: drawn anew, the panels of two versions could not be
compared.
"""

import csv
from collections.abc import Iterator
from itertools import islice, zip_longest

from advisor.panel_requests import FIELDS, PANEL
from knowledge.catalogue import all_models
from knowledge.models import ModelSpec
from knowledge.store import open_store
from knowledge.tensors import params_total

MODELS = 100
_TASKS = (
    "mmlu", "long-context", "gsm8k", "basic-nlp", "wikitext2", "humaneval", "mt_bench", "hellaswag:2,arc_challenge:1", "ruler",
    "truthfulqa_mc1", "ifeval", "emergent", "longeval", "math500",
)  # fmt: skip
"""Tasks that models are asked about in turn; of every type, single ones, types and a mix."""
_SHARES = (0.35, 0.5, 0.8, 0.28, 1.25, 0.42)
"""Budgets, as shares of the model's size at 16 bits."""
_BESIDE = 2.0
"""GB added for cache and buffers."""
_OBJECTIVES = ("balanced", "quality", "balanced", "speed", "balanced", "memory")
_ENGINES = {3: "vllm", 7: "llama.cpp", 11: "transformers"}
"""Every twelfth request is tied to each of these engines."""


def draw() -> list[dict[str, str]]:
    """The requests of the panel, as rows of its file."""
    rows = []
    for place, spec in enumerate(islice(_models(), MODELS)):
        for half in range(2):
            number = 2 * place + half
            size = 2 * (params_total(spec) or 0) / 1e9
            memory = max(3.0, size * _SHARES[(place + 2 * half) % len(_SHARES)] + _BESIDE)
            rows.append(
                {
                    "model": spec.name,
                    "task": _TASKS[(place + 5 * half) % len(_TASKS)],
                    "memory": f"{memory:.0f}GB",
                    "objective": _OBJECTIVES[(place // 2 + 3 * half) % len(_OBJECTIVES)],
                    "engine": _ENGINES.get(number % 12, ""),
                    "max_loss": "5" if number % 10 == 9 else "",
                }
            )
    return rows


def _models() -> Iterator[ModelSpec]:
    """Models with a known shape: in turn one with many scores, and one of the next family."""
    sized = {spec.name: spec for spec in all_models() if _sized(spec)}
    with open_store() as store:
        counted = store.rows(
            "SELECT model FROM evidence WHERE learnable AND NOT own GROUP BY model ORDER BY count(*) DESC, model"
        )
    told = [sized[name] for (name,) in counted if name in sized][: MODELS // 2]
    chosen = {spec.name for spec in told}
    families: dict[str, list[ModelSpec]] = {}
    for name in sorted(sized.keys() - chosen):
        families.setdefault(sized[name].family, []).append(sized[name])
    turns = zip_longest(*(families[family] for family in sorted(families)))
    others = (spec for turn in turns for spec in turn if spec is not None)
    for one, other in zip(told, others, strict=False):
        yield one
        yield other


def _sized(spec: ModelSpec) -> bool:
    return bool(params_total(spec)) and bool(spec.layers and spec.heads and spec.kv_heads)


def main() -> None:
    """Write the panel."""
    with PANEL.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, FIELDS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(draw())


if __name__ == "__main__":
    main()
