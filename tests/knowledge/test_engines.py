"""The engine catalogue: every row complete and sourced, names that parse, and lookups."""

from pathlib import Path

import pytest

from knowledge.engines import EngineFormat, EngineKv, all_engines, find_engine, find_formats, number_format, runs_on, serve_hint
from knowledge.errors import UnknownNameError
from knowledge.hardware import HardwareSpec, find_hardware
from knowledge.kv_cache import bytes_per_element
from knowledge.schemes import QuantScheme, parse_kv, parse_scheme

FORMATS = [row for engine in all_engines() for row in engine.formats]
CACHES = [row for engine in all_engines() for row in engine.kv]


@pytest.mark.parametrize("row", FORMATS, ids=lambda row: f"{row.engine} {row.row}")
def test_format_row(row: EngineFormat) -> None:
    assert row.source
    assert row.vendors
    assert set(row.vendors) <= set(find_engine(row.engine).vendors)
    assert all(text == text.strip() and text for text in row.number_formats)
    low, high = row.min_compute_capability, row.max_compute_capability
    assert low is None or high is None or low <= high
    if row.kernel != "unknown" or row.relative_speed is not None:
        assert row.notes, "a judgement on a kernel names its source"
    if row.relative_speed is not None:
        assert (row.kernel == "slow") == (row.relative_speed < 1)


@pytest.mark.parametrize("row", CACHES, ids=lambda row: f"{row.engine} {row.name}")
def test_kv_row(row: EngineKv) -> None:
    kv = parse_kv(row.name)
    assert row.source
    assert QuantScheme(kv_cache=kv).kv_name == row.name
    assert (kv is None) == (row.name == "kv16")
    assert kv is None or row.flag
    # Where the format itself fixes the size, the engine's row agrees with it.
    if row.name not in ("kv6g32", "kv5g32", "kv3g32", "kv2g32", "kv3g64"):
        assert row.bytes_per_element(128) == pytest.approx(bytes_per_element(kv, 128))


@pytest.mark.parametrize("engine", all_engines(), ids=lambda engine: engine.name)
def test_every_engine_runs_something(engine: object) -> None:
    spec = find_engine(engine.name)  # type: ignore[attr-defined]
    assert spec.source
    assert spec.cache.notes
    assert spec.find_kv("kv16")
    assert spec.find_kv("kivi2") is None
    assert any(row.number_formats for row in spec.formats)
    assert spec.cache_policy in ("full", "window", "paged")
    assert len({row.name for row in spec.kv}) == len(spec.kv)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("vLLM", "vllm"),
        ("llamacpp", "llama.cpp"),
        ("trt-llm", "tensorrt-llm"),
        ("mlx_lm", "mlx"),
        ("HF", "transformers"),
        (" ollama ", "ollama"),
    ],
)
def test_find_engine(text: str, name: str) -> None:
    assert find_engine(text).name == name


def test_find_engine_lists_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="did you mean vllm") as caught:
        find_engine("vlllm")
    assert "vllm" in (caught.value.allowed or [])


@pytest.mark.parametrize(
    ("scheme", "expected"),
    [
        ("w16a16", "w16a16"),
        ("w4a16-g128-asym-kv8", "w4a16"),
        ("w8a8-channel", "w8a8"),
        ("w4afp8-g128", "w4afp8"),
        ("fp8-tensor-astatic", "fp8-astatic"),
        ("fp8-block", "fp8-block"),
        ("fp8a16-channel", "fp8a16"),
        ("nf4-dq", "nf4-dq"),
        ("mxfp4a16", "mxfp4a16"),
        ("gguf:q4_k_m", "gguf:k"),
        ("gguf:ud-q4_k_xl", "gguf:k"),
        ("gguf:q8_0", "gguf:legacy"),
        ("gguf:iq2_xxs", "gguf:i"),
        ("gguf:tq1_0", "gguf:ternary"),
        ("gguf:iq4_kt", "gguf:other"),
        ("gguf:f16", "gguf:16"),
        ("exl2:4.0bpw", "exl2"),
        ("mlx:q4", "mlx"),
    ],
)
def test_number_format(scheme: str, expected: str) -> None:
    assert number_format(parse_scheme(scheme)) == expected


