"""What a sweep asks for (models x recipes x tasks), as a value."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from knowledge.recipes import parse_recipe
from measure.judge import Judge
from measure.models import locate_model
from measure.outputs import Folder, Place
from measure.plan import CalibrationRequest, Plan, Settings, make_plan
from measure.presets import expand_recipes, find_protocol
from measure.tasks import SUITES, TaskOptions, find_missing_data, find_unjudged, plan_tasks

if TYPE_CHECKING:
    from pydantic import ConfigDict


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """What is said when a sweep is run, not when it is planned."""

    retry_failed: bool = False
    """Run cells again that failed before."""
    check_data: bool = False
    """Leave out tasks whose data are not here."""
    online: bool = False
    """Whether models and data may be fetched."""
    trust_remote_code: bool = False
    """Whether code beside the weights may run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipeRequest:
    """A fully stated recipe and the protocol it is run with."""

    __pydantic_config__: ClassVar["ConfigDict"] = {"extra": "forbid"}

    recipe: str
    protocol: str = "default"


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepRequest:
    """Every choice that decides which cells there are and what comes out; None = the default of the task or method."""

    __pydantic_config__: ClassVar["ConfigDict"] = {"extra": "forbid"}

    models: tuple[str, ...]
    """Model folders or hub ids."""
    recipes: tuple[RecipeRequest, ...]
    tasks: tuple[str, ...]
    limit: int | None = None
    context: int | None = None
    shots: int | None = None
    text: Path | None = None
    task_dir: Path | None = None
    calibration_text: Path | None = None
    calibration_samples: int = 128
    calibration_tokens: int = 512
    device: str = "cpu"
    dtype: str = "float32"
    seed: int = 0
    batch_size: int = 8
    judge_url: str | None = None
    judge_model: str | None = None

    def judge(self) -> Judge | None:
        """The model that grades open answers, if one is named.

        Raises:
            InvalidRequestError: an address without a name, a name without an address, or no address.
        """
        if self.judge_url is None and self.judge_model is None:
            return None
        return Judge(url=self.judge_url or "", model=self.judge_model or "")

    def settings(self, *, trust_remote_code: bool = False) -> Settings:
        """What all cells share.

        Raises:
            InvalidRequestError: an unknown device or dtype, an empty batch.
        """
        calibration = CalibrationRequest(
            text=self.calibration_text, samples=self.calibration_samples, tokens_per_sample=self.calibration_tokens
        )
        return Settings(
            device=self.device,
            dtype=self.dtype,
            seed=self.seed,
            batch_size=self.batch_size,
            trust_remote_code=trust_remote_code,
            calibration=calibration,
        )

    def plans(self, output: Place | Folder, run: RunOptions | None = None) -> list[Plan]:
        """The cells of each model, with what of them is done in `output`.

        Args:
            output: place of the records, or the records themselves where they have been read.
            run: what to do again and what is allowed.

        Raises:
            QAdvisorError: a model, recipe, task or setting that cannot be used.
        """
        run = run or RunOptions()
        settings = self.settings(trust_remote_code=run.trust_remote_code)
        options = TaskOptions(
            limit=self.limit,
            context=self.context,
            shots=self.shots,
            text=self.text,
            task_dir=self.task_dir,
            batch=self.batch_size,
            judge=self.judge(),
            online=run.online,
        )
        tasks = plan_tasks(self.tasks, options)
        missing = find_unjudged(tasks) | (find_missing_data(tasks) if run.check_data else {})
        recipes = [(parse_recipe(request.recipe), find_protocol(request.protocol)) for request in self.recipes]
        sources = [locate_model(model, online=run.online) for model in self.models]
        return [
            make_plan(
                source, recipes, tasks, settings=settings, output=output, retry_failed=run.retry_failed, missing_data=missing
            )
            for source in sources
        ]

    def portable(self) -> "SweepRequest":
        """The same request with absolute paths, so that it means the same from any working folder."""
        return replace(
            self,
            models=tuple(_absolute(model) for model in self.models),
            text=_resolved(self.text),
            task_dir=_resolved(self.task_dir),
            calibration_text=_resolved(self.calibration_text),
        )


def state_recipes(texts: Sequence[str], *, protocol: str = "default") -> tuple[RecipeRequest, ...]:
    """The recipes that `texts` mean, in full (see `measure.presets.expand_recipes`), the baseline first."""
    found = expand_recipes(texts, protocol=protocol)
    return tuple(RecipeRequest(recipe=recipe.name, protocol=chosen.name) for recipe, chosen in found)


def state_tasks(texts: Sequence[str]) -> tuple[str, ...]:
    """The tasks that `texts` (tasks and suites) mean, each once."""
    return tuple(dict.fromkeys(task for text in texts for task in SUITES.get(text, (text,))))


def _absolute(model: str) -> str:
    path = Path(model).expanduser()
    return str(path.resolve()) if path.is_dir() else model


def _resolved(path: Path | None) -> Path | None:
    return None if path is None else path.expanduser().resolve()
