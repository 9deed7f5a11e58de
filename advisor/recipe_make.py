"""Commands that make a quantized checkpoint, by checkpoint format."""

from collections.abc import Callable

from advisor.recipe_compressor import compressor_steps
from advisor.recipe_step import Notes, Step, Steps, folder_for
from knowledge.engines import number_format
from knowledge.recipes import QuantRecipe
from knowledge.schemes import UNQUANTIZED_BITS

_LLAMA_CONVERT = "ggml-org/llama.cpp:convert_hf_to_gguf.py --help; @311c2c9:tools/quantize/README.md"
_LLAMA_QUANTIZE = "ggml-org/llama.cpp@311c2c9:tools/quantize/README.md"
_LLAMA_IMATRIX = "ggml-org/llama.cpp@019f197:tools/imatrix/README.md"
_AUTO_ROUND = "intel/auto-round@006d7f0:docs/step_by_step.md"
_TRANSFORMERS = "huggingface/transformers@000e223:src/transformers/utils/quantization_config.py"
_EXLLAMAV2 = "turboderp-org/exllamav2@c03f85e:doc/convert.md"
_EXLLAMAV3 = "turboderp-org/exllamav3@0b9745c:doc/convert.md"
_MLX = "ml-explore/mlx-lm@d78bf58:mlx_lm/convert.py"
_MLX_LEARNED = "ml-explore/mlx-lm@03468d0:mlx_lm/LEARNED_QUANTS.md"

_AUTO_ROUND_EXPORTS = {
    "gptq": "auto_gptq", "awq": "auto_awq", "auto-round": "auto_round", "compressed-tensors": "llm_compressor", "mlx": "mlx",
}  # fmt: skip

_GGUF_MIXES = {"q2_k_l": "Q2_K", "q3_k_xl": "Q3_K_L", "q4_k_l": "Q4_K_M", "q5_k_l": "Q5_K_M", "q6_k_l": "Q6_K"}
"""Publishers' names for llama.cpp's own mix with embeddings and output at Q8_0."""

_GGUF_TYPES = frozenset({
    "q4_0", "q4_1", "q5_0", "q5_1", "q8_0", "iq1_s", "iq1_m", "iq2_xxs", "iq2_xs", "iq2_s", "iq2_m", "tq1_0", "tq2_0", "q2_k",
    "q2_k_s", "iq3_xxs", "iq3_xs", "iq3_s", "iq3_m", "q3_k", "q3_k_s", "q3_k_m", "q3_k_l", "iq4_nl", "iq4_xs", "q4_k", "q4_k_s",
    "q4_k_m", "q5_k", "q5_k_s", "q5_k_m", "q6_k", "f16", "bf16", "mxfp4",
})  # fmt: skip
"""Types that llama-quantize takes (tools/quantize/quantize.cpp@03161a4)."""


def make_steps(recipe: QuantRecipe, *, model: str, format: str) -> tuple[Steps, Notes]:
    """The steps that turn the 16-bit `model` into a checkpoint of `format`, and what to know about them."""
    if recipe.scheme.weights is None and recipe.scheme.activations is None and format != "gguf":
        return (), ("the weights stay as published: there is nothing to make",)
    maker = _auto_round if recipe.method.name.startswith("autoround") else _MAKERS.get(format)
    steps = maker(recipe, model, format) if maker else ()
    if not steps:
        return (), (f"no command is known here that makes {recipe.scheme.weights_name} with {recipe.method.name} as {format}",)
    return steps, ()


def _gguf(recipe: QuantRecipe, model: str, format: str) -> Steps:
    name = (recipe.scheme.file_type or "gguf:f16").removeprefix("gguf:")
    base, pure = name.removesuffix("-pure"), name.endswith("-pure")
    if (base not in _GGUF_TYPES and base not in _GGUF_MIXES) or recipe.method.name not in ("rtn", "imatrix", "none"):
        return ()
    stem = model.rstrip("/").split("/")[-1]
    source_file, target = f"{stem}-f16.gguf", f"{stem}-{base}.gguf"
    convert = Step(
        title="convert the model folder to GGUF", source=_LLAMA_CONVERT, output=source_file,
        command=f"python3 convert_hf_to_gguf.py {model} --outtype f16 --outfile {source_file}",
    )  # fmt: skip
    if base in ("f16", "bf16"):
        return (convert,)
    steps, options = [convert], (["--pure"] if pure else [])
    if recipe.method.name == "imatrix":
        options.append("--imatrix imatrix.gguf")
        command = f"llama-imatrix -m {source_file} -f calibration.txt -o imatrix.gguf"
        title = "compute the importance matrix on text like that of your task"
        steps.append(Step(title=title, command=command, source=_LLAMA_IMATRIX, output="imatrix.gguf"))
    if base in _GGUF_MIXES:
        options.append("--output-tensor-type q8_0 --token-embedding-type q8_0")
    kind = {"mxfp4": "MXFP4_MOE"}.get(base) or _GGUF_MIXES.get(base) or base.upper()
    command = " ".join(["llama-quantize", *options, source_file, target, kind])
    return (*steps, Step(title="quantize", command=command, source=_LLAMA_QUANTIZE, output=target))


