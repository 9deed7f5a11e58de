"""Making and serving: commands as the libraries document them, and nothing where nothing is known."""

import ast
import shlex

import pytest

from advisor.recipe import Instructions, write_instructions
from knowledge.errors import UnknownNameError
from knowledge.recipes import parse_recipe

MODEL, NAME = "mistralai/Mistral-7B-v0.1", "Mistral-7B-v0.1"


def steps_of(recipe: str, format: str, engine: str, context: int | None = None) -> Instructions:
    return write_instructions(parse_recipe(recipe), model=MODEL, format=format, engine=engine, context=context)


@pytest.mark.parametrize(
    ("recipe", "format", "engine", "last"),
    [
        ("gguf:q4_k_m", "gguf", "llama.cpp", f"llama-quantize {NAME}-f16.gguf {NAME}-q4_k_m.gguf Q4_K_M"),
        (
            "gguf:iq3_m:imatrix", "gguf", "llama.cpp",
            f"llama-quantize --imatrix imatrix.gguf {NAME}-f16.gguf {NAME}-iq3_m.gguf IQ3_M",
        ),
        ("gguf:q4_0-pure", "gguf", "llama.cpp", f"llama-quantize --pure {NAME}-f16.gguf {NAME}-q4_0.gguf Q4_0"),
        (
            "gguf:q4_k_l", "gguf", "llama.cpp",
            f"llama-quantize --output-tensor-type q8_0 --token-embedding-type q8_0 {NAME}-f16.gguf {NAME}-q4_k_l.gguf Q4_K_M",
        ),
        ("exl2:4.25bpw", "exl2", "exllamav2", f"python convert.py -i {MODEL} -o work/ -cf {NAME}-exl2-4.25bpw/ -b 4.25"),
        ("exl3:3.0bpw", "exl3", "exllamav3", f"python convert.py -i {MODEL} -o {NAME}-exl3-3.0bpw -w work/ -b 3"),
        ("mlx:q4", "mlx", "mlx", f"mlx_lm.convert --hf-path {MODEL} --mlx-path {NAME}-mlx-q4 -q --q-bits 4 --q-group-size 64"),
        (
            "w4a16-g128-asym:awq", "awq", "lmdeploy",
            f"lmdeploy lite auto_awq {MODEL} --w-bits 4 --w-group-size 128 --work-dir {NAME}-w4a16-g128-asym",
        ),
        (
            "w4a16-g128:autoround", "gptq", "vllm",
            f'auto-round --model {MODEL} --scheme "W4A16" --format "auto_gptq" --output_dir {NAME}-w4a16-g128',
        ),
        (
            "w3a16-g32:autoround", "auto-round", "sglang",
            f'auto-round --model {MODEL} --scheme "W3A16" --group_size 32 --format "auto_round" --output_dir {NAME}-w3a16-g32',
        ),
        (
            "fp8-tensor-astatic-kvfp8", "modelopt", "tensorrt-llm",
            f"python hf_ptq.py --pyt_ckpt_path {MODEL} --qformat fp8 --kv_cache_qformat fp8_cast "
            f"--export_path {NAME}-fp8-tensor-astatic",
        ),
    ],
    ids=["gguf", "imatrix", "pure", "large", "exl2", "exl3", "mlx", "awq", "autoround", "autoround-group", "modelopt"],
)  # fmt: skip
def test_last_command_that_makes(recipe: str, format: str, engine: str, last: str) -> None:
    assert steps_of(recipe, format, engine).make[-1].command == last


