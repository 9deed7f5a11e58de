"""Spread of weights, activations and caches: by hand, against torch, and streamed from files of every family."""

import json
import math
import subprocess
import sys

import pytest

torch = pytest.importorskip("torch")

import tiny_models  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402
from typer.testing import CliRunner  # noqa: E402

from knowledge.errors import InvalidModelError, InvalidRequestError  # noqa: E402
from knowledge.probes import probe_from_json  # noqa: E402
from measure import weightstats  # noqa: E402
from measure.calibration import calibration_ids  # noqa: E402
from measure.cli import app  # noqa: E402
from measure.models import locate_model  # noqa: E402
from measure.quantizers.fake import fake_integer, fake_nvfp4  # noqa: E402
from measure.quantizers.targets import weight_targets  # noqa: E402
from measure.spread import Sums, total_stats  # noqa: E402
from measure.tensorstats import measure_flows  # noqa: E402
from measure.weightfiles import stored_matrices  # noqa: E402
from measure.weightstats import measure_weights  # noqa: E402

pytestmark = pytest.mark.measure


def filled(name, *parts, roundings=None, kind="weight"):
    sums = Sums(name, kind)
    for part in parts:
        sums.add(part)
    for part in parts:
        sums.look(part, roundings or {})
    return sums


def test_moments_by_hand():
    parts = torch.tensor([[1.0, -1.0, 1.0, -1.0]]), torch.tensor([[3.0, -3.0, 1.0, -1.0]])
    stats = filled("layers.3.q_proj.weight", *parts, roundings={"zero": torch.zeros_like, "same": lambda x: x}).stats()
    assert (stats.layer, stats.part, stats.elements, stats.abs_max) == (3, "q_proj", 8, 3.0)
    assert stats.std == pytest.approx(math.sqrt(3))
    assert stats.kurtosis == pytest.approx(21 / 9)
    assert stats.sqnr_db == {"zero": 0.0, "same": 200.0}
    assert stats.outlier_share == 0.0


def test_outliers_lie_beyond_six_deviations():
    x = torch.randn(10000, generator=torch.Generator().manual_seed(0))
    x[:5] = 50.0
    stats = filled("w", x).stats()
    assert stats.outlier_share == pytest.approx(5 / 10000)
    assert stats.layer is None


def test_totals_are_those_of_the_values_together():
    generator = torch.Generator().manual_seed(0)
    values = [torch.randn(500, generator=generator) * scale for scale in (1.0, 3.0, 0.5)]
    names = ("layers.0.up.weight", "layers.1.up.weight", "layers.0.down.weight")
    found = [filled(name, x, roundings={"half": lambda x: x / 2}) for name, x in zip(names, values, strict=True)]
    up, down, everything = total_stats(found)
    assert [total.part for total in (up, down, everything)] == ["up", "down", "all"]
    together = torch.cat(values).double()
    assert everything.std == pytest.approx(float(together.std(unbiased=False)))
    assert everything.abs_max == pytest.approx(float(together.abs().max()))
    assert everything.sqnr_db["half"] == pytest.approx(10 * math.log10(4))
    assert up.elements == 1000


@pytest.mark.parametrize("family", tiny_models.FAMILIES)
def test_files_hold_the_matrices_that_recipes_quantize(model_folder, backend_for, family):
    stored = stored_matrices(locate_model(str(model_folder(family))))
    targets = weight_targets(backend_for(family).loaded.model)
    assert sum(matrix.elements for matrix in stored) == sum(target.parameter.numel() for target in targets)
    total = sum(float(block.double().square().sum()) for matrix in stored for block in matrix.blocks())
    assert total == pytest.approx(sum(float(target.matrix().double().square().sum()) for target in targets))


def test_gpt2_is_read_by_its_inputs(tmp_path):
    import transformers

    config = transformers.GPT2Config(vocab_size=64, n_embd=32, n_layer=1, n_head=2, n_positions=16)
    model = transformers.GPT2LMHeadModel(config)
    model.save_pretrained(tmp_path / "gpt2")
    stored = {
        matrix.name.removeprefix("transformer."): matrix for matrix in stored_matrices(locate_model(str(tmp_path / "gpt2")))
    }
    fused = stored["h.0.attn.c_attn.weight"]
    assert (len(stored), fused.shape, fused.columns) == (4, (32, 96), 32)
    assert torch.equal(torch.cat(list(fused.blocks())), model.transformer.h[0].attn.c_attn.weight.detach().T)


@pytest.mark.parametrize("rows", [1, 5, 64], ids=lambda rows: f"{rows} rows at a time")
def test_blocks_do_not_change_what_is_found(model_folder, monkeypatch, rows):
    source = locate_model(str(model_folder("llama")))
    whole = [sums.stats() for sums in measure_weights(source)]
    monkeypatch.setattr(weightstats, "block_rows", lambda device, columns: rows * 64)
    for before, after in zip(whole, [sums.stats() for sums in measure_weights(source)], strict=True):
        assert (before.name, before.abs_max, before.outlier_share) == (after.name, after.abs_max, after.outlier_share)
        assert after.std == pytest.approx(before.std, rel=1e-12)
        assert after.sqnr_db == pytest.approx(before.sqnr_db, rel=1e-6)


