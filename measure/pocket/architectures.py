"""Configurations of small models: Llama-like with grouped queries, and other families of the same shape."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from measure.pocket.train import Size


def make_config(architecture: str, size: "Size", *, vocabulary: int, context: int) -> Any:
    """The configuration of transformers for `architecture` (`llama`, `opt`, `falcon`, `bloom`, `gemma2`, …).

    Raises:
        KeyError: transformers has no architecture of that name.
    """
    from transformers import AutoConfig

    shared: dict[str, Any] = {
        "vocab_size": vocabulary,
        "tie_word_embeddings": True,
        "bos_token_id": 0,
        "eos_token_id": 0,
        "pad_token_id": 0,
    }
    own: dict[str, dict[str, Any]] = {
        "opt": {
            "hidden_size": size.hidden, "word_embed_proj_dim": size.hidden, "num_hidden_layers": size.layers,
            "num_attention_heads": size.heads, "ffn_dim": size.inner * 3 // 2, "max_position_embeddings": context,
            "dropout": 0.0,
        },
        "bloom": {
            "hidden_size": size.hidden, "n_layer": size.layers, "n_head": size.heads, "seq_length": context,
            "hidden_dropout": 0.0, "attention_dropout": 0.0,
        },
        "falcon": {
            "hidden_size": size.hidden, "num_hidden_layers": size.layers, "num_attention_heads": size.heads,
            "ffn_hidden_size": size.inner * 3 // 2, "max_position_embeddings": context, "new_decoder_architecture": False,
            "multi_query": True, "parallel_attn": True, "bias": False,
        },
    }  # fmt: skip
    common: dict[str, Any] = {
        "hidden_size": size.hidden, "intermediate_size": size.inner, "num_hidden_layers": size.layers,
        "num_attention_heads": size.heads, "num_key_value_heads": size.heads // 2, "head_dim": size.hidden // size.heads,
        "max_position_embeddings": context,
    }  # fmt: skip
    return AutoConfig.for_model(architecture, **shared, **own.get(architecture, common))
