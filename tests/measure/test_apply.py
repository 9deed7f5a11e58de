"""Checkpoints on tiny models: written packed, read back, compared with what was asked for; faults are found."""

import json
import shutil

import pytest
from helpers import run_cli

torch = pytest.importorskip("torch")

from knowledge.errors import InvalidRequestError, StoreError  # noqa: E402
from knowledge.recipes import parse_recipe  # noqa: E402
from measure import apply as applying  # noqa: E402
from measure.apply import check_request, settings_dtype, write_checkpoint  # noqa: E402
from measure.errors import NotApplicableError, QuantizationMismatchError, TaskDataError  # noqa: E402
from measure.models import locate_model  # noqa: E402
from measure.packing import Packing  # noqa: E402
from measure.plan import CalibrationRequest, Settings  # noqa: E402

pytestmark = pytest.mark.measure


def make(model, text, output, *, packing=None, calibration=None, **settings):
    """Apply the recipe `text` to the folder `model`."""
    source = locate_model(str(model))
    request = calibration or CalibrationRequest(samples=4, tokens_per_sample=64)
    chosen = Settings(**({"dtype": settings_dtype(source)} | settings), calibration=request)
    packing = packing or check_request(parse_recipe(text), model=str(model), dtype=None)
    return write_checkpoint(source, packing, chosen, output)


def config_of(folder):
    return json.loads((folder / "config.json").read_text())["quantization_config"]


@pytest.mark.parametrize(
    ("recipe", "layout"),
    [
        ("w4a16-g32", "pack-quantized"), ("w4a16-g32:gptq", "pack-quantized"), ("w4a16-g32:awq", "pack-quantized"),
        ("w3a16-g32-asym", "pack-quantized"), ("w5a16-channel", "pack-quantized"), ("w8a16-g64-sym", "pack-quantized"),
        ("w8a8:gptq", "int-quantized"), ("w8a8:smoothquant", "int-quantized"), ("fp8", "float-quantized"),
        ("fp8-astatic", "float-quantized"), ("fp8a16", "naive-quantized"), ("nvfp4", "nvfp4-pack-quantized"),
        ("nvfp4a16", "nvfp4-pack-quantized"), ("mxfp4", "mxfp4-pack-quantized"), ("mxfp8", "mxfp8-quantized"),
    ],
)  # fmt: skip
def test_schemes_and_methods(model_folder, tmp_path, recipe, layout):
    output = tmp_path / "out"
    made = make(model_folder("llama"), recipe, output)
    assert (made.layers, made.tensor_bytes) == (14, made.expected_bytes)
    assert made.read_back_change == 0
    assert 0 < made.logit_change < 0.8
    assert (made.dtype, config_of(output)["format"]) == ("bfloat16", layout)
    assert (made.calibration is not None) == (":" in recipe or recipe in ("fp8-astatic", "nvfp4"))
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    names = {path.name for path in output.iterdir()}
    assert names == {
        "config.json", "generation_config.json", "model.safetensors", "qadvisor.json", "tokenizer.json",
        "tokenizer_config.json",
    }  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("method", ["gptq", "awq", "smoothquant", "smoothquant+gptq"])
@pytest.mark.parametrize(
    "scheme", ["w2a16-g32", "w4a16-channel", "w6a16-g32", "w8a8", "fp8", "nvfp4", "mxfp4", "mxfp8", "fp8a16"]
)
def test_every_method_with_every_kind_of_scheme(model_folder, tmp_path, scheme, method):
    made = make(model_folder("llama"), f"{scheme}:{method}", tmp_path / "out")
    assert (made.tensor_bytes, made.read_back_change) == (made.expected_bytes, 0)


@pytest.mark.parametrize(
    ("family", "recipe"),
    [("qwen3", "w4a16-g32:awq"), ("gemma2", "w8a8:smoothquant"), ("opt", "w4a16-g32:gptq"), ("wide", "fp8-block"),
     ("wide", "w4a16")],
)  # fmt: skip
def test_families(model_folder, tmp_path, family, recipe):
    made = make(model_folder(family), recipe, tmp_path / "out")
    assert (made.tensor_bytes, made.read_back_change) == (made.expected_bytes, 0)
    assert 0 < made.logit_change < 1


