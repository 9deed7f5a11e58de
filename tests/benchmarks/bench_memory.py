"""Computed checkpoint sizes against published ones, side by side with the constants of other tools.

Run `python tests/benchmarks/bench_memory.py [--all]`; it prints tables and exits 0. `--all` lists every row beyond 2 %.

Fixed before anything was scored:

- a row counts if its size was printed to at least 1 % (half a unit of the last digit; `rounding_bytes <= 0.01 size_bytes`),
  its model is in the catalogue with its whole shape, and llama.cpp's own rules (or the format's layout) apply to its type;
- files made by recipes of their own are reported apart: unsloth UD, ubergarm, ik_llama.cpp, every gpt-oss file (experts
  stay MXFP4), GGML files from before GGUF, and formats that hold more than the weights;
- no constant is fitted on these rows, but for the bytes per vocabulary entry of ten tokenizers (`knowledge.gguf_mix`),
  which were measured on the byte-exact rows as file minus tensors; "tensors only" leaves them out.

The age of a file and its publisher's habits are options, set by publisher and release date and never row by row by size (see
`OPTIONS`); several were added or corrected after a first look at the sizes, so that the line without options is the blind one.

The error is |computed / published - 1|; rounding is not forgiven.
"""

import argparse
import re
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache

from knowledge.catalogue import find_model
from knowledge.errors import QAdvisorError
from knowledge.filesizes import FileSize, load_filesizes
from knowledge.ggml import GGUF_FILE_TYPES
from knowledge.gguf_mix import ALIASES, GgufOptions, gguf_bytes
from knowledge.models import ModelSpec
from knowledge.schemes import parse_scheme
from knowledge.tensors import is_tied, missing_facts, params_total
from knowledge.weights import weights_bytes

MAX_ROUNDING = 0.01

LISTED = "2026-01-01"
"""Default age: the listings hold files from before llama.cpp's change of fused QKV matrices in spring 2026."""

OPTIONS: tuple[tuple[str, dict[str, str | bool]], ...] = (
    # What publishers say they do: bartowski, and lmstudio-community whose files he makes, quantize with an importance matrix.
    (
        r"\((?:bartowski|lmstudio-community)/|json bartowski|json lmstudio-community|huggingface.co/bartowski/",
        {"imatrix": True},
    ),
    # llama.cpp's own table says which of its rows were made with one.
    (r"importance matrix", {"imatrix": True}),
    # TheBloke's Mixtral files are of the week in which llama.cpp learned Mixtral (his card says so).
    (r"TheBloke/Mixtral-8x7B", {"era": "2023-12"}),
    # Ollama keeps the files with which a model came into its library: 2023, Qwen-1.5 (2024-02-05), Gemma and StarCoder2.
    (
        r"library/(llama2|codellama:(7|13|34)b|deepseek-llm|mistral:7b-(text|instruct)-(v0.2-)?f?p?q?\d|phi:|solar|tinyllama|vicuna"
        r"|yi:\d+b-chat-q|zephyr|falcon:|orca|wizard|openchat|openhermes|starling)",
        {"era": "2023"},
    ),
    (r"library/qwen:.*-v1\.5-", {"era": "2024-02-05"}),
    (r"library/(gemma:\db-(text|instruct)-(q|fp)|starcoder2)", {"era": "2024-02-28"}),
    # Qwen's own GGUF files of tied models carry the head once more.
    (r"\(Qwen/|json Qwen\b", {"separate_output": True}),
    # unsloth's Q2_K_L is Q2_K with the embedding table of an untied model at Q4_K (bartowski's has table and head at Q8_0).
    (r"unsloth.* gguf:q2_k_l$", {"file_type": "q2_k", "token_embedding_type": "q4_k"}),
    # bartowski's first _L files (June 2024) have embedding table and head at F16 instead of Q8_0.
    (r"bartowski/DeepSeek-Coder-V2-Lite.*:q[2456]_k_l$", {"token_embedding_type": "f16", "output_tensor_type": "f16"}),
)
"""Pattern in reference, note and format of a row, and the options of the GGUF file that follow."""

