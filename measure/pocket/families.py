"""What a probe tells of a model of an unseen family: `python -m measure.pocket.families TABLE [PROBES RECORDS]` prints errors.

Small models of several architectures, trained alike on text alone, were probed and then measured under rounding and other
methods (`docs/how-to/pocket.md` has the commands). For each family in turn the rise of the loss under every recipe is forecast
from the other families: by the mean of ln(rise) over them, and by that mean moved by what the probe found, for as far as a
feature of the probe differs from theirs. TABLE holds rises and features (JSON); PROBES and RECORDS, folders, fill it anew.
"""

import json
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from knowledge.measurements import RunRecord
from knowledge.probes import probe_features, probe_from_json
from measure.pocket.records import load

Floats = NDArray[np.float64]

SEEN = ("w4a16-g128-asym", "w3a16-g128-asym")
"""What the probe rounds itself: left out of the forecasts."""
LEAST_RISE = 0.002
"""Recipes whose median rise is below this many nats are not forecast: there is nothing to tell apart."""
_SMALLEST = 5e-4
"""Rises count at least so many nats, so that they have a logarithm."""


def collect(probes: Path, records: Path) -> dict[str, dict[str, Any]]:
    """By family: parameters, features of its probe, and rise of the loss by recipe, in nats per token."""
    by_model: dict[str, dict[str, RunRecord]] = {}
    for record in load(records):
        if record.status == "ok" and record.spec.task == "perplexity":
            by_model.setdefault(record.spec.model, {})[record.spec.recipe] = record
    table = {}
    for model, found in sorted(by_model.items()):
        base = found.pop("none")
        features = probe_features(probe_from_json((probes / f"{model}.probe.json").read_bytes()))
        table[model] = {
            "parameters": base.model.parameters,
            "nll": _nll(base),
            "probe": {name: round(value, 6) for name, value in features.items()},
            "rises": {recipe: round(_nll(record) - _nll(base), 6) for recipe, record in sorted(found.items())},
        }
    return table


def _nll(record: RunRecord) -> float:
    return next(item.value for item in record.measurements if item.metric == "nll_per_token")


def readings(probe: Mapping[str, float]) -> dict[str, float]:
    """What is read from a probe, as the logarithm of a rise that it stands for (0: nothing)."""
    rises = [rise if (rise := probe[f"nll_rise:{scheme}"]) > 0 else probe[f"expected_rise:{scheme}"] for scheme in SEEN]
    return {
        "nothing": 0.0,
        "rise by rounding": float(np.median(np.log(rises))),
        "curvature": math.log(probe["curvature"]),
        "trace of the Hessian": probe["log_trace"],
        "noise of rounding": -probe[f"weight_sqnr_db:{SEEN[1]}"] * math.log(10) / 10,
        "kurtosis": probe["weight_log_kurtosis"],
    }


def left_out_errors(table: Mapping[str, Mapping[str, Any]], *, trust: float) -> dict[str, tuple[Floats, Floats]]:
    """Errors of each family's forecasts from the other families, by what was read from the probes.

    Args:
        table: from `collect`.
        trust: share of the difference between a family's reading and those of the others that is believed.

    Returns:
        Mean absolute errors of ln(rise) and of the rise in nats, one for each family in the order of the table.
    """
    recipes = [recipe for recipe in _common(table) if recipe not in SEEN]
    rises = np.array([[entry["rises"][recipe] for recipe in recipes] for entry in table.values()])
    rises = rises[:, np.median(rises, axis=0) >= LEAST_RISE]
    logs = np.log(np.maximum(rises, _SMALLEST))
    read = [readings(entry["probe"]) for entry in table.values()]
    out = {}
    for name in read[0]:
        shift = trust * np.array([reading[name] for reading in read])[:, None]
        others = (np.sum(logs - shift, axis=0) - (logs - shift)) / (len(logs) - 1)
        forecast = others + shift
        out[name] = np.abs(forecast - logs).mean(axis=1), np.abs(np.exp(forecast) - rises).mean(axis=1)
    return out


def _common(table: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Recipes that every family has."""
    return sorted(set.intersection(*(set(entry["rises"]) for entry in table.values())))


def errors_table(table: Mapping[str, Mapping[str, Any]]) -> str:
    """The errors as Markdown."""
    families = list(table)
    lines = [
        f"| read from the probe | believed | error of ln(rise) | error, nats | {' | '.join(families)} |",
        "| --- " * (4 + len(families)) + "|",
    ]
    for trust in (0.5, 1.0):
        for name, (logs, nats) in left_out_errors(table, trust=trust).items():
            each = " | ".join(f"{error:.2f}" for error in logs)
            lines.append(f"| {name} | {trust:g} | {logs.mean():.3f} | {nats.mean():.4f} | {each} |")
    return "\n".join(lines)


def main(arguments: list[str]) -> None:
    """Fill the table where folders are given, and print the errors."""
    file = Path(arguments[0])
    if len(arguments) > 1:
        table = collect(Path(arguments[1]), Path(arguments[2]))
        file.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(errors_table(json.loads(file.read_text(encoding="utf-8"))) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