@pytest.mark.slow
@pytest.mark.parametrize("family", ["mistral", "bloom", "glm", "stablelm", "gemma", "phi", "qwen2"])
def test_more_families(model_folder, tmp_path, family):
    made = make(model_folder(family), "w4a16-g32:gptq", tmp_path / "out")
    assert (made.tensor_bytes, made.read_back_change) == (made.expected_bytes, 0)


@pytest.mark.parametrize(
    ("family", "recipe", "message"),
    [
        ("llama", "w4a16", "groups of 128 do not divide the rows of model.layers.0.self_attn.q_proj.weight, which have 64"),
        ("llama", "fp8-block", "groups of 128 do not divide"),
        ("falcon", "w4a16-g32", "FalconLinear: llm-compressor does not pack it"),
        ("mixtral", "w4a16-g32", "MixtralExperts: transformers does not read packed experts back"),
        ("mamba", "w4a16-g32", "no checkpoint of mamba is written"),
    ],
)
def test_models_and_recipes_that_do_not_go_together(model_folder, tmp_path, family, recipe, message):
    with pytest.raises(NotApplicableError, match=message):
        make(model_folder(family), recipe, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_dividing_groups_are_offered(model_folder, tmp_path):
    with pytest.raises(NotApplicableError) as caught:
        make(model_folder("llama"), "w4a16", tmp_path / "out")
    assert caught.value.allowed == ["-g64", "-g32", "-g16", "-channel"]


def test_too_little_calibration_text(model_folder, tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("few words " * 20)
    request = CalibrationRequest(text=text, samples=64, tokens_per_sample=64)
    with pytest.raises(TaskDataError, match="64 are needed"):
        make(model_folder("llama"), "w4a16-g32:gptq", tmp_path / "out", calibration=request)
    assert [path.name for path in tmp_path.iterdir()] == ["text.txt"]


def test_the_models_own_dtype_is_kept(model_folder, tmp_path):
    folder = shutil.copytree(model_folder("llama"), tmp_path / "half")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"dtype": "float16"}))
    made = make(folder, "w4a16-g32", tmp_path / "out")
    assert (made.dtype, made.tensor_bytes) == ("float16", made.expected_bytes)
    assert json.loads((tmp_path / "out" / "config.json").read_text())["dtype"] == "float16"


def spoil_other_weights(folder):
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    tensors = {name: tensor * (3 if name.endswith("weight_scale") else 1) for name, tensor in tensors.items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def spoil_missing(folder):
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight_scale"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def spoil_cut(folder):
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[: len(content) // 2])


def spoil_tokenizer(folder):
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["model"]["merges"] = []
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (spoil_other_weights, "gives other logits"),
        (spoil_missing, "up_proj.weight_scale is missing"),
        (spoil_cut, "cannot read the checkpoint back"),
        (spoil_tokenizer, "the tokenizer gives other tokens"),
    ],
)
def test_a_checkpoint_that_is_not_what_was_in_memory_fails(model_folder, tmp_path, monkeypatch, spoil, message):
    def copy_and_spoil(source, folder, *, code):
        copy(source, folder, code=code)
        spoil(folder)

    copy = applying._copy_companions
    monkeypatch.setattr(applying, "_copy_companions", copy_and_spoil)
    with pytest.raises(QuantizationMismatchError, match=message) as caught:
        make(model_folder("llama"), "w4a16-g32", tmp_path / "out")
    assert f"{tmp_path / 'out'}.failed" in str(caught.value.hint)
    assert [path.name for path in tmp_path.iterdir()] == ["out.failed"]


def packed_as(text, targets=("Linear",), bits=4, **group):
    weights = {"num_bits": bits, "type": "int", "symmetric": True, "strategy": "group", "group_size": 32}
    groups = {"group_0": {"targets": list(targets), "weights": weights, **group}}
    return Packing(recipe=parse_recipe(text), arguments={"config_groups": groups}, needs_data=False)


@pytest.mark.parametrize(
    ("packing", "message"),
    [
        (packed_as("w4a16-g32-sym", bits=8), r"computed \(\+26"),
        (packed_as("w4a16-g32-sym", targets=["re:.*mlp.*"]), "8 of 14 layers were not quantized"),
    ],
    ids=["other bits", "layers skipped"],
)
def test_a_checkpoint_that_is_not_what_was_asked_for_fails(model_folder, tmp_path, packing, message):
    with pytest.raises(QuantizationMismatchError, match=message):
        make(model_folder("llama"), "", tmp_path / "out", packing=packing)
    assert [path.name for path in tmp_path.iterdir()] == ["out.failed"]