_LARGER_MPT = 3912373472

APART = re.compile(r"^gguf:(ud-|iqk|.*_r4)|^ggmlv3|ubergarm|library/gemma3:(4|12|27)b")
"""Recipes of their own, and Ollama's Gemma-3 files, which hold the vision tower too."""

WHY: tuple[tuple[str, str], ...] = (
    (r"qwen3\.[56]-(0|27)", "bartowski raises tensors of the linear layers to Q8_0 and F32, as his card says"),
    (
        r"qwen3\.[56]-35b|gemma-4-26b",
        "bartowski's own rules for mixtures (llama.cpp PR 12727, not merged); unsloth's recipes",
    ),
    (r"granite-4\.1", "bartowski's files only; unsloth's of the same models agree to 0.5 %"),
    (r"nemotron-nano-9b", "QuantFactory's files only; bartowski's agree to 0.7 %"),
    (r"glm-4\.7-flash", "unsloth's Q2_K and Q3_K_S; its other twelve types agree"),
    (r"^qwen3-(0\.6b|8b)$", "Ollama's sizes fit attn_v at F16, and a head of its own in the 0.6B"),
    (r"gemma-3n", "unsloth's files only, whose per-layer embeddings are larger; bartowski's agree to their rounding"),
    (r"qwen3-coder-next", "unsloth's MXFP4_MOE is larger than the rule's; its recipe is not known"),
    (r"chinese-mixtral", "one repository with files of two ages"),
    (r"^llama-3-8b$", "Q2_K_S is a misprint: the same row says 2.97 bits, which is 2.78 GiB"),
    (r"^phi-4$", "unsloth split the fused QKV matrix"),
    (r"orion-14b", "unit not sure: 8.3 GiB would be 1.1 % more than computed"),
)
"""Pattern in a model's name, and what is known about its rows beyond 2 %."""