@pytest.mark.parametrize(
    ("recipe", "format", "parts"),
    [
        (
            "w4a16-g128:gptq",
            "compressed-tensors",
            ["GPTQModifier(", "'num_bits': 4", "'group_size': 128", 'dataset="perfectblend"'],
        ),
        ("w4a16:gptq", "compressed-tensors", ["'num_bits': 4", "'strategy': 'group'", "'group_size': 128"]),
        ("w8a16", "compressed-tensors", ["'num_bits': 8", "'strategy': 'channel'"]),
        ("w4a16-g64-asym", "compressed-tensors", ["QuantizationModifier(", "'symmetric': False", "'group_size': 64"]),
        ("w4a16-g128:awq", "compressed-tensors", ["AWQModifier(), QuantizationModifier("]),
        ("w8a8:smoothquant", "compressed-tensors", ["SmoothQuantModifier(smoothing_strength=0.5)", 'scheme="W8A8"']),
        ("fp8", "compressed-tensors", ['scheme="FP8_DYNAMIC"']),
        ("nvfp4", "compressed-tensors", ['scheme="NVFP4"', "dataset="]),
        ("nf4-dq", "bitsandbytes", ['bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True']),
        ("w8a8:llm.int8", "bitsandbytes", ["load_in_8bit=True"]),
        ("w4a16-g128:gptq", "gptq", ["GPTQConfig(bits=4, group_size=128, sym=True"]),
        ("w4a16-g64:hqq", "hqq", ["BaseQuantizeConfig(nbits=4, group_size=64, axis=1)"]),
        ("w4a16:quanto", "quanto", ['QuantoConfig(weights="int4")']),
        ("w8a16", "torchao", ['TorchAoConfig("int8_weight_only")']),
    ],
)
def test_scripts_are_python_and_say_the_format(recipe: str, format: str, parts: list[str]) -> None:
    (step,) = steps_of(recipe, format, "transformers").make
    ast.parse(step.command)
    assert step.language == "python"
    for part in parts:
        assert part in step.command


@pytest.mark.parametrize(
    ("recipe", "format"),
    [
        ("w3a16-g128:omniquant", "compressed-tensors"),
        ("gguf:iq4_kt", "gguf"),
        ("gguf:q4_k_m:gptq", "gguf"),
        ("w3a16-g128:awq", "awq"),
        ("codebook2:aqlm", "aqlm"),
    ],
)
def test_says_so_where_no_command_is_known(recipe: str, format: str) -> None:
    found = steps_of(recipe, format, "transformers")
    assert found.make == ()
    assert "no command is known" in found.notes[0]


def test_unquantized_weights_need_no_making() -> None:
    found = steps_of("w16a16-kvfp8", "safetensors", "vllm", 32768)
    assert found.make == ()
    assert found.serve[0].command == f"vllm serve {MODEL} --kv-cache-dtype fp8 --max-model-len 32768"


@pytest.mark.parametrize(
    ("recipe", "format", "engine", "command"),
    [
        (
            "gguf:q4_k_m-kvq8_0",
            "gguf",
            "llama.cpp",
            "llama-server -m Mistral-7B-v0.1-q4_k_m.gguf -ctk q8_0 -ctv q8_0 -fa on -c 8192",
        ),
        ("exl2:4.0bpw-kvq4_0", "exl2", "exllamav2", "python examples/chat.py -m Mistral-7B-v0.1-exl2-4.0bpw -cq4 -l 8192"),
    ],
)
def test_serving_takes_what_was_made(recipe: str, format: str, engine: str, command: str) -> None:
    assert steps_of(recipe, format, engine, 8192).serve[0].command == command


def test_every_step_names_its_source() -> None:
    for recipe, format, engine in (("gguf:q4_k_m:imatrix", "gguf", "llama.cpp"), ("nvfp4", "compressed-tensors", "vllm")):
        found = steps_of(recipe, format, engine)
        assert all(step.source for step in (*found.make, *found.serve))


def test_commands_split_like_a_shell_does() -> None:
    for step in steps_of("gguf:q4_k_l:imatrix", "gguf", "llama.cpp").make:
        assert shlex.split(step.command)[0] in ("python3", "llama-imatrix", "llama-quantize")


def test_unknown_engine_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="unknown engine 'vlm'"):
        steps_of("nf4", "bitsandbytes", "vlm")
