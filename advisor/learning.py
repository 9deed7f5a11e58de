"""What new rows teach: broken checkpoints, conflicts, a predictor that is better or not, and answers that change."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from advisor.broken import find_broken
from advisor.conflicts import Conflict, find_conflicts
from advisor.panel import Change, Version, panel_changes
from advisor.predictor import load_predictor
from knowledge.staging import Staged
from knowledge.store import KnowledgeStore, open_store
from knowledge.versions import Flag

if TYPE_CHECKING:
    from advisor.promotion import Judgement

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lesson:
    """What a staged version teaches."""

    broken: tuple[Flag, ...] = ()
    """Checkpoints that are probably broken; their rows are kept and not learned from."""
    conflicts: tuple[Conflict, ...] = ()
    judgement: "Judgement | None" = None
    """Whether a refitted predictor was promoted; None where none was fitted."""
    changes: tuple[Change, ...] = ()
    """Requests of the panel that are answered differently."""

    @property
    def predictor(self) -> Path | None:
        """File of the predictor to publish; None keeps the one in use."""
        return self.judgement.predictor if self.judgement else None

    @property
    def backtest(self) -> dict[str, Any] | None:
        """Figures of the comparison, for the version's manifest."""
        return self.judgement.figures if self.judgement else None


def learn(staged: Staged, *, fit: bool = True, progress: Progress = lambda _: None) -> Lesson:
    """Look at the rows of a staged version; flags of broken checkpoints are set in it.

    Args:
        staged: the version, not yet published.
        fit: whether to refit the predictor and to compare it with the one in use.
        progress: told what happens next.

    Raises:
        StoreError: the disk is full, or a file of the version in use is damaged.
        DataError: the predictor in use is damaged.
    """
    unjudged = staged.parent.backtest is None and staged.parent.rows > 0
    if not staged.new and not (fit and unjudged):
        return Lesson(broken=staged.parent.broken)
    with staged.open() as store:
        broken = find_broken(store, load_predictor(store.predictor))
    staged.flag(broken)
    with staged.open() as store:
        return _lesson(staged, store, broken, fit=fit, progress=progress)


def _lesson(staged: Staged, store: KnowledgeStore, broken: tuple[Flag, ...], *, fit: bool, progress: Progress) -> Lesson:
    judgement = _judge(staged, store, progress) if fit and not staged.dry_run else None
    current = load_predictor(store.predictor)
    new = load_predictor(judgement.predictor) if judgement and judgement.predictor else current
    progress("the panel of requests")
    with open_store(staged.home, version=staged.parent.id) as parent:
        before, after = Version(store=parent, predictor=current), Version(store=store, predictor=new)
        changes = panel_changes(before, after, home=staged.home)
    return Lesson(broken=broken, conflicts=find_conflicts(store), judgement=judgement, changes=changes)


def _judge(staged: Staged, store: KnowledgeStore, progress: Progress) -> "Judgement":
    from advisor.promotion import judge, learned_ranges  # fits are what takes time to import

    return judge(store, learned=learned_ranges(staged.home, staged.parent.id), folder=staged.folder, progress=progress)
