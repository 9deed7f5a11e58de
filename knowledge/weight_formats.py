"""Bytes of one quantized matrix in each checkpoint format: codes, and what is stored beside them.

I inputs, O outputs, g group length, G = ceil(I / g) groups a row, b bits. Each function gives the bytes of the codes and of
the rest (scales, zero points, indices); the source of a layout is in its docstring. A group or symmetry that the scheme
leaves open is what the format's own tool does by default.
"""

from collections.abc import Callable

from knowledge.schemes import UNQUANTIZED_BITS, QuantArgs, QuantScheme
from knowledge.values import value

LinearBytes = tuple[int, int]
"""Bytes of the codes, bytes of scales, zero points and indices."""


@value
class Container:
    """One checkpoint format: how it stores a matrix, and which matrices it takes."""

    name: str
    title: str
    linear: Callable[[int, int, QuantArgs, QuantArgs | None], LinearBytes]
    embedding: bool = False
    """Whether the embedding table is quantized too."""
    head: bool = False
    """Whether a head of its own is quantized too."""
    head_bits: int | None = None
    """Bits of the head where they are not those of the scheme."""
    whole_groups: bool = False
    """A matrix whose rows do not divide into groups stays at 16 bits."""


def _ceil(a: int, b: int) -> int:
    return -(-a // b)


def _packed(cols: int, bits: float) -> int:
    """Bytes of a row of `cols` codes packed densely into 32-bit words."""
    return _ceil(round(cols * bits), 32) * 4


def _scales(rows: int, cols: int, args: QuantArgs, default: int | None) -> int:
    """Number of scales of a matrix; `default` group length where the scheme states none (None = one an output)."""
    if args.strategy == "tensor":
        return 1
    if args.strategy == "block":
        edge = args.group_size or 128
        return _ceil(rows, edge) * _ceil(cols, edge)
    group = args.group_size if args.strategy == "group" else None if args.strategy == "channel" else default
    return rows * _ceil(cols, group or cols)


def gptq(rows: int, cols: int, args: QuantArgs, activations: QuantArgs | None) -> LinearBytes:
    """GPTQ v1: i32 qweight, qzeros (also when symmetric), f16 scales, i32 g_idx (with or without activation order).

    AutoGPTQ/AutoGPTQ@9f7d370 `auto_gptq/nn_modules/qlinear/qlinear_cuda_old.py`, ModelCloud/GPTQModel@f4c327a
    `gptqmodel/nn_modules/qlinear/__init__.py`. AutoGPTQ's all-zero biases of 2023 (2 O bytes) are not counted.
    """
    groups = _scales(rows, cols, args, 128) // rows or 1
    return _packed(cols, args.num_bits) * rows, groups * _packed(rows, args.num_bits) + 2 * groups * rows + 4 * cols


def awq(rows: int, cols: int, args: QuantArgs, activations: QuantArgs | None) -> LinearBytes:
    """AWQ GEMM: packed codes and zero points, f16 scales. casper-hansen/AutoAWQ@88e4c76 `awq/modules/linear/gemm.py`."""
    groups = _scales(rows, cols, args, 128) // rows or 1
    return _packed(rows, args.num_bits) * cols, groups * _packed(rows, args.num_bits) + 2 * groups * rows


def compressed_tensors(rows: int, cols: int, args: QuantArgs, activations: QuantArgs | None) -> LinearBytes:
    """compressed-tensors: packed codes for integer weights alone, one byte a code for FP8 and beside quantized activations.

    vllm-project/compressed-tensors@ac8e2ba `src/compressed_tensors/compressors/`: `pack_quantized/base.py` (16-bit scales,
    two i64 for the shape, zero points packed along O), `nvfp4/base.py` (f8 scale per 16, f32 global scales), `mxfp4`.
    """
    elements = rows * cols
    if args.dtype in ("mxfp", "mxint"):
        return _ceil(round(elements * args.num_bits), 8), rows * _ceil(cols, args.group_size or 32)
    if args.dtype == "nvfp":
        return _ceil(elements, 2), rows * _ceil(cols, args.group_size or 16) + (4 if activations is None else 8)
    if args.dtype in ("codebook", "binary"):
        return _ceil(round(elements * args.num_bits), 8), 0
    # Beside quantized activations every integer takes a byte, four bits too: Llama-3.1-8B W4A8 is published with 9.19 GB.
    plain = activations is not None or (args.num_bits == 8 and args.dtype != "int")
    static = 2 if activations is not None and activations.strategy == "tensor" and not activations.dynamic else 0
    if plain:
        scales = _scales(rows, cols, args, 128 if args.num_bits < 8 else None)
        return elements, (3 if args.symmetric is False else 2) * scales + static
    scales = _scales(rows, cols, args, 128 if args.dtype == "int" else None)
    zeros = scales // rows * _packed(rows, args.num_bits) if args.symmetric is False else 0
    return _packed(cols, args.num_bits) * rows, 2 * scales + zeros + 16 + static


def native_fp8(rows: int, cols: int, args: QuantArgs, activations: QuantArgs | None) -> LinearBytes:
    """FP8 with f32 `weight_scale_inv` per 128 x 128 block, as DeepSeek-V3 and Qwen publish it."""
    return rows * cols, 4 * _scales(rows, cols, args, None)


def bitsandbytes(rows: int, cols: int, args: QuantArgs, activations: QuantArgs | None) -> LinearBytes:
    """NF4, FP4 and LLM.int8.

    bitsandbytes-foundation/bitsandbytes@01327aa `bitsandbytes/functional.py` quantize_4bit (blocks of 64 over the flat
    tensor, f32 absmax; double quantization: u8 absmax, f32 per 256 of them, a map of 1 KiB; 154 bytes of code map and state)
    and @005a63c `bitsandbytes/nn/modules.py` (one f32 an output, one byte of format).
    """
    elements = rows * cols
    if args.num_bits == 8:
        return elements, 4 * rows + 1
    blocks = _ceil(elements, args.group_size or 64)
    scales = blocks + 4 * _ceil(blocks, 256) + 1024 if args.type_name == "double_quant" else 4 * blocks
    return _ceil(elements, 2), scales + 154


def hqq(rows: int, cols: int, args: QuantArgs, activations: QuantArgs | None) -> LinearBytes:
    """HQQ: codes in bytes (3 bits: ten in 32), 16-bit scale and zero a group. mobiusml/hqq@e0b1d00 `hqq/core/quantize.py`."""
    elements, bits = rows * cols, args.num_bits
    codes = 4 * _ceil(elements, 10) if bits == 3 else _ceil(elements * (int(bits) if bits in (1, 2, 4) else 8), 8)
    return codes, 4 * _scales(rows, cols, args, 64)


def quanto(rows: int, cols: int, args: QuantArgs, activations: QuantArgs | None) -> LinearBytes:
    """optimum-quanto: 2 and 4 bits with scale and shift a group, 8 bits with a scale an output.

    huggingface/optimum-quanto@e33f820 `optimum/quanto/nn/qmodule.py`, `tensor/weights/qbits.py`: the group of 128 falls by
    32 to a divisor of the row.
    """
    if args.num_bits == 8:
        return rows * cols, 2 * rows
    group = args.group_size or next((g for g in (128, 96, 64, 32) if cols % g == 0), cols)
    return _ceil(round(rows * cols * args.num_bits), 8), 4 * rows * _ceil(cols, group)


def torchao(rows: int, cols: int, args: QuantArgs, activations: QuantArgs | None) -> LinearBytes:
    """torchao: int4 with 16-bit scale and zero a group, int8 and float8 with a scale an output.

    pytorch/ao@36027d8 `torchao/quantization/quant_api.py`, `quantize_/workflows/int4/`; the padding of the tile-packed
    layout is not counted.
    """
    if args.num_bits == 8:
        return rows * cols, 2 * _scales(rows, cols, args, None)
    return _ceil(round(rows * cols * args.num_bits), 8), 4 * _scales(rows, cols, args, 128)


def exl2(rows: int, cols: int, args: QuantArgs, activations: QuantArgs | None) -> LinearBytes:
    """EXL2: the stated bits are the mean over the layers' matrices and include scales and permutation.

    turboderp-org/exllamav2@da07fac `exllamav2/conversion/qparams.py` total_bits.
    """
    return _ceil(round(rows * cols * args.num_bits), 8), 0


def exl3(rows: int, cols: int, args: QuantArgs, activations: QuantArgs | None) -> LinearBytes:
    """EXL3: trellis of K bits, 16-bit signs of rows and columns. turboderp-org/exllamav3@4f8ad01 `modules/quant/exl3.py`."""
    return _ceil(round(rows * cols * args.num_bits), 8), 2 * (rows + cols)


def mlx(rows: int, cols: int, args: QuantArgs, activations: QuantArgs | None) -> LinearBytes:
    """MLX affine: packed codes, 16-bit scale and bias a group. ml-explore/mlx-lm@d78bf58 `mlx_lm/utils.py`."""
    return _packed(cols, args.num_bits) * rows, 4 * _scales(rows, cols, args, 64)


CONTAINERS: dict[str, Container] = {
    container.name: container
    for container in (
        Container(name="gptq", title="GPTQ", linear=gptq),
        Container(name="awq", title="AWQ GEMM", linear=awq),
        Container(name="compressed-tensors", title="compressed-tensors", linear=compressed_tensors),
        Container(name="fp8", title="FP8 with 32-bit block scales", linear=native_fp8),
        Container(name="bitsandbytes", title="bitsandbytes", linear=bitsandbytes),
        Container(name="hqq", title="HQQ", linear=hqq),
        Container(name="quanto", title="optimum-quanto", linear=quanto),
        Container(name="torchao", title="torchao", linear=torchao, head=True, whole_groups=True),
        Container(name="exl2", title="EXL2", linear=exl2, head=True, head_bits=6),
        Container(name="exl3", title="EXL3", linear=exl3, head=True, head_bits=6),
        Container(name="mlx", title="MLX", linear=mlx, embedding=True, head=True, whole_groups=True),
        # Exports of other tools in the layout of another container.
        Container(name="modelopt", title="ModelOpt", linear=compressed_tensors),
        Container(name="auto-round", title="AutoRound", linear=gptq),
        Container(name="fp-quant", title="FP-Quant", linear=compressed_tensors),
    )
}
"""Every format but GGUF and plain 16-bit safetensors, by the name that engines use."""

CONVENTION = "compressed-tensors"
"""Format by which a number format without a container of its own is counted (3-bit RTN and other simulated formats)."""


def default_format(scheme: QuantScheme, method: str = "rtn") -> str:
    """The checkpoint format that tools write for `scheme` and `method` (a name of `knowledge.recipes`)."""
    if scheme.file_type:
        return scheme.file_type.split(":")[0]
    weights = scheme.weights
    if weights is None:
        return "safetensors"
    weight_only = scheme.a_bits == UNQUANTIZED_BITS
    if weights.dtype == "nf" or (weights.dtype == "fp" and weights.num_bits == 4) or method == "llm.int8":
        return "bitsandbytes"
    if method in ("hqq", "quanto"):
        return method
    if weights.dtype == "int" and weight_only:
        if method.startswith(("gptq", "gptaq")) and weights.num_bits in (2, 3, 4, 8):
            return "gptq"
        if method == "awq" and weights.num_bits == 4:
            return "awq"
    return CONVENTION