def _exl2(recipe: QuantRecipe, model: str, format: str) -> Steps:
    target = folder_for(model, recipe)
    command = f"python convert.py -i {model} -o work/ -cf {target}/ -b {recipe.scheme.w_bits:g}"
    return (Step(title="measure and convert", command=command, source=_EXLLAMAV2, output=target),)


def _exl3(recipe: QuantRecipe, model: str, format: str) -> Steps:
    target = folder_for(model, recipe)
    command = f"python convert.py -i {model} -o {target} -w work/ -b {recipe.scheme.w_bits:g}"
    return (Step(title="convert", command=command, source=_EXLLAMAV3, output=target),)


def _mlx(recipe: QuantRecipe, model: str, format: str) -> Steps:
    weights, target = recipe.scheme.weights, folder_for(model, recipe)
    if weights is None:
        return ()
    bits, mode = int(weights.num_bits), f"{weights.dtype}{weights.num_bits:g}"
    if recipe.method.name in ("awq", "gptq") and weights.dtype == "int":
        command = f"mlx_lm.{recipe.method.name} --model {model} --mlx-path {target} --bits {bits}"
        return (Step(title=f"quantize with {recipe.method.title}", command=command, source=_MLX_LEARNED, output=target),)
    if recipe.method.name != "rtn":
        return ()
    if weights.dtype == "int":
        how = f"--q-bits {bits} --q-group-size {weights.group_size or 64}"
    elif mode in ("mxfp4", "nvfp4", "mxfp8") or (weights.dtype in ("mxfp", "nvfp")):
        how = f"--q-mode {mode}"
    else:
        return ()
    command = f"mlx_lm.convert --hf-path {model} --mlx-path {target} -q {how}"
    return (Step(title="convert and quantize", command=command, source=_MLX, output=target),)


def _bitsandbytes(recipe: QuantRecipe, model: str, format: str) -> Steps:
    weights = recipe.scheme.weights
    if weights is None:
        return ()
    if weights.dtype in ("nf", "fp") and weights.num_bits == 4:
        double = weights.type_name == "double_quant"
        how = f'load_in_4bit=True, bnb_4bit_quant_type="{weights.dtype}4", bnb_4bit_use_double_quant={double}'
    elif weights.num_bits == 8 and recipe.method.name in ("llm.int8", "rtn"):
        how = "load_in_8bit=True"
    else:
        return ()
    return (_transformers(model, f"BitsAndBytesConfig({how})", folder_for(model, recipe)),)


def _gptq(recipe: QuantRecipe, model: str, format: str) -> Steps:
    weights = recipe.scheme.weights
    if weights is None or recipe.method.name != "gptq":
        return ()
    group = weights.group_size or -1
    config = (
        f'GPTQConfig(bits={weights.num_bits:g}, group_size={group}, sym={weights.symmetric is not False}, dataset="c4", '
        "tokenizer=AutoTokenizer.from_pretrained(MODEL))"
    )
    return (_transformers(model, config, folder_for(model, recipe)),)


def _quanto(recipe: QuantRecipe, model: str, format: str) -> Steps:
    if recipe.scheme.weights is None:
        return ()
    kind = ("float" if recipe.scheme.weights.dtype == "fp" else "int") + f"{recipe.scheme.w_bits:g}"
    return (_transformers(model, f'QuantoConfig(weights="{kind}")', folder_for(model, recipe)),)


def _transformers(model: str, config: str, target: str) -> Step:
    name = config.split("(")[0]
    command = (
        f"from transformers import AutoModelForCausalLM, AutoTokenizer, {name}\n\n"
        f'MODEL = "{model}"\n'
        f"config = {config}\n"
        'model = AutoModelForCausalLM.from_pretrained(MODEL, quantization_config=config, device_map="auto")\n'
        f'model.save_pretrained("{target}")\n'
        f'AutoTokenizer.from_pretrained(MODEL).save_pretrained("{target}")'
    )
    return Step(
        title="quantize while loading, then save", command=command, language="python", source=_TRANSFORMERS, output=target
    )


def _awq(recipe: QuantRecipe, model: str, format: str) -> Steps:
    weights = recipe.scheme.weights
    if weights is None or recipe.method.name != "awq" or weights.num_bits != 4:
        return ()
    target = folder_for(model, recipe)
    command = f"lmdeploy lite auto_awq {model} --w-bits 4 --w-group-size {weights.group_size or 128} --work-dir {target}"
    source = "InternLM/lmdeploy@00948ee:docs/en/quantization/w4a16.md"
    return (Step(title="search scales and quantize", command=command, source=source, output=target),)


