"""Versions of the user's knowledge: what each consists of, how they follow each other, and which one is in use.

A version is a manifest, `versions/<id>.json`: the batches of measured rows that count, in order, and the predictor that
was fitted to them. It is written once and never changed; its id is a hash over its content, so a damaged one is noticed.
`versions/log.jsonl` notes every move from one version to another, so that the version in use is known even where the
pointer was lost. The version `packaged` stands for no measured rows at all: every home folder starts there.

    runs/batches/<id>.parquet     rows of one refresh, named by the hash of the file
    predictors/<id>.safetensors   a predictor that a refresh has fitted
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from knowledge.errors import StoreError, UnknownNameError
from knowledge.files import write_whole
from knowledge.pointer import PACKAGED

if TYPE_CHECKING:
    from pydantic import TypeAdapter

MANIFEST_SCHEMA = 1
CURRENT = "current"
"""What users call the version in use."""
FIRST_OWN_ID = 100_000_000
"""`evidence_id` of the first measured row: far above those of packaged rows, which may grow with a release."""

FOLDER = "versions"
LOG = "log.jsonl"
BATCHES = Path("runs", "batches")
_SHORTEST_PREFIX = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """The measured rows that one refresh has taken."""

    __pydantic_config__: ClassVar[Any] = {"extra": "forbid", "strict": True}

    id: str
    """First sixteen hexadecimal digits of the SHA-256 of its file."""
    rows: int
    first_id: int = 0
    """`evidence_id` of its first row; the others follow in the order of the file. 0 for speeds, which have no number."""
    table: Literal["evidence", "efficiency"] = "evidence"
    """Where its rows belong: scores, or speeds and sizes."""

    def path(self, home: Path) -> Path:
        """Its file under the home folder."""
        return home / BATCHES / f"{self.id}.parquet"


@dataclass(frozen=True, slots=True, kw_only=True)
class Flag:
    """Measured rows that are kept but not learned from: those of a checkpoint that is probably broken.

    A row is flagged if it agrees in every field but the reason; None agrees with an unknown value.
    """

    __pydantic_config__: ClassVar[Any] = {"extra": "forbid", "strict": True}

    model: str
    scheme: str
    method: str
    source: str
    checkpoint: str | None
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a version consists of."""

    __pydantic_config__: ClassVar[Any] = {"extra": "forbid", "strict": True}

    id: str = ""
    schema: int = MANIFEST_SCHEMA
    created: str = ""
    """Time in UTC, ISO 8601; empty for the packaged version."""
    parents: tuple[str, ...] = ()
    batches: tuple[Batch, ...] = ()
    broken: tuple[Flag, ...] = ()
    predictor: str | None = None
    """Id of the fitted predictor; None for the packaged one."""
    backtest: dict[str, Any] | None = None
    """Figures of the comparison by which the predictor was chosen."""
    taken: int = 0
    """Rows that this version has and its parent has not."""
    known: int = 0
    """Rows of its input that were known already."""
    refused: dict[str, int] = field(default_factory=dict)
    """Rows of its input that were refused, by reason."""
    quarantine: str | None = None
    """Id of the table with the refused rows."""

    @property
    def rows(self) -> int:
        """Measured rows of the version, scores and speeds."""
        return sum(batch.rows for batch in self.batches)

    def sealed(self) -> "Manifest":
        """The manifest under the id that its content gives."""
        return replace(self, id=_digest(self))

    def to_json(self) -> str:
        """The manifest as JSON text."""
        return json.dumps(asdict(self), indent=1, sort_keys=True) + "\n"


