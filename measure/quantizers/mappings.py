"""Which layers a smoothing method may scale against each other, by family.

A mapping names a norm and the linear layers that read its output and nothing else does: dividing the norm's weight (and
bias) by a vector and multiplying the layers' columns by it leaves the model as it was. The table holds the families whose
default mapping in llm-compressor 0.14.0.1 is missing, or changes the model (Gemma 2, Phi); for the others None.
"""

_LAYER = r"re:.*layers\.\d+\."
_BLOCK = r"re:.*h\.\d+\."
_QKV = ("re:.*q_proj$", "re:.*k_proj$", "re:.*v_proj$")

Mapping = tuple[str, tuple[str, ...]]
"""A norm, and the layers that it feeds, as regular expressions over module names."""

MAPPINGS: dict[str, tuple[Mapping, ...]] = {
    "opt": ((rf"{_LAYER}self_attn_layer_norm$", _QKV), (rf"{_LAYER}final_layer_norm$", ("re:.*fc1$",))),
    "falcon": ((rf"{_BLOCK}input_layernorm$", ("re:.*query_key_value$", "re:.*dense_h_to_4h$")),),
    "bloom": (
        (rf"{_BLOCK}input_layernorm$", ("re:.*query_key_value$",)),
        (rf"{_BLOCK}post_attention_layernorm$", ("re:.*dense_h_to_4h$",)),
    ),
    "glm": ((rf"{_LAYER}input_layernorm$", _QKV), (rf"{_LAYER}post_attention_layernorm$", ("re:.*gate_up_proj$",))),
    "phi": ((rf"{_LAYER}input_layernorm$", (*_QKV, "re:.*fc1$")),),
    "gemma2": (
        (rf"{_LAYER}input_layernorm$", _QKV),
        (rf"{_LAYER}pre_feedforward_layernorm$", ("re:.*gate_proj$", "re:.*up_proj$")),
    ),
    "mamba": ((rf"{_LAYER}norm$", ("re:.*in_proj$",)),),
}
"""`model_type` -> mappings; a family that is not here has a right default in llm-compressor."""


def mappings_for(family: str) -> tuple[Mapping, ...] | None:
    """The mappings of a family, None where the library's own are right."""
    return MAPPINGS.get(family)
