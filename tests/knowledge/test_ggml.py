"""Block layouts against gguf-py, and the table of file types."""

import pytest

from knowledge.ggml import GGML_TYPES, GGUF_FILE_TYPES


def test_block_sizes_are_those_of_gguf_py() -> None:
    from gguf.constants import GGML_QUANT_SIZES

    theirs = {kind.name.lower(): size for kind, size in GGML_QUANT_SIZES.items()}
    common = GGML_TYPES.keys() & theirs.keys()
    assert len(common) >= 28
    assert {name: (GGML_TYPES[name].block, GGML_TYPES[name].bytes) for name in common} == {
        name: theirs[name] for name in common
    }


@pytest.mark.parametrize(
    ("name", "bits"),
    [("q4_0", 4.5), ("q8_0", 8.5), ("q4_k", 4.5), ("q6_k", 6.5625), ("iq2_xxs", 2.0625), ("mxfp4", 4.25), ("nvfp4", 4.5)],
)
def test_bits_per_weight(name: str, bits: float) -> None:
    assert GGML_TYPES[name].bits_per_weight == bits


@pytest.mark.parametrize("name", GGUF_FILE_TYPES)
def test_every_file_type_has_a_known_base_type(name: str) -> None:
    assert GGUF_FILE_TYPES[name].base_type in GGML_TYPES
