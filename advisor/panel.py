"""Which recommendations differ between two versions of the knowledge base, and why.

Both versions answer the same requests, by default those of the panel. Candidates, costs and rules are worked out once for
both; where neither the evidence about the model nor the predictor differs, neither can the answer.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from advisor.answer import round_floats, slots
from advisor.panel_requests import panel_requests
from advisor.predictor import Predictor
from advisor.rank import LOSS_TOLERANCE
from advisor.recommendation import allowed_candidates, study_request
from advisor.report_words import percent, size
from advisor.request import AdviceRequest
from advisor.study import Study, reassess
from knowledge.catalogue import match_model
from knowledge.errors import NoAnswerError, QAdvisorError
from knowledge.queries import evidence_for
from knowledge.store import KnowledgeStore


@dataclass(frozen=True, kw_only=True)
class Version:
    """What an answer rests on, rules and catalogues aside."""

    store: KnowledgeStore
    predictor: Predictor


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What one version answers to a request."""

    status: str
    """`ok`, or the reason why there is no answer (`nothing_fits`, …)."""
    scheme: str | None = None
    method: str | None = None
    kind: str | None = None
    """`relative_loss` or `delta_nll`."""
    loss: float | None = None
    lower: float | None = None
    upper: float | None = None
    basis: str | None = None
    """`direct` where evidence for the very recipe outweighs the prediction, else `predicted`."""
    total_bytes: int | None = None

    @property
    def recipe(self) -> str | None:
        """Scheme and method, as `measure` takes them."""
        return self.scheme if self.method in (None, "rtn", "none") else f"{self.scheme}:{self.method}"

    @property
    def words(self) -> str:
        """The recipe with its loss, or the reason why there is none."""
        if self.recipe is None or self.loss is None or self.kind is None:
            return self.status.replace("_", " ")
        return f"{self.recipe}, {percent(self.loss, self.kind)} % {self.basis}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One request to which two versions give different answers."""

    request: str
    """The request in a line."""
    what: tuple[str, ...]
    """What differs: `recipe`, `status`, `basis`, `loss` (by more than the tolerance of the ranking)."""
    before: Choice
    after: Choice
    why: str

    @property
    def recommendation(self) -> bool:
        """Whether another recipe is recommended, or none any more, or one for the first time."""
        return "recipe" in self.what or "status" in self.what

    @property
    def words(self) -> str:
        """The change as a sentence."""
        return f"{self.request}: {self.before.words} → {self.after.words} ({self.why})"

    def as_dict(self) -> dict[str, Any]:
        """Plain values, floats rounded."""
        document = slots(self) | {"before": slots(self.before), "after": slots(self.after)}
        return round_floats(document)  # type: ignore[no-any-return]


