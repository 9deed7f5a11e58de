"""A backend of a few lines and a plan for it: sweeps without torch, without a model, in no time."""

import hashlib
import json
import os
import signal
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from knowledge.errors import InvalidModelError
from knowledge.measurements import Environment, Measurement, ModelFacts, QuantizationFacts
from measure.models import ModelSource
from measure.plan import Settings, make_plan
from measure.presets import expand_recipes
from measure.tasks import TaskOptions, TaskPlan, TaskResult, plan_tasks

QUALITY = {"none": [1, 1, 1, 0], "w4a16-g128-asym": [1, 1, 0, 0], "w3a16-g128-asym": [0, 1, 0, 1], "w16a16-kv4": [1, 1, 1, 0]}


@dataclass
class FakeBackend:
    """Scores come from a table; `fail` names (stage, recipe or task) that raise."""

    fail: dict[tuple[str, str], BaseException] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    recipe: str = "none"

    def _call(self, stage, name):
        self.calls.append(f"{stage} {name}")
        if (stage, name) in self.fail:
            raise self.fail[stage, name]

    def open(self):
        self._call("open", "model")
        return ModelFacts(family="llama", architecture="LlamaForCausalLM", parameters=10, fingerprint="f")

    def environment(self):
        return Environment(tool_version="0", python="3", platform="p", device="cpu")

    def prepare(self, task):
        self._call("prepare", task.name)

    @contextmanager
    def quantized(self, recipe, protocol):
        self._call("quantize", recipe.name)
        self.recipe = recipe.name
        try:
            yield QuantizationFacts(
                scheme=recipe.scheme.name, method=recipe.method.name, protocol=protocol.name, library="own", simulated=True
            )
        finally:
            self.recipe = "none"
            self.calls.append("restore")

    def score(self, task):
        self._call("score", f"{self.recipe} {task.name}")
        values = QUALITY[self.recipe]
        metric = Measurement(
            metric="acc", value=sum(values) / 4, n=4, unit="share of items", higher_is_better=True, per_sample="acc"
        )
        return TaskResult(measurements=[metric], samples={"id": [0, 1, 2, 3], "acc": list(values)}, correct="acc", shots=0)


def plan_for(folder, *recipes, tasks=("retrieval",), **options):
    source = ModelSource(
        name="tiny",
        path=Path(folder),
        config={"model_type": "llama"},
        fingerprint="f",
        weight_files=(write_weights(folder),),
        weight_bytes=64,
    )
    found = expand_recipes(recipes or ("w4a16", "w3a16"))
    return make_plan(
        source, found, plan_tasks(tasks, TaskOptions()), settings=Settings(), output=Path(folder) / "runs", **options
    )


def write_weights(folder):
    path = Path(folder) / "model.safetensors"
    header = json.dumps({"w": {"dtype": "F32", "shape": [16], "data_offsets": [0, 64]}}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(64))
    return path


def write_model(folder: Path, content: bytes = bytes(64)) -> Path:
    """A model folder that can be planned for, though not loaded: 16 weights."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", "architectures": ["LlamaForCausalLM"]}))
    header = json.dumps({"w": {"dtype": "F32", "shape": [16], "data_offsets": [0, 64]}}).encode()
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + content)
    return folder


class ClusterBackend(FakeBackend):
    """A fake for workers in other processes, steered by files in the folder that `QADVISOR_FAKE_SWEEP` names.

    `calls` gets a line a call, `slow` makes scoring last, a recipe named in `deadly` kills its worker, one in `raises`
    fails, and while there is a file `broken`, no model can be loaded.
    """

    def __init__(self, source: ModelSource, settings: Settings) -> None:
        super().__init__()
        self.folder = Path(os.environ["QADVISOR_FAKE_SWEEP"])

    def _call(self, stage: str, name: str) -> None:
        with (self.folder / "calls").open("a") as file:
            file.write(f"{os.getpid()} {stage} {name}\n")
        if stage == "open" and (self.folder / "broken").exists():
            raise InvalidModelError("the model cannot be loaded", given="x", hint="look")

    def score(self, task: TaskPlan) -> TaskResult:
        self._call("score", f"{self.recipe} {task.name}")
        time.sleep(float(self._text("slow") or 0))
        if self.recipe in self._text("deadly").split():
            os.kill(os.getpid(), signal.SIGKILL)
        if self.recipe in self._text("raises").split():
            raise RuntimeError("as asked")
        digest = hashlib.sha256(f"{self.recipe} {task.name}".encode()).digest()
        values = [byte % 2 for byte in digest]
        metric = Measurement(
            metric="acc", value=sum(values) / 32, n=32, unit="share of items", higher_is_better=True, per_sample="acc"
        )
        samples: dict[str, list[float | int | str | None]] = {"id": list(range(32)), "acc": list(values)}
        return TaskResult(measurements=[metric], samples=samples, correct="acc", shots=0)

    def _text(self, name: str) -> str:
        file = self.folder / name
        return file.read_text() if file.exists() else ""
