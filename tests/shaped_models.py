"""Random models of a given shape in memory, and caches filled by them, to be weighed. Needs torch."""

from typing import Any

SEVEN_BILLION = {
    "vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32,
    "num_key_value_heads": 8, "max_position_embeddings": 32768, "tie_word_embeddings": False,
}  # fmt: skip
"""Mistral-7B's shape, as a Llama so that no window limits the cache."""


def random_model(shape: dict[str, int], device: str, dtype: str = "bfloat16", *, scale: float = 0.02) -> Any:
    """A Llama of `shape` with normal weights, made on its device."""
    import torch
    from transformers import AutoModelForCausalLM, LlamaConfig
    from transformers.initialization import no_init_weights

    with torch.device(device), no_init_weights():
        model = AutoModelForCausalLM.from_config(LlamaConfig(**shape), dtype=getattr(torch, dtype))
    generator = torch.Generator(device=device if device != "meta" else "cpu").manual_seed(0)
    for parameter in model.parameters() if device != "meta" else ():
        parameter.data.normal_(std=scale, generator=generator)
    return model.eval().requires_grad_(requires_grad=False)


def loaded_model(model: Any, device: str, dtype: str = "bfloat16") -> Any:
    """The model as quantizers take it; there are no files behind it and no tokenizer."""
    import torch

    from measure.loading import LoadedModel
    from measure.plan import Settings

    settings = Settings(device=device, dtype=dtype)
    return LoadedModel(model=model, tokenizer=None, source=None, settings=settings, device=torch.device(device))


def tensor_bytes(tensors: Any) -> int:
    """Bytes of tensors, shared ones once."""
    found = {tensor.data_ptr() or id(tensor): tensor for tensor in tensors}
    return sum(tensor.numel() * tensor.element_size() for tensor in found.values())


def fill_cache(model: Any, *, context: int, batch: int, chunk: int = 2048) -> Any:
    """The cache after `batch` sequences of `context` random tokens, read `chunk` tokens at a time."""
    import torch
    from transformers import DynamicCache

    cache = DynamicCache(config=model.config)
    device = next(model.parameters()).device
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for first in range(0, context, chunk):
            size = (batch, min(chunk, context - first))
            ids = torch.randint(0, model.config.vocab_size, size, generator=generator).to(device)
            model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
    return cache


def cache_tensors(cache: Any) -> list[Any]:
    """Keys and values of every layer."""
    return [tensor for layer in cache.layers for tensor in (layer.keys, layer.values)]