def test_a_disk_that_is_full_half_way(model_folder, tmp_path):
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    make(model_folder("llama"), "w4a16-g32", tmp_path / "before")  # so that nothing else is written under the limit
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, hard))
    try:
        with pytest.raises(StoreError, match="cannot write the checkpoint"):
            make(model_folder("llama"), "w4a16-g32", tmp_path / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [path.name for path in tmp_path.iterdir()] == ["before"]


OWN_CODE = """
from transformers import LlamaConfig, LlamaForCausalLM


class OwnConfig(LlamaConfig):
    model_type = "own"


class OwnForCausalLM(LlamaForCausalLM):
    config_class = OwnConfig
"""


def test_code_beside_the_weights_goes_along_when_trusted(model_folder, tmp_path):
    folder = shutil.copytree(model_folder("llama"), tmp_path / "own")
    (folder / "modeling_own.py").write_text(OWN_CODE)
    auto = {"AutoConfig": "modeling_own.OwnConfig", "AutoModelForCausalLM": "modeling_own.OwnForCausalLM"}
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "own", "architectures": ["OwnForCausalLM"], "auto_map": auto}
    (folder / "config.json").write_text(json.dumps(config))
    made = make(folder, "w4a16-g32", tmp_path / "out", trust_remote_code=True)
    assert (made.read_back_change, made.expected_bytes, made.difference) == (0, None, None)
    assert (tmp_path / "out" / "modeling_own.py").is_file()


def call(model, output, *more):
    options = ("--calibration-samples", 4, *more)
    return run_cli("apply", "--model", model, "--scheme", "w4a16-g32-kv8", "--method", "gptq", "--output", output, *options)


def test_the_command(model_folder, tmp_path):
    model, output = model_folder("llama"), tmp_path / "my out"
    text = tmp_path / "text.txt"
    text.write_text("one or two words of the task at hand. " * 500)
    result = call(model, output, "--calibration", text)
    assert result.code == 0, result.err
    assert result.out.startswith(f"{output}: llama as w4a16-g32-sym, gptq, compressed-tensors\n")
    for part in ("140,640 bytes; computed: 140,640, +0.00%", "14 layers quantized", "4 windows of 512 tokens from text.txt",
                 "kv8 is an option of the engine"):  # fmt: skip
        assert part in result.out
    assert "qadvisor: reading back" in result.err
    again = call(model, output, "--json")
    assert (again.code, "is not empty: nothing is overwritten" in again.json["error"]["message"]) == (2, True)


def test_the_command_as_json(model_folder, tmp_path):
    document = run_cli(
        "apply", "--model", model_folder("qwen3"), "--scheme", "w8a8", "--output", tmp_path / "my out", "--json"
    ).json
    made = document["checkpoint"]
    assert (document["schema_version"], made["scheme"], made["method"]) == (1, "w8a8-channel-sym", "rtn")
    assert made["difference"] == 0
    assert made["bits_per_weight"] == pytest.approx(8 * made["tensor_bytes"] / made["parameters"])
    commands = {serving["engine"]: serving["command"] for serving in made["serve"]}
    assert commands["vllm"] == f"vllm serve '{tmp_path}/my out'"
    assert commands["transformers"].endswith(f"('{tmp_path}/my out')")


@pytest.mark.parametrize("file", ["config.json", "model.safetensors"])
def test_models_that_cannot_be_loaded(model_folder, tmp_path, file):
    folder = shutil.copytree(model_folder("llama"), tmp_path / "model")
    (folder / file).unlink()
    result = call(folder, tmp_path / "out", "--json")
    assert (result.code, result.json["error"]["code"]) == (2, "invalid_model")


def test_a_device_that_is_not_here(model_folder, tmp_path):
    if torch.cuda.is_available():
        pytest.skip("needs a machine without a GPU; this one has one")
    with pytest.raises(InvalidRequestError, match="no cuda device here"):
        make(model_folder("llama"), "w4a16-g32", tmp_path / "out", device="cuda")
