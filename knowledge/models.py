"""ModelSpec: the facts about one language model that memory, prediction and rules need. Unknown is None."""

from knowledge.schemes import QuantScheme
from knowledge.values import value


@value
class AttentionSpec:
    """How the layers keep the past: which kinds of layer there are and how large one token's entry is.

    `full + sliding + linear + ffn_only == layers` where known, all 0 where only ranks are. A layer that shares another's KV
    cache (Gemma-3n) is counted in its kind, and in `kv_shared`.
    """

    full: int = 0
    """Layers that keep every token."""
    sliding: int = 0
    """Layers that attend to the last `window` tokens only."""
    linear: int = 0
    """Layers with a recurrent state instead of a cache (Mamba, gated delta net, …)."""
    ffn_only: int = 0
    """Layers without any mixing of tokens (Nemotron-H's MLP layers, attention pruned away): no cache, no state."""
    window: int | None = None
    """Tokens that a sliding layer attends to."""
    kv_shared: int = 0
    """Layers that reuse another layer's cache and so cost nothing."""
    global_heads: int | None = None
    global_kv_heads: int | None = None
    """KV heads of the full layers where they differ from the sliding ones (Gemma-4)."""
    global_head_dim: int | None = None
    q_lora_rank: int | None = None
    kv_lora_rank: int | None = None
    """MLA: the cache holds `kv_lora_rank + qk_rope_head_dim` elements per token and layer, whatever the heads."""
    qk_rope_head_dim: int | None = None
    qk_nope_head_dim: int | None = None
    v_head_dim: int | None = None


@value
class ExpertSpec:
    """Shape of a mixture of experts."""

    count: int
    per_token: int
    intermediate: int
    """Inner width of one routed expert."""
    shared: int = 0
    shared_intermediate: int | None = None
    """Inner width of all shared experts together."""
    dense_layers: int = 0
    """First layers with a dense FFN (`first_k_dense_replace`)."""
    every: int = 1
    """Every n-th layer is sparse, the others are dense (Llama-4 Maverick: 2)."""


@value
class StateSpec:
    """Recurrent state of a linear layer, per sequence.

    Mamba: `inner` channels with `state` values and a convolution over `conv` tokens, `groups` of B and C.
    Gated delta net: `key_heads`, `value_heads`, `key_head_dim`, `value_head_dim`, `conv`.
    Short convolution (LFM2): `inner` channels, the last `conv - 1` tokens of each.
    """

    kind: str
    """`mamba`, `mamba2`, `delta` or `shortconv`."""
    conv: int
    inner: int | None = None
    state: int | None = None
    groups: int = 1
    heads: int | None = None
    dt_rank: int | None = None
    key_heads: int | None = None
    value_heads: int | None = None
    key_head_dim: int | None = None
    value_head_dim: int | None = None


@value
class StoredTensor:
    """One tensor as a checkpoint file stores it."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    bytes: int


@value
class ModelSpec:
    """The facts about one causal language model. Every number that was not seen is None, never a guess."""

    name: str
    """Canonical lower-case name: `mistral-7b-v0.1`."""
    family: str
    """`llama`, `mistral`, `qwen`, …: the group that backtests leave out together."""
    source: str
    """Where the facts were read."""
    hf_id: str | None = None
    base: str | None = None
    """Catalogue name of the model this one was tuned from, where it has the same shape."""
    architecture: str | None = None
    """Class name of transformers (`MistralForCausalLM`): decides which tensors there are."""
    layers: int | None = None
    hidden: int | None = None
    intermediate: int | None = None
    heads: int | None = None
    kv_heads: int | None = None
    head_dim: int | None = None
    vocab: int | None = None
    max_context: int | None = None
    tied_embeddings: bool | None = None
    attention_bias: bool | None = None
    """Biases on Q, K and V projections; None = as the architecture has it."""
    qk_norm: bool | None = None
    """Norms on queries and keys; None = as the architecture has it (only Cohere and StableLM-2 leave the choice)."""
    embed_dim: int | None = None
    """Width of the embedding table where it differs from `hidden` (OPT-350m: 512)."""
    attention: AttentionSpec | None = None
    experts: ExpertSpec | None = None
    state: StateSpec | None = None
    params_published: int | None = None
    """Published parameter count, exact where the source gave it so."""
    params_exact: bool = False
    """Whether `params_published` is a count to the unit rather than a rounded size."""
    params_outside: int | None = None
    """Published parameters that are no part of the language model (vision tower, draft heads)."""
    params_active_published: int | None = None
    tuned: bool | None = None
    """Instruction- or chat-tuned; None = not stated."""
    reasoning: bool | None = None
    """Trained to reason at length before it answers."""
    training_tokens_b: float | None = None
    """Training tokens in 1e9, where published."""
    aliases: tuple[str, ...] = ()
    stored_scheme: QuantScheme | None = None
    """Format of the checkpoint at hand when it is already quantized: then more bits are never offered."""
    stored_method: str | None = None
    stored_tensors: tuple[StoredTensor, ...] = ()
    """Exact tensors of a GGUF or safetensors header, where a file was read."""
    notes: tuple[str, ...] = ()
    """What a reader of the answer must know (facts that were filled in, sources that disagree)."""

    def __hash__(self) -> int:
        """Of what tells models apart: they are looked up some hundred times a request, and hashing all fields takes long."""
        return hash((self.name, self.source, self.layers, self.hidden))