QUANTEST = {
    "q8_0": 8.5, "q6_k": 6.59, "q5_k_l": 5.75, "q5_k_m": 5.69, "q5_k_s": 5.54, "q5_0": 5.54, "q4_k_l": 4.9, "q4_k_m": 4.85,
    "q4_k_s": 4.58, "q4_0": 4.55, "iq4_nl": 4.5, "q3_k_l": 4.27, "iq4_xs": 4.25, "q3_k_m": 3.91, "iq3_m": 3.7, "iq3_s": 3.5,
    "q3_k_s": 3.5, "q2_k": 3.35, "iq3_xs": 3.3, "iq3_xxs": 3.06, "iq2_m": 2.7, "iq2_s": 2.5, "iq2_xs": 2.31, "iq2_xxs": 2.06,
    "iq1_s": 1.56,
}  # fmt: skip
"""Bits per weight, sammcj/quantest@206aa99 types.go GGUFMapping."""
LLM_FIT = {
    "iq1_s": (1.56, 1.56, 1.56), "iq1_m": (1.75, 1.75, 1.75), "iq2_xxs": (2.06, 2.06, 2.06), "iq2_m": (2.7, 2.7, 2.7),
    "q2_k": (3.35, 2.63, 6.56), "iq3_xxs": (3.06, 3.06, 3.06), "q3_k_s": (3.5, 3.44, 6.56), "q3_k_m": (3.91, 3.44, 6.56),
    "iq3_m": (3.66, 3.66, 3.66), "q3_k_l": (4.27, 3.44, 6.56), "iq4_xs": (4.25, 4.25, 4.25), "q4_0": (4.55, 4.5, 6.56),
    "q4_k_s": (4.58, 4.5, 6.56), "q4_k_m": (4.83, 4.5, 6.56), "q5_k_s": (5.52, 5.5, 6.56), "q5_k_m": (5.67, 5.5, 6.56),
    "q6_k": (6.56, 6.56, 6.56), "q8_0": (8.5, 8.5, 8.5), "f16": (16, 16, 16), "bf16": (16, 16, 16),
}  # fmt: skip
"""Bits of body, embedding and head, fabiocicerchia/llm-fit@3a38400 internal/quant/quant.go."""
LLMFIT = {"q8_0": 1.05, "q6_k": 0.80, "q5_k_m": 0.68, "q4_k_m": 0.58, "q4_0": 0.58, "q3_k_m": 0.48, "q2_k": 0.37}
"""Bytes per parameter, AlexsJones/llmfit@3f44fd3."""
WHICHLLM = {"q8_0": 1.0625, "q4_k_m": 0.5625, "q2_k": 0.3125}
"""Bytes per parameter, Andyyyy64/whichllm@a897551 (the three that its table was quoted with)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """One published size with the computed ones."""

    row: FileSize
    spec: ModelSpec
    computed: int
    plain: int
    """Computed without options."""
    tensors: int
    """Without header and tokenizer."""

    @property
    def error(self) -> float:
        """Relative error, signed."""
        return self.computed / (self.row.size_bytes or 1) - 1


@cache
def shape_of(name: str) -> ModelSpec | None:
    """The model of that name, None where its name or shape is not known."""
    try:
        spec = find_model(name)
    except QAdvisorError:
        return None
    return None if missing_facts(spec) else spec


def options_of(row: FileSize, spec: ModelSpec) -> dict[str, str | bool]:
    """Options of a GGUF file by its publisher."""
    text = f"{row.ref} {row.note or ''} {row.format}"
    found: dict[str, str | bool] = {"era": LISTED}
    for pattern, options in OPTIONS:
        if re.search(pattern, text):
            found |= options
    if is_tied(spec):
        found.pop("token_embedding_type", None)
        # Of the two published files of MPT-7B-chat the one with a head of its own is the larger one.
        if row.model == "mpt-7b-chat" and row.size_bytes == _LARGER_MPT:
            found["separate_output"] = True
    else:
        found.pop("separate_output", None)
    return found


def file_type(row: FileSize) -> str | None:
    """GGUF type of a row, None where it is no GGUF or a type that llama.cpp's rules do not give."""
    kind, _, name = row.format.partition(":")
    name = {"fp16": "f16", "mxfp4_moe": "mxfp4"}.get(name, name.removesuffix("_4_4").removesuffix("_4_8").removesuffix("_8_8"))
    known = GGUF_FILE_TYPES.get(ALIASES.get(name, name))
    return name if kind == "gguf" and known and known.known_mix else None


def score_gguf(row: FileSize) -> Scored | None:
    """The row with its computed sizes, None where the model's shape or the type's mix are not known."""
    spec, name = shape_of(row.model), file_type(row)
    if spec is None or name is None or not row.size_bytes:
        return None
    options = options_of(row, spec)
    made = str(options.pop("file_type", name))
    size = gguf_bytes(spec, made, GgufOptions(**options))  # type: ignore[arg-type]
    plain = gguf_bytes(spec, name, GgufOptions(era=LISTED))
    return Scored(row=row, spec=spec, computed=size.total, plain=plain.total, tensors=size.tensor_bytes)


def summary(errors: Iterable[float]) -> str:
    """Number, median, 90th percentile, maximum and share within 3 % of absolute errors, in percent."""
    values = sorted(abs(error) for error in errors)
    if not values:
        return f"{0:6d}"
    tenth = values[min(len(values) - 1, int(0.9 * len(values)))]
    within = sum(value <= 0.03 for value in values) / len(values)
    return f"{len(values):6d} {statistics.median(values):10.4%} {tenth:9.3%} {values[-1]:9.2%} {within:8.1%}"


