"""The calls behind `import advisor`: plain arguments in, value types out."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from advisor.request import make_request, parse_tokens

if TYPE_CHECKING:
    from advisor.answer import Recommendation
    from advisor.explanation import Explanation
    from knowledge.memory import MemoryEstimate


def recommend(
    *,
    model: str,
    task: str,
    memory: str | None = None,
    context: int | str | None = None,
    batch: int = 1,
    hardware: str | None = None,
    engine: str | None = None,
    max_loss: float | None = None,
    objective: str = "balanced",
    probe: str | None = None,
    top: int = 3,
    online: bool = False,
    exclude_licences: Iterable[str] = (),
    home: Path | None = None,
) -> "Recommendation":
    """The best quantization recipe for a model, a task and a memory budget, with the evidence.

    Args:
        model: catalogue name, hub id, model folder, `config.json` or `.gguf` file.
        task: a task, a task type, an ability, or several with weights (`gsm8k:2,mmlu:1`).
        memory: all the memory the model may use, with its unit (`16GB`, `16GiB`); the hardware's where not given.
        context: tokens of one sequence; the usual length of the task type where not given.
        batch: sequences at once.
        hardware: a device of the catalogue.
        engine: an inference engine; any where not given.
        max_loss: percent of above-chance performance that the upper bound of the loss may reach (for perplexity tasks
            percent of perplexity).
        objective: `balanced`, `quality`, `speed` or `memory`.
        probe: file with statistics of the model's own weights, as `qadvisor measure probe` writes it; read and checked, but
            not used by the packaged predictor, and the answer says so.
        top: how many recipes to return.
        online: read facts from the hub where nothing local has them.
        exclude_licences: licences of sources whose figures are left out.
        home: folder of the user's state, instead of `QADVISOR_HOME`.

    Raises:
        RequestError: the request cannot be understood.
        NoAnswerError: nothing satisfies it; the message says what would.
    """
    from advisor.recommendation import advise

    request = make_request(
        {
            "model": model, "task": task, "memory": memory, "context": context, "batch": batch, "hardware": hardware,
            "engine": engine, "max_loss": max_loss, "objective": objective, "probe": probe, "top": top, "online": online,
            "exclude_licences": tuple(exclude_licences),
        }
    )  # fmt: skip
    return advise(request, home=home)


def explain(*, scheme: str, method: str | None = None, home: Path | None = None, **request: Any) -> "Explanation":
    """Everything known about one recipe of a request: evidence, rules, arithmetic, rank.

    Args:
        scheme: scheme name; what it leaves open (group, symmetry) may be anything.
        method: method name; the best-ranked where not given.
        home: folder of the user's state.
        **request: as for `recommend`.

    Raises:
        RequestError: the request or the scheme cannot be understood.
        NoAnswerError: nothing can be said about the task.
    """
    from advisor.explanation import explain as explain_request

    return explain_request(make_request(request), scheme, method=method, home=home)


def estimate_memory(
    *,
    model: str,
    scheme: str,
    context: int | str,
    batch: int = 1,
    engine: str | None = None,
    method: str = "rtn",
    online: bool = False,
) -> "MemoryEstimate":
    """Bytes that a model takes under a scheme, part by part.

    Args:
        model: as for `recommend`.
        scheme: scheme name, with the KV cache (`gguf:q4_k_m-kvq8_0`).
        context: tokens of one sequence.
        batch: sequences at once.
        engine: whose cache policy and buffers apply; a full cache where not given.
        method: decides the checkpoint format where the scheme leaves it open.
        online: read facts from the hub where nothing local has them.

    Raises:
        RequestError: a name is unknown, or the model's shape is incomplete.
    """
    from knowledge.memory import estimate_memory as estimate
    from knowledge.resolve import resolve_model
    from knowledge.schemes import parse_scheme

    spec = resolve_model(model, online=online)
    return estimate(spec, parse_scheme(scheme), method=method, engine=engine, context=parse_tokens(str(context)), batch=batch)


def predict(rows: Any, *, home: Path | None = None) -> list[dict[str, object]]:
    """The loss of each row of a table of configurations.

    Args:
        rows: a data frame (anything with `to_dict("records")`) or mappings, with the columns of published tables.
        home: folder of the user's state, whose evidence is pooled with the prediction.

    Returns:
        For each row `relative_loss` or `delta_nll`, `lower`, `upper`, `level`, `in_support` and `basis`.

    Raises:
        DataError: a row cannot be understood; the message gives its number.
    """
    from advisor.predict_table import predict_rows

    records: list[Mapping[str, object]] = rows.to_dict("records") if hasattr(rows, "to_dict") else list(rows)
    return predict_rows(records, home=home)
