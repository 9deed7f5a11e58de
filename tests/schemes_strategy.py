"""Hypothesis strategy for scheme names over the whole grammar of `knowledge.schemes`."""

from hypothesis import strategies as st

from knowledge.ggml import GGUF_FILE_TYPES

_ACTIVATION_BITS = st.sampled_from(["4", "6", "8", "16"])
_GROUPS = st.sampled_from(["", "-g16", "-g32", "-g64", "-g128", "-g256", "-channel", "-tensor"])
_SYMMETRY = st.sampled_from(["", "-sym", "-asym"])
_GRANULARITY = st.sampled_from(["", "-astatic", "-atensor", "-achannel", "-acluster", "-ag64"])
KV_NAMES = (
    "kv8", "kv4", "kv3", "kv2", "kv8g128", "kv4g64", "kv8tensor", "kv4cluster", "kvfp8", "kvfp4", "kvmxfp4", "kvnvfp4",
    "kvq8_0", "kvq5_1", "kvq4_0", "kviq4_nl", "kvq8_kv", "kivi2", "kivi4", "kivi2g64",
)  # fmt: skip
_FILE_TYPES = st.one_of(
    st.sampled_from(sorted(GGUF_FILE_TYPES)).map("gguf:{}".format),
    st.sampled_from(sorted(GGUF_FILE_TYPES)).map("gguf:{}-pure".format),
    st.integers(20, 80).map(lambda tenths: f"exl2:{tenths / 10}bpw"),
    st.sampled_from(["mlx:q4", "mlx:q8", "mlx:q4g32", "mlx:q6g128", "exl3:2.5bpw"]),
)
_FIXED = st.sampled_from(
    ("w16a16", "fp8", "fp8-block", "fp8-channel", "fp4", "fp4-channel", "nf4", "nf4-dq", "mxfp4", "mxfp6", "mxfp8", "mxfp4a8",
     "mxfp4a16", "nvfp4", "nvfp4a16", "codebook2", "codebook2.3", "codebook4a8", "binary1")
)  # fmt: skip


@st.composite
def _integers(draw: st.DrawFn) -> str:
    bits = draw(st.sampled_from(["1", "2", "2.5", "3", "4", "5", "6", "8", "16"]))
    a_bits = draw(_ACTIVATION_BITS)
    quantized = a_bits != "16"
    float_activations = "fp" if quantized and draw(st.booleans()) else ""
    options = "" if bits == "16" else draw(_GROUPS) + draw(_SYMMETRY)
    return f"w{bits}a{float_activations}{a_bits}{options}" + (draw(_GRANULARITY) if quantized else "")


@st.composite
def _floats(draw: st.DrawFn) -> str:
    a_bits = draw(_ACTIVATION_BITS)
    quantized = a_bits != "16"
    dtype = draw(st.sampled_from(["fp8", "fp6", "fp5", "fp3", "mxint8", "mxint4"]))
    group = draw(st.sampled_from(["-g16", "-g32", "-g128"])) if dtype.startswith("mxint") else draw(_GROUPS)
    integers = "int" if quantized and dtype.startswith("fp") and draw(st.booleans()) else ""
    granularity = draw(_GRANULARITY) if quantized and dtype.startswith("fp") else ""
    return f"{dtype}a{integers}{a_bits}{group}{granularity}"


@st.composite
def scheme_names(draw: st.DrawFn) -> str:
    """Any scheme name, with or without a KV part."""
    weights = draw(st.one_of(_integers(), _floats(), _FIXED, _FILE_TYPES))
    kv = draw(st.sampled_from(["", *(f"-{name}" for name in KV_NAMES)]))
    return weights + kv