def _hqq(recipe: QuantRecipe, model: str, format: str) -> Steps:
    weights, target = recipe.scheme.weights, folder_for(model, recipe)
    if weights is None or recipe.method.name not in ("hqq", "rtn"):
        return ()
    command = (
        "import torch\n"
        "from hqq.core.quantize import BaseQuantizeConfig\n"
        "from hqq.models.hf.base import AutoHQQHFModel\n"
        "from transformers import AutoModelForCausalLM\n\n"
        f'model = AutoModelForCausalLM.from_pretrained("{model}", torch_dtype=torch.bfloat16)\n'
        f"config = BaseQuantizeConfig(nbits={weights.num_bits:g}, group_size={weights.group_size or 64}, axis=1)\n"
        'AutoHQQHFModel.quantize_model(model, quant_config=config, compute_dtype=torch.bfloat16, device="cuda")\n'
        f'AutoHQQHFModel.save_quantized(model, "{target}")'
    )
    source = "mobiusml/hqq@0c076aa:examples/backends/torchao_int4_demo.py"
    return (Step(title="quantize and save", command=command, language="python", source=source, output=target),)


def _auto_round(recipe: QuantRecipe, model: str, format: str) -> Steps:
    weights, target = recipe.scheme.weights, folder_for(model, recipe)
    program = {"autoround": "auto-round", "autoround-rtn": "auto-round-opt-rtn"}.get(recipe.method.name)
    if format == "gguf" and recipe.scheme.file_type:
        kind = recipe.scheme.file_type.removesuffix("-pure")
        scheme, options, export_format = kind.upper(), "", kind
    else:
        (scheme, options), export_format = _auto_round_scheme(recipe), _AUTO_ROUND_EXPORTS.get(format, "")
    if program is None or weights is None or not scheme or not export_format:
        return ()
    command = f'{program} --model {model} --scheme "{scheme}"{options} --format "{export_format}" --output_dir {target}'
    return (Step(title="tune the rounding and export", command=command, source=_AUTO_ROUND, output=target),)


def _auto_round_scheme(recipe: QuantRecipe) -> tuple[str, str]:
    """AutoRound's preset for the scheme, and the option for another group length than the preset's 128."""
    weights = recipe.scheme.weights
    if weights is None:
        return "", ""
    if weights.dtype in ("nvfp", "mxfp") and weights.num_bits == recipe.scheme.a_bits:
        return f"{weights.dtype}{weights.num_bits:g}".upper(), ""
    if weights.dtype != "int" or recipe.scheme.a_bits != UNQUANTIZED_BITS or weights.symmetric is False:
        return "", ""
    if weights.num_bits not in (2, 3, 4, 8) or weights.strategy not in ("group", None):
        return "", ""
    group = weights.group_size or 128
    return f"W{weights.num_bits:g}A16", "" if group == 128 else f" --group_size {group}"


def _modelopt(recipe: QuantRecipe, model: str, format: str) -> Steps:
    kinds = {"fp8-astatic": "fp8", "nvfp4": "nvfp4"}
    caches = {"kv16": "none", "kvfp8": "fp8_cast", "kvnvfp4": "nvfp4"}
    kind, cache = kinds.get(number_format(recipe.scheme)), caches.get(recipe.scheme.kv_name)
    if kind is None or cache is None or recipe.method.name != "rtn":
        return ()
    target = folder_for(model, recipe)
    command = f"python hf_ptq.py --pyt_ckpt_path {model} --qformat {kind} --kv_cache_qformat {cache} --export_path {target}"
    source = "NVIDIA/Model-Optimizer:examples/hf_ptq/README.md"
    return (Step(title="calibrate and export", command=command, source=source, output=target),)


def _torchao(recipe: QuantRecipe, model: str, format: str) -> Steps:
    kinds = {"w4a16": "int4_weight_only", "w8a16": "int8_weight_only", "w8a8": "int8_dynamic_activation_int8_weight"}
    kind, weights = kinds.get(number_format(recipe.scheme)), recipe.scheme.weights
    if kind is None or weights is None or recipe.method.name != "rtn":
        return ()
    group = f", group_size={weights.group_size}" if kind == "int4_weight_only" and weights.group_size else ""
    return (_transformers(model, f'TorchAoConfig("{kind}"{group})', folder_for(model, recipe)),)


_MAKERS: dict[str, Callable[[QuantRecipe, str, str], Steps]] = {
    "gguf": _gguf,
    "exl2": _exl2,
    "exl3": _exl3,
    "mlx": _mlx,
    "bitsandbytes": _bitsandbytes,
    "gptq": _gptq,
    "awq": _awq,
    "hqq": _hqq,
    "quanto": _quanto,
    "compressed-tensors": compressor_steps,
    "modelopt": _modelopt,
    "torchao": _torchao,
}