ROOT = Manifest(id=PACKAGED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """One line of the log: the version in use changed."""

    time: str
    action: Literal["refresh", "rollback"]
    version: str
    before: str


def load_manifest(home: Path, version: str) -> Manifest:
    """The manifest of a version.

    Raises:
        StoreError: it is missing, or damaged.
    """
    if version == PACKAGED:
        return ROOT
    path = home / FOLDER / f"{version}.json"
    try:
        found: Manifest = _adapter().validate_json(path.read_bytes())
    except (OSError, ValueError) as error:
        raise _lost(path, error) from error
    if found.id != version or _digest(found) != version:
        raise _lost(path, "its content does not match its name")
    return found


def save_manifest(home: Path, manifest: Manifest) -> None:
    """Write a sealed manifest; one that is there already is left alone.

    Raises:
        OSError: the folder cannot be written.
    """
    path = home / FOLDER / f"{manifest.id}.json"
    if not path.exists():
        write_whole(path, manifest.to_json())


def all_manifests(home: Path) -> list[Manifest]:
    """Every version that can be read, the oldest first, beginning with the packaged one."""
    found = [ROOT]
    for path in (home / FOLDER).glob("*.json"):
        with suppress(StoreError):
            found.append(load_manifest(home, path.stem))
    return sorted(found, key=lambda manifest: (manifest.created, manifest.id))


def damaged_manifests(home: Path) -> list[str]:
    """Names of files that should be manifests and cannot be read as such."""
    good = {manifest.id for manifest in all_manifests(home)}
    return sorted(path.name for path in (home / FOLDER).glob("*.json") if path.stem not in good)


def find_version(home: Path, name: str, *, current: str) -> Manifest:
    """The version that a user means: an id, the beginning of one, `current` or `packaged`.

    Args:
        home: home folder.
        name: what the user typed.
        current: id of the version in use.

    Raises:
        UnknownNameError: there is none, or more than one begins like that.
        StoreError: its manifest is damaged.
    """
    if name == CURRENT:
        return load_manifest(home, current)
    known = [manifest.id for manifest in all_manifests(home)]
    matches = [one for one in known if one == name or (len(name) >= _SHORTEST_PREFIX and one.startswith(name))]
    if len(matches) != 1:
        raise UnknownNameError.of("version", name, [CURRENT, *known], hint="`qadvisor knowledge log` lists the versions")
    return load_manifest(home, matches[0])


def note_move(home: Path, action: Literal["refresh", "rollback"], *, version: str, before: str) -> None:
    """Write a line into the log.

    Raises:
        OSError: the folder cannot be written.
    """
    path = home / FOLDER / LOG
    path.parent.mkdir(parents=True, exist_ok=True)
    move = Move(time=now(), action=action, version=version, before=before)
    with path.open("a", encoding="utf-8") as file:
        # A line break first ends what a killed writer may have left of a line; readers skip empty lines.
        file.write("\n" + json.dumps(asdict(move), sort_keys=True) + "\n")
        file.flush()
        os.fsync(file.fileno())


def read_log(home: Path) -> list[Move]:
    """The moves so far, the oldest first; lines that cannot be read are left out."""
    return list(_moves(home))


def last_version(home: Path) -> Manifest:
    """The version in use as the log has it, where the pointer cannot be read: the last one whose manifest is whole."""
    candidates = [move.version for move in reversed(read_log(home))]
    candidates += [manifest.id for manifest in reversed(all_manifests(home))]
    for version in candidates:
        with suppress(StoreError):
            return load_manifest(home, version)
    return ROOT


def first_ids(home: Path) -> tuple[dict[str, int], int]:
    """The first `evidence_id` of every batch of scores, which it keeps for good, and the first that no batch has."""
    batches = {batch.id: batch for manifest in all_manifests(home) for batch in manifest.batches if batch.table == "evidence"}
    ends = (batch.first_id + batch.rows for batch in batches.values())
    return {name: batch.first_id for name, batch in batches.items()}, max(ends, default=FIRST_OWN_ID)


def data_version(packaged: str, batches: Sequence[Batch], broken: Sequence[Flag], schema: int) -> str:
    """Sixteen hexadecimal digits over everything that the tables of a snapshot are built from.

    Args:
        packaged: digest of the packaged files.
        batches: the measured rows.
        broken: which of them are not learned from.
        schema: of the tables.
    """
    facts = {"schema": schema, "packaged": packaged, "batches": [[one.id, one.first_id] for one in batches]}
    text = json.dumps(facts | ({"broken": [asdict(one) for one in broken]} if broken else {}), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def now() -> str:
    """The time in UTC, fine enough to tell one version from the next."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


def _moves(home: Path) -> Iterator[Move]:
    try:
        lines = (home / FOLDER / LOG).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return
    for line in lines:
        with suppress(ValueError, TypeError):
            yield Move(**json.loads(line))


def _digest(manifest: Manifest) -> str:
    content: Mapping[str, Any] = asdict(replace(manifest, id=""))
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


@lru_cache(maxsize=1)
def _adapter() -> "TypeAdapter[Manifest]":
    from pydantic import TypeAdapter

    return TypeAdapter(Manifest)


def _lost(path: Path, reason: object) -> StoreError:
    return StoreError(
        f"the manifest {path} cannot be read: {reason}",
        given=str(path),
        hint="`qadvisor knowledge verify` says what is whole; `qadvisor knowledge rollback ID` chooses another version",
    )
