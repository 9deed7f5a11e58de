"""A model's `config.json` as facts: the field names of every architecture, told apart from what the file leaves out.

Nothing of a checkpoint is run: `auto_map` and the code it points to are ignored. What a configuration class would fill in
(`num_key_value_heads` of an old LLaMA) is filled in as the class does it, and said in the notes.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from knowledge.errors import InvalidModelError
from knowledge.model_attention import attention_of, experts_of, state_of
from knowledge.model_fields import Fields, load_json
from knowledge.model_quantized import stored_format
from knowledge.models import ModelSpec

_INNER = ("text_config", "llm_config", "language_config", "language_model_config", "text_model_config", "thinker_config")
"""Where multimodal models keep the language model."""

_ARCHITECTURES = {
    "RWForCausalLM": "FalconForCausalLM",
    "MPTForCausalLM": "MptForCausalLM",
    "BaiChuanForCausalLM": "BaichuanForCausalLM",
    "StableLMEpochForCausalLM": "StableLmForCausalLM",
    "StableLMAlphaForCausalLM": "GPTNeoXForCausalLM",
    "LLaMAForCausalLM": "LlamaForCausalLM",
    "MistralModel": "MistralForCausalLM",
    "ChatGLMForConditionalGeneration": "ChatGLMModel",
    "MixFormerSequentialForCausalLM": "PhiForCausalLM",
    "GPT2LMHeadCustomModel": "GPTBigCodeForCausalLM",
    "LlavaForConditionalGeneration": "LlamaForCausalLM",
    "BloomModel": "BloomForCausalLM",
}
"""Names of classes that checkpoints bring along, to that of the class in transformers."""

_BY_TYPE = {
    "llama": "LlamaForCausalLM", "mistral": "MistralForCausalLM", "mixtral": "MixtralForCausalLM", "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM", "qwen2_moe": "Qwen2MoeForCausalLM", "qwen3_moe": "Qwen3MoeForCausalLM",
    "qwen3_next": "Qwen3NextForCausalLM", "gemma": "GemmaForCausalLM", "gemma2": "Gemma2ForCausalLM",
    "gemma3": "Gemma3ForConditionalGeneration", "gemma3_text": "Gemma3ForCausalLM", "phi": "PhiForCausalLM",
    "phi3": "Phi3ForCausalLM", "falcon": "FalconForCausalLM", "RefinedWeb": "FalconForCausalLM",
    "RefinedWebModel": "FalconForCausalLM", "bloom": "BloomForCausalLM", "opt": "OPTForCausalLM", "mpt": "MptForCausalLM",
    "gpt2": "GPT2LMHeadModel", "gpt_neox": "GPTNeoXForCausalLM", "gptj": "GPTJForCausalLM", "gpt_neo": "GPTNeoForCausalLM",
    "gpt_bigcode": "GPTBigCodeForCausalLM", "stablelm": "StableLmForCausalLM", "stablelm_epoch": "StableLmForCausalLM",
    "chatglm": "ChatGLMModel", "mamba": "MambaForCausalLM", "mamba2": "Mamba2ForCausalLM", "cohere": "CohereForCausalLM",
    "cohere2": "Cohere2ForCausalLM", "olmo": "OlmoForCausalLM", "olmo2": "Olmo2ForCausalLM", "granite": "GraniteForCausalLM",
    "gpt_oss": "GptOssForCausalLM", "deepseek_v2": "DeepseekV2ForCausalLM", "deepseek_v3": "DeepseekV3ForCausalLM",
    "starcoder2": "Starcoder2ForCausalLM", "internlm2": "InternLM2ForCausalLM", "baichuan": "BaichuanForCausalLM",
}  # fmt: skip
"""Class by `model_type`, for files that do not name one."""

_FAMILIES = {
    "RefinedWeb": "falcon", "RefinedWebModel": "falcon", "falcon_mamba": "mamba", "gpt_neox": "gpt-neox", "gptj": "gpt-j",
    "gpt_neo": "gpt-neo", "gpt2": "gpt2", "gpt_bigcode": "starcoder", "mixtral": "mistral", "ministral": "mistral",
    "mistral3": "mistral", "phimoe": "phi", "phi-msft": "phi", "glm4": "glm", "glm4_moe": "glm", "gpt_oss": "gpt-oss",
    "stablelm_epoch": "stablelm", "deepseek_v2": "deepseek", "deepseek_v3": "deepseek", "cohere2": "cohere", "kimi_k2": "kimi",
    "nemotron_h": "nemotron",
}  # fmt: skip
"""Family by `model_type` where it is not the type's first word without digits."""

_QK_NORM_OPEN = ("cohere", "cohere2", "stablelm", "stablelm_epoch", "glm4_moe")
"""Types where the config decides on norms of Q and K; elsewhere the class does (and Llama-4's have no weights)."""

