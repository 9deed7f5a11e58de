"""`qadvisor refresh`: new runs, harness results and tables become the next version of the knowledge base."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from advisor.cli import options, output
from advisor.cli.groups import new_app

if TYPE_CHECKING:
    from advisor.learning import Lesson
    from advisor.refreshing import Refreshed

app = new_app()

Paths = Annotated[
    list[str] | None,
    typer.Argument(metavar="[PATH …]", help="Files, folders, patterns, URLs; the home folder's runs/ if none is given."),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be taken and change nothing.")]
NoFit = Annotated[bool, typer.Option("--no-fit", help="Take rows in without refitting the predictor (quicker).")]
Baseline = Annotated[
    Path | None, typer.Option("--baseline", metavar="FILE", help="Result of the unquantized model, where results do not say.")
]
Map = Annotated[
    Path | None, typer.Option("--map", metavar="FILE", help="Table: file or model, its base model, scheme and method.")
]
Wait = Annotated[float, typer.Option("--wait", metavar="SECONDS", help="How long to wait for another refresh.")]

_NOTHING_TAKEN = 3
_SHOWN_CHANGES = 10


@app.command()
def refresh(
    paths: Paths = None,
    dry_run: DryRun = False,
    no_fit: NoFit = False,
    baseline: Baseline = None,
    map: Map = None,
    wait: Wait = 60.0,
    json: options.Json = False,
) -> None:
    """Take in run records, lm-evaluation-harness results, tables and other knowledge folders; publish the next version.

    The predictor is refitted on what is new, and the new one is used only where it is not worse on figures that were left
    out. Nothing is taken twice. What cannot be taken goes to a table with file, row and reason. Exit code 3 where every row was
    refused.

    Example: qadvisor refresh results/ --baseline results/base.json
    """
    from advisor.refreshing import refresh as refresh_knowledge

    done = refresh_knowledge(
        paths or (), baseline=baseline, mapping=map, wait_s=wait, dry_run=dry_run, fit=not no_fit, progress=output.warn
    )
    if json:
        output.write_json(output.versioned(**done.as_dict()))
    else:
        output.write_text("\n".join(_lines(done)) + "\n")
    if done.status == "nothing_taken":
        raise typer.Exit(_NOTHING_TAKEN)


def _lines(done: "Refreshed") -> Iterator[str]:
    """The summary, one fact a line."""
    yield _fact("read", ", ".join(f"{count:,} {kind}" for kind, count in done.read.items()) or "no files")
    yield _fact("taken", f"{done.scores:,} scores" + (f", {done.speeds:,} speeds" if done.speeds else ""))
    yield _fact("known already", f"{done.known:,}")
    yield _fact("no evidence", f"{sum(done.left_out.values()):,}")
    yield from (f"  {count:>7,}  {reason}" for reason, count in done.left_out.items())
    yield _fact("refused", f"{sum(done.refused.values()):,}")
    yield from (f"  {count:>7,}  {reason}" for reason, count in done.refused.items())
    if done.quarantine:
        yield _fact("  they are in", str(done.quarantine))
    yield from (_fact("warning", text) for text in done.warnings)
    yield from _lesson(done.lesson)
    yield _fact("version", _version(done))


def _lesson(lesson: "Lesson") -> Iterator[str]:
    """What the new rows taught; nothing where they taught nothing."""
    for flag in lesson.broken:
        yield _fact("broken?", f"{flag.model} {flag.scheme} ({flag.method}): {flag.reason}")
    for conflict in lesson.conflicts:
        yield _fact("conflict", conflict.words)
    if lesson.judgement is not None:
        first, *more = lesson.judgement.words
        yield _fact("predictor", first)
        yield from (f"  {line}" for line in more)
    recommended = [change for change in lesson.changes if change.recommendation]
    if lesson.changes:
        others = len(lesson.changes) - len(recommended)
        yield _fact("panel", f"{len(recommended)} of 200 recommendations change, {others} more in their figures alone")
        yield from (f"  {change.words}" for change in recommended[:_SHOWN_CHANGES])
        if len(recommended) > _SHOWN_CHANGES:
            yield f"  and {len(recommended) - _SHOWN_CHANGES} more: `qadvisor knowledge diff`, or --json"


def _version(done: "Refreshed") -> str:
    if done.status == "published":
        return f"{done.version} is in use; before: {done.before} (`qadvisor knowledge rollback {done.before}`)"
    if done.status == "dry_run":
        return f"{done.before} stays in use: a dry run changes nothing"
    return f"{done.before} stays in use: nothing new"


def _fact(name: str, value: str) -> str:
    return f"{name:<14} {value}"