def panel_changes(
    before: Version,
    after: Version,
    *,
    requests: Sequence[AdviceRequest] | None = None,
    home: Path | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> tuple[Change, ...]:
    """The requests that the two versions answer differently, in their order.

    Args:
        before: one version.
        after: the other.
        requests: what both are asked; default: the panel.
        home: folder of the user's rules.
        progress: told how far it is.
    """
    asked = panel_requests() if requests is None else requests
    return tuple(_changes(before, after, asked, home, progress))


def _changes(
    before: Version, after: Version, requests: Sequence[AdviceRequest], home: Path | None, progress: Callable[[str], None]
) -> Iterator[Change]:
    same_predictor = before.predictor is after.predictor
    touched = _touched_models(before.store, after.store)
    for number, request in enumerate(requests):
        if same_predictor and _catalogue_name(request.model) not in (*touched, None):
            continue
        if number % 20 == 0:
            progress(f"request {number + 1} of {len(requests)}")
        try:
            study = study_request(request, before.store, predictor=before.predictor, home=home)
        except QAdvisorError:  # the model or task cannot be answered at all, whatever the evidence
            continue
        new_rows = _new_rows(study, before.store, after.store)
        if same_predictor and new_rows is None:
            continue
        other = reassess(study, after.store, after.predictor, home=home)
        first, second = choice_of(study), choice_of(other)
        if what := _differences(first, second):
            why = _why(study, other, first, new_rows=new_rows, same_predictor=same_predictor)
            yield Change(request=_line(study), what=what, before=first, after=second, why=why)


_OWN = """
SELECT model, count(*), sum(learnable::INTEGER), sum(loss), min(evidence_id), max(evidence_id)
FROM evidence
WHERE own
GROUP BY model
"""


def _touched_models(before: KnowledgeStore, after: KnowledgeStore) -> set[str]:
    """Models about which the two versions have other rows."""
    rows = [{(model, *facts) for model, *facts in store.rows(_OWN)} for store in (before, after)]
    return {str(row[0]) for row in rows[0] ^ rows[1]}


def _catalogue_name(model: str) -> str | None:
    """The canonical name of a model; None for one outside the catalogue (a folder, a file)."""
    found = match_model(model)
    return found.name if found else None


def choice_of(study: Study) -> Choice:
    """What a study recommends."""
    index = best_of(study)
    if isinstance(index, str):
        return Choice(status=index)
    return Choice(
        status="ok",
        scheme=study.candidates[index].scheme_name,
        method=study.candidates[index].method.name,
        kind=study.losses[0].kind,
        loss=float(study.loss[index]),
        lower=float(study.lower[index]),
        upper=float(study.upper[index]),
        basis="direct" if study.evidence_weight[index] > 0.5 else "predicted",
        total_bytes=int(study.costs.total[index]),
    )


def best_of(study: Study) -> int | str:
    """The recommended candidate, or the status of the answer that there is none."""
    try:
        return int(study.order(allowed_candidates(study))[0])
    except NoAnswerError as error:
        return error.status


def _differences(before: Choice, after: Choice) -> tuple[str, ...]:
    what = [name for name in ("status", "recipe", "basis") if getattr(before, name) != getattr(after, name)]
    if before.loss is not None and after.loss is not None and abs(before.loss - after.loss) > LOSS_TOLERANCE:
        what.append("loss")
    return tuple(what)


def _new_rows(study: Study, before: KnowledgeStore, after: KnowledgeStore) -> int | None:
    """How many rows about the model on the tasks the second has more than the first; None where they are the same rows."""
    tasks = [item.task.name for item in study.tasks]
    found = [evidence_for(store, study.spec.name, tasks) for store in (before, after)]
    counts = [len(rows["evidence_id"]) for rows in found]
    same = counts[0] == counts[1] and all(
        np.array_equal(found[0][name], found[1][name], equal_nan=found[0][name].dtype.kind == "f")
        for name in ("evidence_id", "loss", "learnable")
    )
    return None if same else counts[1] - counts[0]


def _why(study: Study, other: Study, before: Choice, *, new_rows: int | None, same_predictor: bool) -> str:
    """What made the difference, and how the recipe that was recommended stands now."""
    causes = []
    if new_rows is not None:
        word = "more" if new_rows > 0 else "fewer"
        causes.append(
            f"{abs(new_rows)} scores {word} of this model on these tasks" if new_rows else "other scores of this model"
        )
    if not same_predictor:
        causes.append("another predictor")
    index = best_of(study)
    if before.recipe is None or isinstance(index, str):
        return " and ".join(causes)
    kind = study.losses[0].kind
    now = f"{before.recipe} is now put at {percent(float(other.loss[index]), kind)} %"
    return f"{' and '.join(causes)}; {now}" if best_of(other) != index else " and ".join(causes)


def _line(study: Study) -> str:
    request = study.request
    words = [study.spec.name, request.task, size(study.setting.budget_bytes), request.objective]
    words += [request.engine] if request.engine else []
    words += [f"at most {request.max_loss:g} %"] if request.max_loss is not None else []
    return " · ".join(words)