_CONTEXTS = {"FalconForCausalLM": 2048}
"""Default of the configuration class for files that do not state a context."""

_ENCODERS = ("bert", "roberta", "deberta-v2", "distilbert", "t5", "mt5", "bart", "clip", "whisper", "vit")

_NOT_CAUSAL = ("ForMaskedLM", "ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering", "ForPreTraining")

_ONE_KV_HEAD_A_HEAD = (
    "BloomForCausalLM", "OPTForCausalLM", "GPT2LMHeadModel", "GPTNeoXForCausalLM", "GPTJForCausalLM", "GPTNeoForCausalLM",
    "MptForCausalLM", "BaichuanForCausalLM", "QWenLMHeadModel", "PhiForCausalLM",
    "InternLMForCausalLM",
)  # fmt: skip
"""Classes without grouped-query attention: a missing number of KV heads is not a gap."""

_FOUR_TIMES = (
    "BloomForCausalLM", "GPT2LMHeadModel", "GPTJForCausalLM", "GPTNeoForCausalLM", "GPTBigCodeForCausalLM", "FalconForCausalLM",
    "PhiForCausalLM",
)  # fmt: skip
"""Classes whose FFN is four times as wide as the model where the file does not say."""


def read_config(path: Path) -> ModelSpec:
    """The model that a `config.json` describes, called by the name of its folder.

    Raises:
        InvalidModelError: the file cannot be read, is no JSON, or describes no causal language model.
    """
    return spec_from_config(load_json(path), name=path.resolve().parent.name or path.stem, source=str(path))


def spec_from_config(config: Mapping[str, Any], *, name: str, source: str) -> ModelSpec:
    """The model that the object of a config.json describes.

    Args:
        config: the JSON object.
        name: what to call the model; the facts do not come from it.
        source: where the object was read, for messages and `ModelSpec.source`.

    Raises:
        InvalidModelError: it describes no causal language model, or a field has a value that cannot be.
    """
    outer = Fields(config, source)
    fields = _language_model(outer)
    model_type = fields.text("model_type") or outer.text("model_type") or _unnamed_type(fields)
    architecture = _architecture(outer, fields, model_type)
    layers = fields.whole("num_hidden_layers", "n_layer", "n_layers", "num_layers")
    hidden = fields.whole("hidden_size", "n_embd", "d_model")
    if layers is None or hidden is None:
        raise InvalidModelError(
            f"{source} describes no language model: neither layers nor hidden size are stated", given=source,
            hint="give the folder of a causal language model, or its config.json",
        )  # fmt: skip
    heads, kv_heads, notes = _heads(fields, architecture)
    intermediate = None if "mamba" in model_type else _intermediate(fields, architecture, hidden)
    width = fields.whole("word_embed_proj_dim")
    scheme, method, format_notes = stored_format(fields if fields.find("quantization_config") else outer)
    return ModelSpec(
        name=name.lower(),
        family=family_of(model_type, architecture),
        source=source,
        architecture=architecture,
        layers=layers,
        hidden=hidden,
        intermediate=intermediate,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=_head_dim(fields, hidden, heads),
        vocab=_vocab(fields),
        max_context=fields.whole(
            "max_position_embeddings", "n_positions", "max_seq_len", "seq_length", "max_sequence_length", "n_ctx"
        )
        or _CONTEXTS.get(architecture or ""),
        tied_embeddings=_tied(outer, fields),
        attention_bias=_attention_bias(fields, architecture),
        qk_norm=fields.flag("use_qk_norm", "qk_layernorm") if model_type in _QK_NORM_OPEN else None,
        embed_dim=None if width == hidden else width,
        attention=attention_of(fields, model_type, layers),
        experts=experts_of(fields, model_type, intermediate),
        state=state_of(fields, model_type, hidden),
        stored_scheme=scheme,
        stored_method=method,
        notes=(*notes, *format_notes),
    )


def _language_model(outer: Fields) -> Fields:
    """The fields of the language model: those of a multimodal config's inner object lie over the outer ones."""
    values = dict(outer.values)
    for key in _INNER:
        inner = values.get(key)
        if isinstance(inner, dict):
            nested = _language_model(Fields(inner, outer.where)).values
            values = {**values, **{name: value for name, value in nested.items() if value is not None}}
            break
    for key in ("attn_config", "ffn_config"):  # MPT and DBRX
        part = values.get(key)
        if isinstance(part, dict):
            values = {**{name: value for name, value in part.items() if name != "model_type"}, **values}
    return Fields(values, outer.where)


def _unnamed_type(fields: Fields) -> str:
    """Type of a config without `model_type`: state-spaces' own Mamba files have `ssm_cfg` instead."""
    if "ssm_cfg" not in fields.values:
        return ""
    return "mamba2" if fields.inner("ssm_cfg").text("layer") == "Mamba2" else "mamba"