@pytest.mark.parametrize(
    ("engine", "checkpoint", "scheme", "rows"),
    [
        pytest.param("vllm", "gptq", "w4a16-g128", ["gptq-marlin", "gptq"], id="fast kernel first"),
        pytest.param("vllm", "gptq", "w3a16-g128", ["gptq"], id="bits"),
        pytest.param("vllm", "gptq", "w4a16-g16", ["gptq"], id="group"),
        pytest.param("vllm", "gguf", "gguf:tq1_0", [], id="type"),
        pytest.param("exllamav2", "exl2", "exl2:3.5bpw", ["exl2"], id="file type"),
        pytest.param("llama.cpp", "gptq", "w4a16-g128", [], id="format"),
    ],
)
def test_find_formats(engine: str, checkpoint: str, scheme: str, rows: list[str]) -> None:
    assert [row.row for row in find_formats(engine, checkpoint, parse_scheme(scheme))] == rows


@pytest.mark.parametrize(
    ("device", "low", "high", "reason"),
    [
        pytest.param("rtx-3090", 8.0, None, None, id="enough"),
        pytest.param("rtx-3090", 8.9, None, "needs compute capability 8.9, rtx-3090 has 8.6", id="too old"),
        pytest.param("b200", 8.0, 9.0, "ends at compute capability 9.0", id="too new"),
        pytest.param("a10g", 8.9, None, None, id="not known of the device"),
        pytest.param("mi300x", 8.9, None, "not on amd", id="vendor"),
    ],
)
def test_runs_on(device: str, low: float, high: float | None, reason: str | None) -> None:
    found = runs_on(("nvidia",), low, high, find_hardware(device))
    assert found == reason if reason is None else reason in (found or "")


def test_no_hardware_is_no_limit() -> None:
    assert runs_on(("nvidia",), 9.0, None, None) is None
    assert runs_on((), None, None, HardwareSpec(name="any", vendor="cpu", source="test")) is None


@pytest.mark.parametrize(
    ("engine", "checkpoint", "scheme", "context", "line"),
    [
        ("vllm", "gptq", "w4a16-g128-kvfp8", 32768, "vllm serve MODEL --kv-cache-dtype fp8 --max-model-len 32768"),
        ("llama.cpp", "gguf", "gguf:q4_k_m-kvq8_0", 8192, "llama-server -m MODEL.gguf -ctk q8_0 -ctv q8_0 -fa on -c 8192"),
        ("lmdeploy", "awq", "w4a16-g128-asym-kv8", None, "lmdeploy serve api_server MODEL --model-format awq --quant-policy 8"),
        ("ollama", "gguf", "gguf:q4_k_m", 8192, "OLLAMA_CONTEXT_LENGTH=8192 ollama serve"),
        (
            "transformers", "bitsandbytes", "nf4", 8192,
            "AutoModelForCausalLM.from_pretrained(MODEL) with quantization_config=BitsAndBytesConfig(load_in_4bit=True)",
        ),
        ("transformers", "safetensors", "w16a16", None, "AutoModelForCausalLM.from_pretrained(MODEL)"),
    ],
)  # fmt: skip
def test_serve_hint(engine: str, checkpoint: str, scheme: str, context: int | None, line: str) -> None:
    parsed = parse_scheme(scheme)
    hint = serve_hint(engine, checkpoint, parsed.kv_cache, scheme=parsed, context=context)
    assert hint.line == line
    assert hint.sources


def test_the_documentation_tells_every_engines_policy() -> None:
    page = (Path(__file__).parents[2] / "docs" / "concepts" / "engines.md").read_text(encoding="utf-8")
    for engine in all_engines():
        assert f"| {engine.name} | {engine.cache.block} |" in page


def test_serve_hint_without_a_scheme_takes_the_formats_first_row() -> None:
    assert serve_hint("sglang", "gguf", None).options == ("--load-format gguf",)
    assert serve_hint("sglang", "gguf", parse_kv("kvq8_0")).options == ("--load-format gguf",)
