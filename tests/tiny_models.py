"""Tiny random models of every family and a tokenizer, saved as a user would have them. Needs torch."""

import random
from functools import lru_cache
from pathlib import Path
from typing import Any

VOCAB, HIDDEN, LAYERS, HEADS, INNER, CONTEXT = 384, 64, 2, 4, 128, 512


def configs() -> dict[str, Any]:
    import transformers as t

    base = {"vocab_size": VOCAB, "hidden_size": HIDDEN, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS}
    gated = base | {"intermediate_size": INNER, "num_key_value_heads": 2, "max_position_embeddings": CONTEXT}
    return {
        "llama": t.LlamaConfig(**gated),
        "mistral": t.MistralConfig(**gated, sliding_window=256),
        "mixtral": t.MixtralConfig(**gated, num_local_experts=4),
        "opt": t.OPTConfig(**base, ffn_dim=INNER, word_embed_proj_dim=HIDDEN, max_position_embeddings=CONTEXT),
        "falcon": t.FalconConfig(**base, multi_query=True, parallel_attn=True, new_decoder_architecture=False),
        "bloom": t.BloomConfig(vocab_size=VOCAB, hidden_size=HIDDEN, n_layer=LAYERS, n_head=HEADS),
        "glm": t.GlmConfig(**gated, head_dim=16, pad_token_id=0),
        "stablelm": t.StableLmConfig(**gated),
        "gemma": t.GemmaConfig(**(gated | {"num_key_value_heads": 1}), head_dim=16),
        "gemma2": t.Gemma2Config(**gated, head_dim=16),
        "mamba": t.MambaConfig(vocab_size=VOCAB, hidden_size=HIDDEN, num_hidden_layers=LAYERS, state_size=8),
        "phi": t.PhiConfig(**base, intermediate_size=INNER, max_position_embeddings=CONTEXT),
        "qwen2": t.Qwen2Config(**gated),
        "qwen3": t.Qwen3Config(**gated, head_dim=16),
        "wide": t.LlamaConfig(**(gated | {"hidden_size": 128, "intermediate_size": 256})),  # for blocks of 128
    }


FAMILIES = (
    "llama", "mistral", "mixtral", "opt", "falcon", "bloom", "glm", "stablelm", "gemma", "gemma2", "mamba", "phi", "qwen2",
    "qwen3",
)  # fmt: skip


@lru_cache(maxsize=1)
def tokenizer() -> Any:
    """A byte-level tokenizer with a few merges, so that any text is a few hundred distinct tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    rng = random.Random(0)
    words = ["".join(rng.choices("etaoinshr", k=rng.randint(2, 6))) for _ in range(60)]
    raw = Tokenizer(models.BPE(unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    special = ["<pad>", "<s>", "</s>", "<unk>"]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    raw.train_from_iterator((" ".join(rng.choices(words, k=20)) for _ in range(300)), trainer)
    names = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(tokenizer_object=raw, **names)


def save_model(family: str, folder: Path, *, seed: int = 0) -> Path:
    """A random model of `family` on disk, norms and biases randomised so that a wrong treatment of them shows."""
    import torch
    from transformers import AutoModelForCausalLM

    path = folder / family
    torch.manual_seed(seed)
    config = configs()[family]
    config.bos_token_id, config.eos_token_id, config.pad_token_id = 1, 2, 0
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 1 and not name.endswith(("A_log", "D", "dt_proj.bias")):
                parameter.add_(torch.randn_like(parameter) * 0.1)
            elif parameter.ndim >= 2 and "dt_proj" not in name and not name.endswith("A_log"):
                parameter.mul_(3)
    model.save_pretrained(path)
    tokenizer().save_pretrained(path)
    return path