def test_noise_is_that_of_the_rounding_that_recipes_use(model_folder, backend_for):
    weight = backend_for("llama").loaded.model.model.layers[1].mlp.down_proj.weight.detach()
    seen = []
    found = measure_weights(locate_model(str(model_folder("llama"))), on_matrix=lambda done, total: seen.append((done, total)))
    stats = next(sums.stats() for sums in found if sums.name == "model.layers.1.mlp.down_proj.weight")
    assert stats.std == pytest.approx(float(weight.double().std(unbiased=False)), rel=1e-6)
    for scheme, rounded in (
        ("w4a16-g128-asym", fake_integer(weight, 4, 128, symmetric=False)),
        ("nvfp4", fake_nvfp4(weight, 16)),
    ):
        expected = 10 * math.log10(float(weight.square().sum() / (weight - rounded).square().sum()))
        assert stats.sqnr_db[scheme] == pytest.approx(expected, rel=1e-4)
    values = [stats.sqnr_db[f"w{bits}a16-g128-asym"] for bits in (2, 3, 4, 5, 6, 8)]
    assert values == sorted(values)
    assert len(seen) == 14
    assert seen[-1][0] == seen[-1][1]


def test_activations_and_caches(backend_for):
    loaded = backend_for("llama").loaded
    found = [sums.stats() for sums in measure_flows(loaded, calibration_ids(loaded)[0])]
    kinds = {kind: [stats for stats in found if stats.kind == kind] for kind in ("activation", "key", "value")}
    assert {kind: len(members) for kind, members in kinds.items()} == {"activation": 14, "key": 2, "value": 2}
    assert kinds["activation"][0].elements == 8 * 64 * 64
    for stats in kinds["key"]:
        values = [stats.sqnr_db[f"kv{bits}"] for bits in (2, 3, 4, 8)]
        assert values == sorted(values)


@pytest.mark.parametrize(("family", "caches"), [("mamba", 0), ("mixtral", 2), ("falcon", 2)])
def test_families_without_cache_or_with_experts(backend_for, family, caches):
    loaded = backend_for(family).loaded
    found = measure_flows(loaded, calibration_ids(loaded)[0][:2])
    assert sum(sums.kind == "key" for sums in found) == caches


def test_probe_from_the_command_line_loads_no_model(model_folder, tmp_path):
    file = tmp_path / "probe.json"
    script = (
        "import sys; from measure.cli import app; "
        f"app(['probe', {str(model_folder('llama'))!r}, '-o', {str(file)!r}], standalone_mode=False); "
        "assert 'transformers' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "down_proj" in done.stdout
    probe = probe_from_json(file.read_bytes())
    assert (probe.model, probe.facts.architecture, probe.calibration, len(probe.tensors)) == (
        "llama",
        "LlamaForCausalLM",
        None,
        14,
    )
    assert probe.totals[-1].part == "all"


@pytest.mark.parametrize(
    ("spoil", "error", "message"),
    [("nan", InvalidModelError, "values that are not numbers"), ("int", InvalidModelError, "is stored as I8"),
     ("empty", InvalidModelError, "has no matrix"), ("device", InvalidRequestError, "no mps device here")],
    ids=["nan", "integers", "no matrix", "device"],
)  # fmt: skip
def test_models_that_cannot_be_looked_at(model_folder, tmp_path, spoil, error, message):
    folder = tmp_path / "model"
    folder.mkdir()
    weights = load_file(model_folder("llama") / "model.safetensors")
    name = "model.layers.0.mlp.up_proj.weight"
    if spoil == "nan":
        weights[name][3, 5] = float("nan")
    elif spoil == "int":
        weights[name] = weights[name].to(torch.int8)
    elif spoil == "empty":
        weights = {"model.norm.weight": weights["model.norm.weight"]}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text((model_folder("llama") / "config.json").read_text())
    with pytest.raises(error, match=message):
        CliRunner().invoke(
            app, ["probe", str(folder), "--device", "mps" if spoil == "device" else "cpu", "-o", str(tmp_path / "p.json")],
            catch_exceptions=False,
        )  # fmt: skip
    assert not (tmp_path / "p.json").exists()


def test_json_goes_to_stdout_too(model_folder, tmp_path):
    arguments = ["probe", str(model_folder("opt")), "-o", str(tmp_path / "probe.json"), "--json"]
    printed = json.loads(CliRunner().invoke(app, arguments, catch_exceptions=False).stdout)
    assert printed == json.loads((tmp_path / "probe.json").read_text())
