"""How long the panel of 200 requests takes: one version alone, and two that differ in rows and in the predictor.

python tests/benchmarks/bench_panel.py
"""

import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from own_evidence import make_store, own_row

from advisor.panel import Version, choice_of, panel_changes
from advisor.panel_requests import panel_requests
from advisor.predictor import load_predictor
from advisor.recommendation import study_request
from knowledge.errors import QAdvisorError
from knowledge.store import KnowledgeStore


def main() -> None:
    """Print seconds of wall clock and of the processor."""
    predictor = load_predictor()
    with make_store() as before, make_store(own_row("llama-2-7b", "w4a16-g128", "gptq", "mmlu", 0.3)) as after:
        first, second = Version(store=before, predictor=predictor), Version(store=after, predictor=predictor)
        refitted = Version(store=after, predictor=replace(predictor))
        show("one version", lambda: answer(before))
        show("two versions, a row about one model", lambda: f"{len(panel_changes(first, second))} changes")
        show("two versions, another predictor", lambda: f"{len(panel_changes(first, refitted))} changes")


def answer(store: KnowledgeStore) -> str:
    """Answer every request."""
    answered = 0
    for request in panel_requests():
        try:
            answered += choice_of(study_request(request, store)).status == "ok"
        except QAdvisorError:
            continue
    return f"{answered} recommendations"


def show(name: str, call: Callable[[], str]) -> None:
    """Run `call` once and print its time."""
    start, cpu = time.perf_counter(), time.process_time()
    found = call()
    print(f"{name}: {time.perf_counter() - start:.1f} s ({time.process_time() - cpu:.1f} s of processor), {found}", flush=True)


if __name__ == "__main__":
    main()
