"""A refresh from files to the version in use: take in, judge, publish, and say what happened."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from advisor.learning import Lesson, learn
from knowledge.refresh import QUARANTINE, publish, stage
from knowledge.staging import Staged, refusal_counts

Status = Literal["published", "nothing_new", "nothing_taken", "dry_run"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Refreshed:
    """What a refresh did, or would do."""

    status: Status
    """`nothing_taken`: the files hold rows, and every one was refused."""
    version: str | None
    """Id of the version in use now; None for a dry run that would publish."""
    before: str
    """Id of the version before."""
    read: dict[str, int]
    """Files read, by kind."""
    scores: int
    """Rows taken for the table of scores."""
    speeds: int
    """Rows taken for the table of speeds and sizes."""
    known: int
    """Rows that the version before has already, or that stand twice among the files."""
    left_out: dict[str, int]
    """What is right but no evidence, by reason: failed runs, counts of tokens."""
    refused: dict[str, int]
    """Rows that were refused, by reason."""
    quarantine: Path | None
    """Table of the refused rows, with their files and reasons."""
    warnings: tuple[str, ...]
    lesson: Lesson
    """Broken checkpoints, conflicts, the new predictor, and answers that change."""

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        values = {name: getattr(self, name) for name in self.__slots__ if name != "lesson"}
        judgement = self.lesson.judgement
        return values | {
            "quarantine": str(self.quarantine) if self.quarantine else None,
            "warnings": list(self.warnings),
            "broken": [asdict(flag) for flag in self.lesson.broken],
            "conflicts": [conflict.as_dict() for conflict in self.lesson.conflicts],
            "fit": None if judgement is None else judgement.figures | {"words": list(judgement.words)},
            "panel": [change.as_dict() for change in self.lesson.changes],
        }


def refresh(
    paths: Sequence[str] = (),
    *,
    baseline: Path | None = None,
    mapping: Path | None = None,
    home: Path | None = None,
    wait_s: float = 60.0,
    dry_run: bool = False,
    fit: bool = True,
    progress: Callable[[str], None] = lambda words: None,
) -> Refreshed:
    """Take files in, and put the version that follows from them into use.

    Args:
        paths: files, folders, patterns and URLs; the home folder's `runs/` where none are given.
        baseline: result of the unquantized model, for results that do not say which it was.
        mapping: table that says it file by file.
        home: home folder; the environment's where not given.
        wait_s: seconds to wait for another refresh.
        dry_run: whether the home folder is left as it is.
        fit: whether to refit the predictor, and to use the new one where it is not worse.
        progress: told what goes on.

    Raises:
        StoreError: another refresh is at work, the disk is full, or the home folder cannot be written; the version before
            stays in use.
        QAdvisorError: a path is missing, or cannot be understood.
    """

    def waiting(holder: str) -> None:
        progress(f"waiting for another refresh: {holder}")

    with stage(paths, baseline=baseline, mapping=mapping, home=home, wait_s=wait_s, dry_run=dry_run, on_wait=waiting) as staged:
        lesson = learn(staged, fit=fit, progress=progress)
        version = None if dry_run else publish(staged, predictor=lesson.predictor, backtest=lesson.backtest).id
    return _report(staged, version, lesson)


def _report(staged: Staged, version: str | None, lesson: Lesson) -> Refreshed:
    intake, before = staged.intake, staged.parent.id
    taken = len(intake.rows) + len(intake.efficiency)
    status: Status = "dry_run" if taken and staged.dry_run else "published" if version not in (None, before) else "nothing_new"
    if intake.quarantined and not taken and not intake.known:
        status = "nothing_taken"
    kept = staged.quarantine is not None and not staged.dry_run
    return Refreshed(
        status=status,
        version=before if version is None and not taken else version,
        before=before,
        read=dict(intake.read),
        scores=len(intake.rows),
        speeds=len(intake.efficiency),
        known=intake.known,
        left_out=dict(intake.left_out),
        refused=refusal_counts(item.reason for item in intake.quarantined),
        quarantine=staged.home / QUARANTINE / staged.quarantine.name if kept and staged.quarantine else None,
        warnings=staged.warnings,
        lesson=lesson,
    )
