"""What is written for a recipe, with nothing left open, and what is refused with which way out. Needs no torch."""

import pytest

from knowledge.recipes import parse_recipe
from measure.errors import NotApplicableError
from measure.packing import plan_packing


def pack(text):
    return plan_packing(parse_recipe(text), model="./my-model")


@pytest.mark.parametrize(
    ("asked", "written", "preset", "data", "divisor"),
    [
        ("w4a16", "w4a16-g128-sym", None, False, 128),
        ("w4a16:awq", "w4a16-g128-asym:awq", None, True, 128),
        ("w4a16-g32-asym:gptq", "w4a16-g32-asym:gptq", None, True, 32),
        ("w8a16-channel", "w8a16-channel-sym", None, False, None),
        ("w3a16-g64-kv8:gptq", "w3a16-g64-sym-kv8:gptq", None, True, 64),
        ("w8a8", "w8a8-channel-sym", "W8A8", False, None),
        ("w8a8:smoothquant+gptq", "w8a8-channel-sym:smoothquant+gptq", "W8A8", True, None),
        ("fp8", "fp8-channel", "FP8_DYNAMIC", False, None),
        ("fp8-kvfp8", "fp8-channel-kvfp8", "FP8_DYNAMIC", False, None),
        ("fp8-astatic", "fp8-tensor-astatic", "FP8", True, None),
        ("fp8-block", "fp8-block", "FP8_BLOCK", False, 128),
        ("fp8a16", "fp8a16-channel", None, False, None),
        ("nvfp4", "nvfp4", "NVFP4", True, 16),
        ("nvfp4a16", "nvfp4a16", "NVFP4A16", False, 16),
        ("mxfp4:gptq", "mxfp4:gptq", "MXFP4", True, 32),
        ("mxfp8a16", "mxfp8a16", "MXFP8A16", False, 32),
    ],
)
def test_what_is_written(asked, written, preset, data, divisor):
    packing = pack(asked)
    assert packing.recipe.name == written
    assert (packing.arguments.get("scheme"), packing.needs_data, packing.divisor) == (preset, data, divisor)


def test_what_no_preset_has_is_written_out():
    (group,) = pack("w5a16-g64-asym").arguments["config_groups"].values()
    assert group["weights"] == {"num_bits": 5, "type": "int", "symmetric": False, "strategy": "group", "group_size": 64}


RECIPE = "qadvisor recipe --model ./my-model --scheme "


@pytest.mark.parametrize(
    ("asked", "message", "hint"),
    [
        ("gguf:q4_k_m", "a file of llama.cpp", f"{RECIPE}gguf:q4_k_m --engine llama.cpp"),
        ("q4_0", "a file of llama.cpp", f"{RECIPE}gguf:q4_0 --engine llama.cpp"),
        ("exl2:4.0bpw", "a format of exl2", f"{RECIPE}exl2:4.0bpw:exl2 --engine exllamav2"),
        ("mlx:q4", "a format of mlx", f"{RECIPE}mlx:q4"),
        ("nf4", "bitsandbytes quantizes while it loads", f"{RECIPE}nf4"),
        ("w8a8:llm.int8", "bitsandbytes quantizes while it loads", f"{RECIPE}w8a8:llm.int8"),
        ("w4a16-g64:hqq", "does not have HQQ", f"{RECIPE}w4a16-g64:hqq"),
        ("w4a16:autoround", "does not have AutoRound", f"{RECIPE}w4a16:autoround"),
        ("kv8", "leaves the weights as published", f"{RECIPE}w16a16-kv8"),
        ("none", "leaves the weights as published", f"{RECIPE}none"),
        ("w4a8", "keeps a byte a code", "qadvisor engines"),
        ("w4afp8", "keeps a byte a code", "qadvisor engines"),
        ("w8a8-asym", "no layout for w8a8-asym", "qadvisor engines"),
        ("w4a16-tensor", "no layout for w4a16-tensor", "qadvisor engines"),
        ("w4.5a16", "no layout for w4.5a16", "qadvisor engines"),
        ("fp8-tensor", "no layout for fp8-tensor", "qadvisor engines"),
        ("mxfp6", "no layout for mxfp6", "qadvisor engines"),
        ("codebook2", "no layout for codebook2", "qadvisor engines"),
        ("fp8-astatic:awq", "AWQ needs a weight scale", None),
    ],
)
def test_what_is_refused(asked, message, hint):
    with pytest.raises(NotApplicableError, match=message) as caught:
        pack(asked)
    assert caught.value.allowed
    assert hint is None or hint in str(caught.value.hint)
