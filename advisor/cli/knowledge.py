"""`qadvisor knowledge`: the versions of the knowledge base, how they differ, the way back, and a check of all files."""

import sys
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from advisor.cli import options, output
from advisor.cli.groups import ListingGroup, new_app

if TYPE_CHECKING:
    from advisor.panel import Change
    from knowledge.batches import RowCount
    from knowledge.history import Difference
    from knowledge.versions import Manifest

app = new_app(cls=ListingGroup)

Before = Annotated[str, typer.Argument(metavar="A", help="A version: an id, the beginning of one, `current` or `packaged`.")]
After = Annotated[str, typer.Argument(metavar="[B]", help="The version to compare it with; the one in use if not given.")]
Version = Annotated[str, typer.Argument(metavar="ID", help="A version: an id, the beginning of one, or `packaged`.")]
RowsOnly = Annotated[bool, typer.Option("--rows-only", help="Do not ask the panel of requests.")]
Wait = Annotated[float, typer.Option("--wait", metavar="SECONDS", help="How long to wait for a refresh that is at work.")]


@app.command("list", hidden=True)
@app.command()
def log(json: options.Json = False) -> None:
    """List the versions, the newest first; the one in use is marked."""
    from knowledge.history import history
    from knowledge.home import home

    found = history(home())
    if json:
        versions = [_fields(manifest) for manifest in found.versions]
        moves = [asdict(move) for move in found.moves]
        output.write_json(output.versioned(current=found.current, versions=versions, moves=moves))
        return
    rows = (
        (f"{'*' if one.id == found.current else ' '} {one.id}", one.created or "", one.rows, one.taken, _predictor(one))
        for one in found.versions
    )
    table = output.make_table(("version", "time (UTC)", "own rows", "taken", "predictor"), rows, right=("own rows", "taken"))
    output.write_rich(table, output.count_line(len(found.versions), "version", "; * is in use"))


@app.command()
def diff(before: Before, after: After = "current", rows_only: RowsOnly = False, json: options.Json = False) -> None:
    """Show which rows version B has and A has not, and which recommendations of a fixed panel of requests change."""
    from knowledge.history import difference
    from knowledge.home import home

    found = difference(home(), before, after)
    changes = () if rows_only else _panel(found)
    if json:
        document = {"added": [asdict(row) for row in found.added], "removed": [asdict(row) for row in found.removed]}
        panel = None if rows_only else [change.as_dict() for change in changes]
        output.write_json(output.versioned(before=found.before.id, after=found.after.id, **document, panel=panel))
        return
    signed = (*((row, "+") for row in found.added), *((row, "-") for row in found.removed))
    rows = ((f"{sign}{row.rows:,}", row.source, row.model, row.task) for row, sign in signed)
    table = output.make_table(("rows", "source", "model", "task"), rows)
    output.write_rich(table, output.count_line(_total(found.added), "row", f" added, {_total(found.removed):,} removed"))
    if not rows_only:
        output.write_text("\n".join(_panel_lines(changes)) + "\n")


@app.command()
def rollback(version: Version, wait: Wait = 60.0, json: options.Json = False) -> None:
    """Put an earlier version into use. Nothing is removed: the way back is the same command.

    What the version does not have is new to the next refresh: move aside the files that should not come back.
    """
    from knowledge.history import history
    from knowledge.home import home
    from knowledge.refresh import rollback as roll_back

    before = history(home()).current
    manifest = roll_back(version, wait_s=wait)
    if json:
        output.write_json(output.versioned(before=before, **_fields(manifest)))
        return
    same = "is in use already" if manifest.id == before else f"is in use; before: {before}"
    output.write_text(f"version {manifest.id} {same}\n")


@app.command()
def verify(json: options.Json = False) -> None:
    """Read and hash every file of every version. Exit code 1 where one is damaged or missing."""
    from knowledge.history import verify as verify_files
    from knowledge.home import home

    found = verify_files(home())
    bad = sum(one.state in ("damaged", "missing") for one in found)
    if json:
        output.write_json(output.versioned(whole=not bad, files=[asdict(one) for one in found]))
    else:
        rows = ((one.file, one.state, one.detail) for one in found)
        output.write_rich(output.make_table(("file", "state", "detail"), rows, whole=("state",)))
        output.write_text(f"\n{bad} of {len(found)} files are damaged or missing\n" if bad else "\nevery file is whole\n")
    if bad:
        sys.stdout.flush()
        raise typer.Exit(1)


def _fields(manifest: "Manifest") -> dict[str, Any]:
    return asdict(manifest) | {"rows": manifest.rows}


def _predictor(manifest: "Manifest") -> str:
    return manifest.predictor or "packaged"


def _total(rows: "Iterable[RowCount]") -> int:
    return sum(row.rows for row in rows)


def _panel(found: "Difference") -> "tuple[Change, ...]":
    """What the panel of requests is answered by one version and not by the other."""
    from advisor.panel import Version as Answering
    from advisor.panel import panel_changes
    from advisor.predictor import load_predictor
    from knowledge.store import open_store

    with ExitStack() as stack:
        stores = [stack.enter_context(open_store(version=manifest.id)) for manifest in (found.before, found.after)]
        old, new = (Answering(store=store, predictor=load_predictor(store.predictor)) for store in stores)
        return panel_changes(old, new, progress=output.warn)


def _panel_lines(changes: "tuple[Change, ...]") -> list[str]:
    recommended = [change for change in changes if change.recommendation]
    others = len(changes) - len(recommended)
    lines = [f"\n{len(recommended)} recommendations of the panel change, {others} more in their figures alone"]
    return lines + [f"  {change.words}" for change in recommended]