def _architecture(outer: Fields, fields: Fields, model_type: str) -> str | None:
    """Class name in transformers; refuses what is no causal language model."""
    named = outer.items("architectures") or fields.items("architectures") or []
    if any(not isinstance(name, str) for name in named):
        raise outer.refusal("architectures", named, "a list of class names")
    found = named[0] if named else _BY_TYPE.get(model_type)
    encoder = outer.flag("is_encoder_decoder") or model_type in _ENCODERS
    if encoder or (found and found.endswith(_NOT_CAUSAL)):
        raise InvalidModelError(
            f"{outer.where} describes {found or model_type}, which is no causal language model", given=found or model_type,
            allowed="a decoder-only language model (…ForCausalLM)",
        )  # fmt: skip
    if found and model_type == "mixtral":
        found = "MixtralForCausalLM"
    return _ARCHITECTURES.get(found, found) if found else None


def _heads(fields: Fields, architecture: str | None) -> tuple[int | None, int | None, tuple[str, ...]]:
    """Query heads, KV heads, and a note where the latter were filled in."""
    heads = fields.whole("num_attention_heads", "n_head", "n_heads")
    if heads is None and architecture == "GPTNeoForCausalLM":  # elsewhere `num_heads` are those of a state
        heads = fields.whole("num_heads")
    if heads is None:
        return None, None, ()
    kv_heads = fields.whole("num_key_value_heads", "num_kv_heads", "kv_n_heads", "n_head_kv", "multi_query_group_num")
    if architecture == "FalconForCausalLM":  # `num_kv_heads` counts only in the new decoder (modeling_falcon.py)
        grouped = fields.flag("new_decoder_architecture") or fields.find("n_head_kv") is not None
        kv_heads = kv_heads if grouped else 1 if fields.flag("multi_query") is not False else heads
    elif architecture == "GPTBigCodeForCausalLM":
        kv_heads = heads if fields.flag("multi_query") is False else 1
    elif architecture == "ChatGLMModel" and not fields.flag("multi_query_attention"):
        kv_heads = heads
    if kv_heads is None:
        note = "num_key_value_heads is not in the config: taken as the number of heads, as transformers does"
        return heads, heads, () if architecture in _ONE_KV_HEAD_A_HEAD else (note,)
    if kv_heads > heads:
        raise fields.refusal("num_key_value_heads", kv_heads, f"at most the {heads} query heads")
    return heads, kv_heads, ()


def _head_dim(fields: Fields, hidden: int, heads: int | None) -> int | None:
    if heads is None or fields.find("kv_lora_rank") is not None:  # MLA: the ranks size heads and cache
        return None
    if (stated := fields.whole("head_dim", "kv_channels", "attention_head_dim")) is not None:
        return stated
    return hidden // heads if hidden % heads == 0 else None


def _intermediate(fields: Fields, architecture: str | None, hidden: int) -> int | None:
    stated = fields.whole(
        "intermediate_size_mlp", "intermediate_size", "ffn_hidden_size", "n_inner", "ffn_dim", "d_ff", "intermediate_dim"
    )
    if stated is not None:
        return stated
    if (ratio := fields.number("expansion_ratio")) is not None:
        return int(ratio * hidden)
    return 4 * hidden if architecture in _FOUR_TIMES else None


def _vocab(fields: Fields) -> int | None:
    """Rows of the embedding table; Mamba's own configs pad the vocabulary to a multiple."""
    vocab = fields.whole("padded_vocab_size", "vocab_size")
    multiple = fields.whole("pad_vocab_size_multiple")
    return -(-vocab // multiple) * multiple if vocab and multiple else vocab


def _tied(outer: Fields, fields: Fields) -> bool | None:
    stated = outer.flag("tie_word_embeddings", "tie_embeddings")
    return fields.flag("tie_word_embeddings", "tie_embeddings") if stated is None else stated


def _attention_bias(fields: Fields, architecture: str | None) -> bool | None:
    if architecture == "MptForCausalLM":
        without = fields.flag("no_bias")
        return None if without is None else not without
    if architecture == "FalconForCausalLM":
        return fields.flag("bias")
    return fields.flag("attention_bias", "qkv_bias", "add_qkv_bias", "use_qkv_bias", "qkv_proj_bias")


def family_of(model_type: str, architecture: str | None = None) -> str:
    """The family that a `model_type` of transformers belongs to; by the architecture's name where there is no type."""
    if model_type in _FAMILIES:
        return _FAMILIES[model_type]
    stem = model_type or (architecture or "unknown").removesuffix("ForCausalLM")
    return stem.lower().split("_")[0].rstrip("0123456789.") or "unknown"
