"""A version that is being built: rows taken in, tables built aside, nothing of it visible yet."""

import re
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp

from knowledge import snapshot as snapshots
from knowledge.batches import Table, count_rows, write_quarantine
from knowledge.database import DatabaseError, read_only, working
from knowledge.errors import StoreError
from knowledge.files import sha256_of
from knowledge.intake import Intake
from knowledge.pointer import SNAPSHOTS, Opened, holds, read_pointer
from knowledge.restore import Content, content_of
from knowledge.store import KnowledgeStore, open_store, opened_store
from knowledge.versions import Batch, Flag, Manifest, first_ids

_WORK = "refresh-"
"""Start of the names of folders in which versions are built; whoever holds the lock may remove them."""
_MOST_REASONS = 50


@dataclass(kw_only=True)
class Staged:
    """A version that is built and not yet published."""

    home: Path
    parent: Manifest
    intake: Intake
    content: Content
    """What the version consists of; its manifest has no id yet."""
    folder: Path
    """Where it is built; vanishes with the `with` statement of `stage`."""
    files: Mapping[str, Path]
    """Files of the new batches, by id."""
    quarantine: Path | None
    snapshot: Path | None
    """The tables; None where nothing is new, and those of the parent hold."""
    dry_run: bool

    @property
    def new(self) -> bool:
        """Whether the version has rows that its parent has not."""
        return bool(self.files)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a user should hear about the parent."""
        return self.content.warnings

    def open(self) -> KnowledgeStore:
        """The staged version, open for questions."""
        if self.snapshot is None:
            return open_store(self.home, version=self.parent.id)
        manifest = self.content.manifest
        found = Opened(read_only(self.snapshot), manifest.id, manifest.predictor, self.content.data, self.snapshot)
        return opened_store(self.home, found)

    def flag(self, broken: Sequence[Flag]) -> None:
        """Let the rows of these checkpoints, and of no others, count as measured on a broken checkpoint.

        Raises:
            StoreError: the tables cannot be written.
        """
        before = self.content
        self.content = replace(before, manifest=replace(before.manifest, broken=tuple(broken)))
        if set(broken) == set(before.manifest.broken):
            return
        with clear_errors(self.home, self.parent):
            self.snapshot = build_aside(self.home, self.folder, self.content, before, self.snapshot, self.file_of)

    def file_of(self, batch: Batch) -> Path:
        """Where the file of a batch lies as long as the version is staged."""
        return self.files.get(batch.id) or batch.path(self.home)


def make_staged(
    home: Path, parent: Manifest, intake: Intake, folder: Path, files: Sequence[tuple[Table, Path]], *, dry_run: bool
) -> Staged:
    """The version that `files` make of `parent`, its tables built in `folder`.

    Raises:
        OSError: `folder` cannot be written, or the disk is full.
        DatabaseError: likewise.
    """
    before = content_of(home, parent)
    batches = list(parent.batches)
    given, first_id = first_ids(home)
    for table, file in files:
        batch = Batch(id=file.stem, rows=count_rows(file), table=table)
        if table == "evidence":
            batch = replace(batch, first_id=given.get(batch.id, first_id))
            first_id = max(first_id, batch.first_id + batch.rows)
        batches.append(batch)
    refused = ((item.file, item.row, item.reason, item.content) for item in intake.quarantined)
    quarantine = write_quarantine(folder, refused) if intake.quarantined else None
    manifest = Manifest(
        parents=(parent.id,), batches=tuple(batches), broken=parent.broken, predictor=parent.predictor,
        taken=sum(batch.rows for batch in batches[len(parent.batches) :]), known=intake.known,
        refused=refusal_counts(item.reason for item in intake.quarantined), quarantine=quarantine.stem if quarantine else None,
    )  # fmt: skip
    content = replace(before, manifest=manifest, batches=(*before.batches, *batches[len(parent.batches) :]))
    staged = Staged(
        home=home, parent=parent, intake=intake, content=content, folder=folder, files={file.stem: file for _, file in files},
        quarantine=quarantine, snapshot=None, dry_run=dry_run,
    )  # fmt: skip
    if files:
        staged.snapshot = build_aside(home, folder, content, before, None, staged.file_of)
    return staged


def build_aside(
    home: Path, folder: Path, content: Content, before: Content, start: Path | None, file: snapshots.FileOf
) -> Path:
    """Build the tables of `content`, on a copy of those of `before` where that gives the same.

    Args:
        home: home folder.
        folder: where to build.
        content: what to build.
        before: what a snapshot exists of.
        start: that snapshot, if it lies in `folder` and may be changed; else it is the one in use, if any.
        file: where the file of a batch lies.
    """
    building = folder / "store.duckdb"
    old, new = before.manifest.broken, content.manifest.broken
    grows = snapshots.can_extend(before.batches, content.batches, old_flags=old, new_flags=new)
    if grows and start is None:
        grows = _copy_current(home, before, building)
    if not grows:
        building.unlink(missing_ok=True)
    with working(building, spill=folder / "spill") as connection:
        if grows:
            added = [batch for batch in content.batches if batch not in before.batches]
            snapshots.extend_tables(connection, file, added, [flag for flag in new if flag not in old], content.data)
        else:
            snapshots.create_tables(connection, file, content.batches, new, content.data)
        connection.execute("CHECKPOINT")
    return building


def _copy_current(home: Path, before: Content, target: Path) -> bool:
    """Copy the snapshot in use, if it is that of `before`; says whether."""
    pointer = read_pointer(home)
    try:
        if pointer is None or pointer.data != before.data or not holds(home, pointer):
            return False
        shutil.copyfile(home / SNAPSHOTS / pointer.file, target)
    except FileNotFoundError:
        return False
    return sha256_of(target) == pointer.sha256  # what a disk has damaged must not live on in the copy


@contextmanager
def work_folder(home: Path, parent: Manifest, *, dry_run: bool) -> Iterator[Path]:
    """A folder that vanishes: beside the snapshots, so that a finished file needs a rename alone; elsewhere for a dry run."""
    if dry_run:
        with TemporaryDirectory(prefix="qadvisor-") as elsewhere:
            yield Path(elsewhere)
        return
    place = home / SNAPSHOTS
    with clear_errors(home, parent):
        place.mkdir(parents=True, exist_ok=True)
        for dead in place.glob(f"{_WORK}*"):  # this process holds the lock, so whoever made them is dead
            shutil.rmtree(dead, ignore_errors=True)
        folder = Path(mkdtemp(prefix=_WORK, dir=place))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def clear_errors(home: Path, parent: Manifest) -> Iterator[None]:
    """Errors of disk and database in words: what failed, and that nothing was lost."""
    try:
        yield
    except StoreError:
        raise
    except (OSError, DatabaseError) as error:
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise StoreError(
            f"the refresh of {home} did not succeed: {reason}",
            given=str(getattr(error, "filename", None) or home),
            hint=f"version {parent.id} stays in use and is whole; free space or mend the permissions, then refresh again",
        ) from error


def refusal_counts(reasons: Iterable[str]) -> dict[str, int]:
    """How often each kind of reason was given: names and numbers in it are left out, and rare kinds put together."""
    kinds = (re.sub(r"'[^']*'|\"[^\"]*\"|\d[\d.,]*", "…", reason) for reason in reasons)
    counts = Counter(re.sub(r"…(?: …)+", "…", kind) for kind in kinds)
    common = dict(counts.most_common(_MOST_REASONS))
    others = sum(counts.values()) - sum(common.values())
    return common | ({"others": others} if others else {})
