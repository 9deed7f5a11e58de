"""ChatGLM2 and ChatGLM3 checkpoints as transformers' native GLM: configuration, weights and tokenizer, no remote code.

Their published code does not run under transformers 5, but the architecture is GLM's: with the renaming below a ChatGLM3 of
random weights gave identical logits in both. ChatGLM2 has the same tensors and was not compared.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from knowledge.errors import InvalidModelError
from measure.models import ModelSource

if TYPE_CHECKING:
    from torch import Tensor

_ROOT = {
    "transformer.embedding.word_embeddings.weight": "model.embed_tokens.weight",
    "transformer.encoder.final_layernorm.weight": "model.norm.weight",
    "transformer.output_layer.weight": "lm_head.weight",
}
_IN_LAYER = {
    "input_layernorm": "input_layernorm",
    "post_attention_layernorm": "post_attention_layernorm",
    "self_attention.dense": "self_attn.o_proj",
    "mlp.dense_h_to_4h": "mlp.gate_up_proj",
    "mlp.dense_4h_to_h": "mlp.down_proj",
}
_LAYERS = "transformer.encoder.layers."
_FUSED = "self_attention.query_key_value"
_SPECIAL_TOKENS = ("[MASK]", "[gMASK]", "[sMASK]", "sop", "eop")
"""Tokens that follow the SentencePiece vocabulary, in the order of the published tokenizer."""

_EXPECTED = {
    "rmsnorm": True,
    "add_bias_linear": False,
    "apply_residual_connection_post_layernorm": False,
    "post_layer_norm": True,
}
"""Switches of the published configuration, with the only values that GLM's layers implement."""


def glm_config(source: ModelSource) -> Any:
    """The GLM configuration that a ChatGLM configuration means.

    Raises:
        InvalidModelError: a variant that GLM's layers do not implement, or a field that is missing.
    """
    from transformers import GlmConfig

    make: Any = GlmConfig  # fields such as partial_rotary_factor are taken, but not declared
    old = source.config
    for name, expected in _EXPECTED.items():
        if old.get(name, expected) != expected:
            raise InvalidModelError(
                f"ChatGLM with {name}={old[name]} cannot be converted", given=source.name, allowed=f"{name}={expected}"
            )
    if old.get("rope_ratio", 1) != 1:
        raise InvalidModelError(
            f"ChatGLM with rope_ratio={old['rope_ratio']} cannot be converted",
            given=source.name,
            hint="its versions scale positions differently; the conversion was only checked for a ratio of 1",
        )
    try:
        heads = old["num_attention_heads"]
        return make(
            vocab_size=old["padded_vocab_size"],
            hidden_size=old["hidden_size"],
            intermediate_size=old["ffn_hidden_size"],
            num_hidden_layers=old["num_layers"],
            num_attention_heads=heads,
            num_key_value_heads=old["multi_query_group_num"] if old.get("multi_query_attention") else heads,
            head_dim=old["kv_channels"],
            partial_rotary_factor=0.5,
            attention_bias=bool(old.get("add_qkv_bias")),
            rms_norm_eps=old["layernorm_epsilon"],
            max_position_embeddings=old["seq_length"],
            tie_word_embeddings=False,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
        )
    except KeyError as error:
        raise InvalidModelError(f"the ChatGLM configuration lacks {error.args[0]}", given=source.name) from error


def glm_weights(source: ModelSource, config: Any) -> dict[str, "Tensor"]:
    """The weights of a ChatGLM checkpoint under GLM's names, the fused query, key and value matrix split.

    Raises:
        InvalidModelError: a tensor that the conversion does not know.
    """
    from safetensors import safe_open

    found: dict[str, Tensor] = {}
    for file in source.weight_files:
        with safe_open(file, framework="pt") as stored:
            for name in stored.keys():  # noqa: SIM118 - the handle is no dictionary
                found |= _renamed(name, stored.get_tensor, config, source)
    return found


def _renamed(name: str, read: Callable[[str], "Tensor"], config: Any, source: ModelSource) -> Mapping[str, "Tensor"]:
    if name.endswith("rotary_pos_emb.inv_freq"):
        return {}
    if name in _ROOT:
        return {_ROOT[name]: read(name)}
    number, _, rest = name.removeprefix(_LAYERS).partition(".")
    part, _, kind = rest.rpartition(".")
    if name.startswith(_LAYERS) and part == _FUSED:
        query, shared = config.num_attention_heads * config.head_dim, config.num_key_value_heads * config.head_dim
        pieces = read(name).split([query, shared, shared])
        stem = f"model.layers.{number}.self_attn"
        return {f"{stem}.{letter}_proj.{kind}": piece.contiguous() for letter, piece in zip("qkv", pieces, strict=True)}
    if name.startswith(_LAYERS) and part in _IN_LAYER:
        return {f"model.layers.{number}.{_IN_LAYER[part]}.{kind}": read(name)}
    raise InvalidModelError(f"unknown tensor {name} in a ChatGLM checkpoint", given=source.name)


def load_glm(source: ModelSource, dtype: Any) -> tuple[Any, list[str]]:
    """The model, and the names of weights that the checkpoint lacks."""
    from transformers import GlmForCausalLM

    config = glm_config(source)
    model = GlmForCausalLM(config).to(dtype)
    report = model.load_state_dict(glm_weights(source, config), strict=False)
    return model, sorted(report.missing_keys)


def load_tokenizer(source: ModelSource) -> Any:
    """The tokenizer in `tokenizer.model`, read with sentencepiece; the prefix `[gMASK] sop` of chats is not added to texts.

    Raises:
        InvalidModelError: there is no such file.
    """
    from transformers.tokenization_utils_sentencepiece import SentencePieceBackend

    file = source.path / "tokenizer.model"
    if not file.is_file():
        raise InvalidModelError(
            f"no tokenizer.model in {source.path}", given=str(source.path), allowed="ChatGLM's SentencePiece file"
        )
    names = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>", "pad_token": "<unk>"}
    tokenizer = SentencePieceBackend(vocab_file=str(file), **names)
    tokenizer.add_tokens(list(_SPECIAL_TOKENS), special_tokens=True)
    return tokenizer
