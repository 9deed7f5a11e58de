"""`qadvisor evidence`: browse the published and measured scores, and their sources."""

from typing import Annotated, Any

import typer

from advisor.cli import options, output
from advisor.cli.groups import new_app
from knowledge.errors import InvalidRequestError
from knowledge.values import field_names

app = new_app()

Family = Annotated[str | None, typer.Option("--family", metavar="NAME", help="Only models of this family.")]
TaskType = Annotated[str | None, typer.Option("--type", metavar="TYPE", help="Only tasks of this type.")]
Ability = Annotated[str | None, typer.Option("--ability", metavar="NAME", help="Only tasks of this ability.")]
Method = Annotated[str | None, typer.Option("--method", metavar="NAME", help="Only this method: rtn, gptq, awq, …")]
Scheme = Annotated[str | None, typer.Option("--scheme", "-s", metavar="SCHEME", help="Only this number format.")]
Source = Annotated[str | None, typer.Option("--source", metavar="ID", help="Only this source.")]
WBits = Annotated[float | None, typer.Option("--w-bits", metavar="BITS", help="Only these weight bits.")]
ABits = Annotated[float | None, typer.Option("--a-bits", metavar="BITS", help="Only these activation bits.")]
KvBits = Annotated[float | None, typer.Option("--kv-bits", metavar="BITS", help="Only these KV-cache bits.")]
Learnable = Annotated[bool, typer.Option("--learnable", help="Only rows that the predictor learns from.")]
Limit = Annotated[int, typer.Option("--limit", "-n", metavar="N", help="At most so many rows.")]
Sources = Annotated[bool, typer.Option("--sources", help="List the sources with licence and rows instead of the scores.")]

Conflicts = Annotated[
    bool, typer.Option("--conflicts", help="List where own and published scores of one cell differ beyond the noise.")
]


@app.command()
def evidence(
    model: options.Model = None,
    family: Family = None,
    task: options.Task = None,
    type: TaskType = None,
    ability: Ability = None,
    method: Method = None,
    scheme: Scheme = None,
    source: Source = None,
    w_bits: WBits = None,
    a_bits: ABits = None,
    kv_bits: KvBits = None,
    learnable: Learnable = False,
    limit: Limit = 50,
    sources: Sources = False,
    conflicts: Conflicts = False,
    exclude_licence: options.ExcludeLicence = None,
    json: options.Json = False,
) -> None:
    """List scores of quantized models with the unquantized one and the loss that follows.

    Example: qadvisor evidence --model mistral-7b --type long-context --kv-bits 4
    """
    from knowledge.store import open_store

    if limit < 1:
        raise InvalidRequestError("--limit must be at least 1", given=str(limit), allowed="1 or more")
    with open_store(exclude_licences=tuple(exclude_licence or ())) as store:
        if sources:
            _show_sources(store, json=json)
            return
        if conflicts:
            _show_conflicts(store, json=json)
            return
        wanted = _filter(
            model=model, family=family, task=task, task_type=type, ability=ability, method=method, scheme=scheme, source=source,
            w_bits=w_bits, a_bits=a_bits, kv_bits=kv_bits, learnable=learnable or None, limit=limit,
        )  # fmt: skip
        _show_rows(store, wanted, json=json)


def _filter(**given: Any) -> Any:
    """The filter with every name as the catalogues have it.

    Raises:
        UnknownNameError: a name that nobody knows.
    """
    from knowledge.catalogue import find_model
    from knowledge.errors import UnknownNameError
    from knowledge.queries import EvidenceFilter
    from knowledge.recipes import find_method
    from knowledge.schemes import parse_scheme
    from knowledge.sources import find_source
    from knowledge.task_catalogue import find_task
    from knowledge.tasks import TASK_TYPES

    canonical = {
        "model": lambda name: find_model(name).name,
        "task": lambda name: find_task(name).name,
        "method": lambda name: find_method(name).name,
        "scheme": lambda name: parse_scheme(name).name,
        "source": lambda name: find_source(name).id,
    }
    if given["task_type"] is not None and given["task_type"] not in TASK_TYPES:
        raise UnknownNameError.of("task type", given["task_type"], TASK_TYPES)
    if str(given["source"]).startswith("own:"):  # the user's own sources are in no catalogue
        del canonical["source"]
    named = {name: canonical[name](given[name]) for name in canonical if given[name] is not None}
    return EvidenceFilter(**(given | named))


def _show_rows(store: Any, wanted: Any, *, json: bool) -> None:
    from knowledge.queries import browse_evidence

    rows = browse_evidence(store, wanted)
    if json:
        fields = [{name: getattr(row, name) for name in field_names(row)} for row in rows]
        output.write_json(output.versioned(knowledge_version=store.version, evidence=fields))
        return
    cells = ((row.model, _recipe(row), row.task, row.score, row.baseline, _loss(row), row.source) for row in rows)
    columns = ("model", "recipe", "task", "score", "16 bit", "loss", "source")
    table = output.make_table(columns, cells, right=("score", "16 bit", "loss"))
    more = f" (at most {wanted.limit} are shown: --limit)" if len(rows) == wanted.limit else ""
    output.write_rich(table, output.count_line(len(rows), "row", more))


def _recipe(row: Any) -> str:
    return str(row.scheme) if row.method in ("rtn", "none") else f"{row.scheme}:{row.method}"


def _loss(row: Any) -> str | None:
    """The loss in percent: of above-chance performance, or of the perplexity (signed)."""
    from advisor.report_words import percent

    return None if row.loss is None else f"{percent(row.loss, row.loss_kind)} %"


def _show_sources(store: Any, *, json: bool) -> None:
    from knowledge.queries import source_rows

    rows = source_rows(store)
    if json:
        fields = [{name: getattr(row, name) for name in field_names(row)} for row in rows]
        output.write_json(output.versioned(knowledge_version=store.version, sources=fields))
        return
    cells = ((row.id, row.n_accuracy, row.n_learnable, row.licence, row.title) for row in rows)
    table = output.make_table(("source", "scores", "learnt", "licence", "title"), cells, right=("scores", "learnt"))
    output.write_rich(table, output.count_line(sum(row.n_accuracy for row in rows), "score", f" of {len(rows)} sources"))


def _show_conflicts(store: Any, *, json: bool) -> None:
    from advisor.conflicts import find_conflicts

    found = find_conflicts(store)
    if json:
        output.write_json(output.versioned(knowledge_version=store.version, conflicts=[one.as_dict() for one in found]))
        return
    output.write_text("".join(f"{one.words}\n" for one in found))
    output.write_text(f"{len(found)} conflicts between own and published scores\n")