def peers(scored: list[Scored]) -> None:
    """Errors of other tools' constants, and of the computed sizes on the same rows."""
    tables: dict[str, Callable[[Scored, str], float | None]] = {
        "quantest": lambda s, t: _scaled(QUANTEST.get(t), s, 8),
        "llm-fit (Go)": _llm_fit,
        "llmfit": lambda s, t: _scaled(LLMFIT.get(t), s, 1),
        "whichllm": lambda s, t: _scaled(WHICHLLM.get(t), s, 1),
        "bits / 8": lambda s, t: _scaled(GGUF_FILE_TYPES[ALIASES.get(t, t)].bits, s, 8),
    }
    print("\nOther tools' constants with the true parameter count (first line), and qadvisor on the same rows (second)")
    print(f"{'':24s} {'rows':>6s} {'median':>10s} {'p90':>9s} {'max':>9s} {'in 3 %':>8s}")
    for name, predict in tables.items():
        pairs = [(s, predict(s, file_type(s.row) or "")) for s in scored]
        known = [(s, value) for s, value in pairs if value]
        print(f"{name:24s} {summary(value / (s.row.size_bytes or 1) - 1 for s, value in known)}")
        print(f"{'  qadvisor':24s} {summary(s.error for s, _ in known)}")


def _scaled(constant: float | None, scored: Scored, divisor: int) -> float | None:
    return None if constant is None else constant * (params_total(scored.spec) or 0) / divisor


def _llm_fit(scored: Scored, name: str) -> float | None:
    bits = LLM_FIT.get(name)
    if bits is None:
        return None
    spec = scored.spec
    table = (spec.vocab or 0) * (spec.hidden or 0)
    head = 0 if is_tied(spec) else table
    body = (params_total(spec) or 0) - table - head
    return (body * bits[0] + table * bits[1] + head * bits[2]) / 8


def gguf_report(rows: list[FileSize], verbose: bool) -> None:
    """Tables of the GGUF rows."""
    ours = [row for row in rows if row.format.startswith("gguf:")]
    apart = [row for row in ours if _apart(row)]
    main = [row for row in ours if not _apart(row)]
    found = [(row, score_gguf(row)) for row in main]
    scored = [score for _, score in found if score]
    unknown: dict[str, int] = defaultdict(int)
    for row, score in found:
        if score is None:
            unknown[row.model if shape_of(row.model) is None else f"type {row.format}"] += 1
    print(f"GGUF: {len(ours)} rows printed to 1 % or better; {len(apart)} apart, {sum(unknown.values())} not computable")
    print(f"{'':24s} {'rows':>6s} {'median':>10s} {'p90':>9s} {'max':>9s} {'in 3 %':>8s}")
    exact = [s for s in scored if s.row.exact]
    print(f"{'all':24s} {summary(s.error for s in scored)}")
    print(f"{'  no options':24s} {summary(s.plain / (s.row.size_bytes or 1) - 1 for s in scored)}")
    print(f"{'  tensors only':24s} {summary(s.tensors / (s.row.size_bytes or 1) - 1 for s in scored)}")
    print(f"{'known to the byte':24s} {summary(s.error for s in exact)}")
    print(f"{'  no options':24s} {summary(s.plain / (s.row.size_bytes or 1) - 1 for s in exact)}")
    print(f"{'  tensors only':24s} {summary(s.tensors / (s.row.size_bytes or 1) - 1 for s in exact)}")
    for source in sorted({s.row.source for s in scored}):
        print(f"{source:24s} {summary(s.error for s in scored if s.row.source == source)}")
    other = [score for score in (score_gguf(row) for row in apart) if score]
    print(f"{'apart (own recipes)':24s} {summary(s.error for s in other)}")
    peers(scored)
    beyond = sorted((s for s in scored if abs(s.error) > 0.02), key=lambda s: -abs(s.error))
    print(f"\n{len(beyond)} rows beyond 2 %, by model" + ("" if verbose else " (--all lists the rows)"))
    models: dict[str, list[Scored]] = defaultdict(list)
    for s in beyond:
        models[s.row.model].append(s)
    for model, group in sorted(models.items(), key=lambda item: -len(item[1])):
        span = f"{min(s.error for s in group):+.1%} to {max(s.error for s in group):+.1%}"
        print(f"  {model:32s} {len(group):3d} rows, {span}: {why(model)}")
        for s in group if verbose else ():
            rounding = s.row.rounding_bytes / (s.row.size_bytes or 1)
            print(f"    {s.row.format:18s} {s.error:+8.2%} (rounding {rounding:.2%}) {s.row.ref[-90:]}")
    if verbose:
        print("\nnot computable:", ", ".join(f"{name} ({count})" for name, count in sorted(unknown.items())))


