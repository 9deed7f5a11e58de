"""Tensors that only Gemma-3n has: embeddings of each layer, alternating updates (AltUp) and low-rank residuals (LAuReL).

Read from huggingface/transformers `src/transformers/models/gemma3n/modeling_gemma3n.py` and the defaults of its
`configuration_gemma3n.py`, which the published models use.
"""

from collections.abc import Iterator

from knowledge.tensor_rules import Kind, Tensor

_VOCAB = 262_144
"""Entries of the per-layer embedding (`vocab_size_per_layer_input`); the usual table has 256 more for images and sound."""
_WIDTH = 256
"""Width of one layer's embedding (`hidden_size_per_layer_input`)."""
_INPUTS = 4
"""Copies of the residual that AltUp keeps (`altup_num_inputs`)."""
_RANK = 64
"""`laurel_rank`."""


def gemma3n_tensors(hidden: int, layers: tuple[int, ...]) -> Iterator[Tensor]:
    """What comes on top of a Gemma-3 layer; the small AltUp and LAuReL matrices stay unquantized in GGUF files."""
    wide = len(layers) * _WIDTH
    yield _matrix("per_layer_token_embd", _VOCAB, wide, kind="embedding")
    yield _matrix("per_layer_model_proj", wide, hidden)
    yield _matrix("per_layer_proj_norm", 1, _WIDTH, kind="vector")
    yield _matrix("altup_proj", (_INPUTS - 1) * hidden, hidden)
    yield _matrix("altup_unembd_proj", (_INPUTS - 1) * hidden, hidden)
    for role, rows, cols in (
        ("altup_correct_coef", _INPUTS, _INPUTS),
        ("altup_predict_coef", _INPUTS**2, _INPUTS),
        ("altup_router", _INPUTS, hidden),
        ("laurel_l", _RANK, hidden),
        ("laurel_r", hidden, _RANK),
    ):
        yield _matrix(role, rows, cols, layers)
    for role in ("altup_correct_scale", "altup_router_norm", "laurel_post_norm", "post_norm"):
        yield _matrix(role, 1, hidden, layers, kind="vector")
    yield _matrix("inp_gate", _WIDTH, hidden, layers, kind="linear")
    yield _matrix("proj", hidden, _WIDTH, layers, kind="linear")


def _matrix(role: str, rows: int, cols: int, layers: tuple[int, ...] = (), *, kind: Kind = "other") -> Tensor:
    return Tensor(role=role, kind=kind, rows=rows, cols=cols, layers=layers)