def why(model: str) -> str:
    """What is known about rows of `model` beyond 2 %."""
    return next((text for pattern, text in WHY if re.search(pattern, model)), "not explained")


def _apart(row: FileSize) -> bool:
    return bool(APART.search(row.format) or APART.search(row.ref) or "gpt-oss" in row.model or row.source == "ik-llamacpp")


OTHER: tuple[tuple[str, str, str], ...] = (
    (r"^awq$", "awq", "w4a16-g128"),
    (r"^gptq$", "gptq", "w{bits:g}a16{group}"),
    (r"^bnb-4bit$", "bitsandbytes", "nf4"),
    (r"^compressed-tensors:w8a8-int8$", "compressed-tensors", "w8a8"),
    (r"^compressed-tensors:w4a16$", "compressed-tensors", "w4a16-g128"),
    (r"^compressed-tensors:w4a8$", "compressed-tensors", "w8a16-g128"),
    (r"^torchao:int4wo-128$|gemlite", "torchao", "w4a16-g128"),
    (r"^torchao:(int8wo|int8dq|float8wo|float8dq \(PerRow\))$", "torchao", "w8a16-channel"),
)
"""Pattern of a published format, our format, scheme."""


def other_report(rows: list[FileSize]) -> None:
    """Table of the formats besides GGUF, every row."""
    print("\nOther formats")
    errors: list[float] = []
    for row in rows:
        for pattern, container, text in OTHER:
            spec = shape_of(row.model)
            if re.search(pattern, row.format) and spec and row.size_bytes:
                group = "-channel" if row.w_group == -1 else f"-g{row.w_group or 128}"
                scheme = parse_scheme(text.format(bits=row.w_bits, group=group))
                if container == "bitsandbytes" and "unsloth" in row.ref:  # unsloth's uploads use double quantization
                    scheme = parse_scheme("nf4-dq")
                size = weights_bytes(spec, scheme, container).total
                errors.append(size / row.size_bytes - 1)
                sizes = f"{size / 1e9:8.3f} {row.size_bytes / 1e9:8.3f} {errors[-1]:+.2%}"
                note = why(row.model) if abs(errors[-1]) > 0.02 else row.ref[:60]
                print(f"  {row.format:32s} {row.model:44s} {sizes}  {note}")
    print(f"{'':24s} {'rows':>6s} {'median':>10s} {'p90':>9s} {'max':>9s} {'in 3 %':>8s}")
    print(f"{'all':24s} {summary(errors)}")


def speed_report() -> None:
    """Time of all distinct weight formats of a dense model and of a mixture of experts."""
    schemes = [parse_scheme(f"gguf:{name}") for name, kind in GGUF_FILE_TYPES.items() if kind.known_mix]
    schemes += [parse_scheme(f"w{b}a16-g{g}{s}") for b in (2, 3, 4, 5, 6, 8) for g in (32, 64, 128, 256) for s in ("", "-asym")]
    schemes += [parse_scheme(f"exl2:{bits / 4}bpw") for bits in range(8, 33)]
    schemes += [parse_scheme(name) for name in ("w8a8", "fp8", "nf4", "nf4-dq", "nvfp4", "mxfp4", "w16a16", "mlx:q4", "mlx:q8")]
    for name in ("llama-3.1-70b", "mixtral-8x7b"):
        spec = find_model(name)
        start = time.perf_counter()
        for scheme in schemes:
            weights_bytes(spec, scheme)
        print(f"\n{len(schemes)} weight formats of {name}: {(time.perf_counter() - start) * 1e3:.1f} ms", end="")
    print()


def main() -> int:
    """Print all tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--all", action="store_true", help="list every row beyond 2 %%")
    arguments = parser.parse_args()
    rows = [row for row in load_filesizes() if row.size_bytes and row.rounding_bytes <= MAX_ROUNDING * row.size_bytes]
    speed_report()
    gguf_report(rows, arguments.all)
    other_report(rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
