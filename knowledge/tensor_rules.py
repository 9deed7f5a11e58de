"""Which tensors each architecture has: one `Layout` a transformers class.

Read from the model definitions of huggingface/transformers (`src/transformers/models/<name>/modeling_<name>.py`) and, for
classes that ship their own code, from the modeling file of the checkpoint; the llama.cpp name from its `convert_hf_to_gguf.py`.
Every row is checked by a test that compares the resulting parameter count with a published one where there is one.
"""

from dataclasses import replace
from typing import Literal

from knowledge.values import value

Kind = Literal["linear", "expert", "router", "embedding", "head", "vector", "other"]
"""`linear`: an nn.Linear of a layer; `expert`: one of a routed expert; `router`: scores the experts; `head`: lm_head;
`vector`: norms and biases; `other`: tables and small matrices that no format quantizes (positions, convolutions, A)."""


@value
class Tensor:
    """Equal tensors of one role, one in each of `layers` (`each` of them where there are experts)."""

    role: str
    """Name within a layer as in GGUF, without `.weight`: `attn_q`, `ffn_down_exps`, `token_embd`; biases end in `.bias`."""
    kind: Kind
    rows: int
    """Outputs; 1 for vectors."""
    cols: int
    """Inputs: the dimension that is contiguous in memory and along which groups run."""
    layers: tuple[int, ...] = ()
    """Indices of the layers that have it; empty = outside the layers, once."""
    each: int = 1
    """How many of them a layer has (routed experts)."""
    parts: tuple[tuple[str, int], ...] = ()
    """Roles and rows into which llama.cpp's converter splits it; empty = stored whole."""

    @property
    def count(self) -> int:
        """How many such tensors the model has."""
        return max(len(self.layers), 1) * self.each

    @property
    def params(self) -> int:
        """Parameters of all of them."""
        return self.rows * self.cols * self.count


@value
class Layout:
    """The parts of one architecture, as far as a config.json does not say them."""

    gguf: str
    """Name of the architecture in llama.cpp; empty where llama.cpp does not have it."""
    attention: Literal["split", "fused", "fused-split", "mla", "none"] = "split"
    """Q, K, V as three matrices, as one, as one that llama.cpp's converter splits, or multi-head latent attention."""
    mha: bool = False
    """Every query head has its own KV head, so the config does not state `kv_heads`."""
    qkv_bias: bool | None = False
    """Biases of Q, K, V where the config does not say; None = varies between checkpoints of the class."""
    out_bias: bool = False
    out_gate: bool = False
    """Q projects twice its width, the second half gating the output (Qwen3-Next)."""
    qk_norm: Literal["none", "head", "full"] = "none"
    """Norms of Q and K: none, one vector of a head's width, or one over all heads."""
    ffn: Literal["gated", "gated-fused", "plain"] = "gated"
    ffn_bias: bool = False
    ffn_ratio: int | None = None
    """Inner width of the FFN as a multiple of `hidden` where the class has a default."""
    ffn_halved: bool = False
    """The config's `intermediate_size` is twice the inner width (first Qwen)."""
    qk_norm_kind: Literal["head", "full"] = "full"
    """Kind of the norms where the config asks for them (Cohere, StableLM-2, GLM-4.5)."""
    norms: int = 2
    """Norm vectors of width `hidden` in a layer."""
    norm_bias: bool = False
    final_norm: bool = True
    embedding_norm: bool = False
    positions: int | None = None
    """Learned positions: rows beyond `max_context` (OPT keeps two more); None = no such table."""
    tied: bool = False
    """What transformers assumes where the config does not say."""
    head_bias: bool = False
    router_bias: bool = False
    """One bias a routed expert (`e_score_correction_bias`, or the router's own)."""
    shared_gate: bool = False
    """A gate of one output on the shared experts (Qwen MoE)."""
    expert_bias: bool = False
    sinks: bool = False
    """One attention sink a head (gpt-oss)."""
    linear: Literal["mamba", "mamba2", "delta", "shortconv"] | None = None
    """Kind of the linear layers."""
    global_value: bool = True
    """Full layers have a V of their own; False = they reuse K where their heads differ (Gemma-4)."""
    dense_beside: bool = False
    """A dense FFN runs beside the experts of a layer, each with norms of its own (Gemma-4)."""
    indexer: tuple[int, int] | None = None
    """Heads and their width of the indexer that chooses tokens (DeepSeek sparse attention)."""
    layer_vectors: tuple[tuple[str, int], ...] = ()
    """Further vectors of a layer, with their length."""
    one_block_layers: bool = False
    """A layer is either a mixer or an FFN, never both (Nemotron-H, Mamba)."""


_LLAMA = Layout(gguf="llama")
_QWEN3 = Layout(gguf="qwen3", qk_norm="head")
_QWEN3_MOE = replace(_QWEN3, gguf="qwen3moe")
_NEXT = Layout(gguf="qwen3next", qk_norm="head", out_gate=True, linear="delta")
_GEMMA2 = Layout(gguf="gemma2", norms=4, tied=True)
_GEMMA3 = replace(_GEMMA2, gguf="gemma3", qk_norm="head")
_GEMMA4 = replace(_GEMMA3, gguf="gemma4", global_value=False, dense_beside=True, layer_vectors=(("layer_output_scale", 1),))
_DEEPSEEK_V2 = Layout(gguf="deepseek2", attention="mla")
_DEEPSEEK_V3 = replace(_DEEPSEEK_V2, router_bias=True)
_GLM = Layout(gguf="chatglm", attention="fused", qkv_bias=True, ffn="gated-fused")
_OLMO2 = Layout(gguf="olmo2", qk_norm="full")
_GPT = Layout(
    gguf="gpt2", attention="fused", mha=True, qkv_bias=True, out_bias=True, ffn="plain", ffn_bias=True, ffn_ratio=4,
    norm_bias=True, positions=0, tied=True,
)  # fmt: skip

LAYOUTS: dict[str, Layout] = {
    "LlamaForCausalLM": _LLAMA,
    "MistralForCausalLM": _LLAMA,
    "Mistral3ForConditionalGeneration": _LLAMA,
    "MixtralForCausalLM": _LLAMA,
    "YiForCausalLM": _LLAMA,
    "AquilaForCausalLM": _LLAMA,
    "XverseForCausalLM": replace(_LLAMA, gguf="xverse"),
    "ExaoneForCausalLM": replace(_LLAMA, gguf="exaone"),
    "SmolLM3ForCausalLM": replace(_LLAMA, gguf="smollm3", tied=True),
    "MiniCPMForCausalLM": replace(_LLAMA, gguf="minicpm", tied=True),
    "GraniteForCausalLM": replace(_LLAMA, gguf="granite", tied=True),
    "GraniteMoeForCausalLM": replace(_LLAMA, gguf="granitemoe", tied=True),
    "GraniteMoeHybridForCausalLM": replace(_LLAMA, gguf="granitehybrid", tied=True, linear="mamba2"),
    "Ernie4_5ForCausalLM": replace(_LLAMA, gguf="ernie4_5", tied=True),
    "Ernie4_5_MoeForCausalLM": replace(_LLAMA, gguf="ernie4_5-moe", tied=True, router_bias=True),
    "SeedOssForCausalLM": replace(_LLAMA, gguf="seed_oss", qkv_bias=True),
    "InternLMForCausalLM": replace(_LLAMA, gguf="internlm", qkv_bias=True, out_bias=True),
    "InternLM2ForCausalLM": replace(_LLAMA, gguf="internlm2", attention="fused-split"),
    "InternLM3ForCausalLM": _LLAMA,
    "BaiChuanForCausalLM": replace(_LLAMA, gguf="baichuan", attention="fused-split", mha=True),
    "BaichuanForCausalLM": replace(_LLAMA, gguf="baichuan", attention="fused-split", mha=True),
    "BailingMoeForCausalLM": replace(_LLAMA, gguf="bailingmoe", attention="fused-split"),
    "BailingMoeV2ForCausalLM": replace(
        _LLAMA, gguf="bailingmoe2", attention="fused-split", qk_norm="head", router_bias=True,
    ),
    "OrionForCausalLM": replace(_LLAMA, gguf="orion", norm_bias=True),
    "CodeShellForCausalLM": replace(_LLAMA, gguf="codeshell"),
    "Llama4ForConditionalGeneration": replace(_LLAMA, gguf="llama4"),
    "Llama4ForCausalLM": replace(_LLAMA, gguf="llama4"),
    "DeepseekForCausalLM": replace(_LLAMA, gguf="deepseek"),
    "DeepseekV2ForCausalLM": _DEEPSEEK_V2,
    "DeepseekV3ForCausalLM": _DEEPSEEK_V3,
    "DeepseekV32ForCausalLM": replace(_DEEPSEEK_V3, indexer=(64, 128)),
    "GlmMoeDsaForCausalLM": replace(_DEEPSEEK_V3, gguf="glm-dsa", indexer=(32, 128)),
    "KimiK25ForConditionalGeneration": _DEEPSEEK_V3,
    "MiniCPM3ForCausalLM": replace(_DEEPSEEK_V2, gguf="minicpm3", tied=True),
    "Glm4MoeLiteForCausalLM": _DEEPSEEK_V3,
    "QWenLMHeadModel": Layout(gguf="qwen", attention="fused", mha=True, qkv_bias=True, ffn_halved=True),
    "Qwen2ForCausalLM": Layout(gguf="qwen2", qkv_bias=True),
    "MiMoForCausalLM": Layout(gguf="qwen2", qkv_bias=True),
    "Qwen2MoeForCausalLM": Layout(gguf="qwen2moe", qkv_bias=True, shared_gate=True),
    "Qwen3ForCausalLM": _QWEN3,
    "Qwen3MoeForCausalLM": _QWEN3_MOE,
    "Qwen3NextForCausalLM": replace(_NEXT, shared_gate=True),
    "Qwen3_5ForConditionalGeneration": replace(_NEXT, gguf="qwen35"),
    "Qwen3_5ForCausalLM": replace(_NEXT, gguf="qwen35"),
    "Qwen3_5MoeForConditionalGeneration": replace(_NEXT, gguf="qwen35moe", shared_gate=True),
    "Qwen3_5MoeForCausalLM": replace(_NEXT, gguf="qwen35moe", shared_gate=True),
    "MiniMaxM2ForCausalLM": Layout(gguf="minimax-m2", qk_norm="full", router_bias=True),
    "GlmForCausalLM": Layout(gguf="chatglm", qkv_bias=True, ffn="gated-fused"),
    "Glm4ForCausalLM": Layout(gguf="glm4", qkv_bias=True, ffn="gated-fused", norms=4),
    "Glm4MoeForCausalLM": Layout(gguf="glm4moe", qkv_bias=True, router_bias=True, qk_norm_kind="head"),
    "ChatGLMModel": _GLM,
    "ChatGLMForConditionalGeneration": _GLM,
    "GemmaForCausalLM": Layout(gguf="gemma", tied=True),
    "Gemma2ForCausalLM": _GEMMA2,
    "Gemma3ForCausalLM": _GEMMA3,
    "Gemma3ForConditionalGeneration": _GEMMA3,
    "Gemma3nForConditionalGeneration": replace(_GEMMA3, gguf="gemma3n"),
    "Gemma3nForCausalLM": replace(_GEMMA3, gguf="gemma3n"),
    "Gemma4ForConditionalGeneration": _GEMMA4,
    "Gemma4ForCausalLM": _GEMMA4,
    "CohereForCausalLM": Layout(gguf="command-r", norms=1, tied=True),
    "Cohere2ForCausalLM": Layout(gguf="cohere2", norms=1, tied=True),
    "OlmoForCausalLM": Layout(gguf="olmo", norms=0, final_norm=False),
    "Olmo2ForCausalLM": _OLMO2,
    "Olmo3ForCausalLM": _OLMO2,
    "OlmoeForCausalLM": replace(_OLMO2, gguf="olmoe"),
    "Exaone4ForCausalLM": Layout(gguf="exaone4", qk_norm="head"),
    "HunYuanDenseV1ForCausalLM": Layout(gguf="hunyuan-dense", qk_norm="head", tied=True),
    "HunYuanMoEV1ForCausalLM": Layout(gguf="hunyuan-moe", qk_norm="head", tied=True),
    "ApertusForCausalLM": Layout(gguf="apertus", qk_norm="head", ffn="plain", layer_vectors=(("ffn_act", 2),)),
    "ArceeForCausalLM": Layout(gguf="arcee", ffn="plain"),
    "Lfm2ForCausalLM": Layout(gguf="lfm2", qk_norm="head", tied=True, linear="shortconv"),
    "Lfm2MoeForCausalLM": Layout(gguf="lfm2moe", qk_norm="head", tied=True, linear="shortconv", router_bias=True),
    "NemotronForCausalLM": Layout(gguf="nemotron", ffn="plain", norm_bias=True),
    "GptOssForCausalLM": Layout(
        gguf="gpt-oss", qkv_bias=True, out_bias=True, sinks=True, router_bias=True, expert_bias=True,
    ),
    "DbrxForCausalLM": Layout(gguf="dbrx", attention="fused"),
    "Grok1ModelForCausalLM": Layout(gguf="grok", norms=4, tied=True),
    "PhiForCausalLM": Layout(
        gguf="phi2", mha=True, qkv_bias=True, out_bias=True, ffn="plain", ffn_bias=True, norms=1, norm_bias=True,
        head_bias=True,
    ),
    "Phi3ForCausalLM": Layout(gguf="phi3", attention="fused", ffn="gated-fused"),
    "PhiMoEForCausalLM": Layout(gguf="phimoe", qkv_bias=True, out_bias=True, norm_bias=True, head_bias=True),
    "Starcoder2ForCausalLM": Layout(
        gguf="starcoder2", qkv_bias=True, out_bias=True, ffn="plain", ffn_bias=True, norm_bias=True, tied=True,
    ),
    "StableLmForCausalLM": Layout(gguf="stablelm", qkv_bias=None, norm_bias=True),
    "FalconForCausalLM": Layout(gguf="falcon", attention="fused", ffn="plain", ffn_ratio=4, norm_bias=True),
    "BloomForCausalLM": replace(_GPT, gguf="bloom", positions=None, embedding_norm=True),
    "MptForCausalLM": replace(
        _GPT, gguf="mpt", positions=None, qkv_bias=False, out_bias=False, ffn_bias=False, norm_bias=False,
    ),
    "MPTForCausalLM": replace(
        _GPT, gguf="mpt", positions=None, qkv_bias=False, out_bias=False, ffn_bias=False, norm_bias=False,
    ),
    "GPT2LMHeadModel": _GPT,
    "GPTBigCodeForCausalLM": replace(_GPT, gguf="starcoder", mha=False),
    "GPT2LMHeadCustomModel": replace(_GPT, gguf="starcoder", mha=False),
    "GPTNeoXForCausalLM": replace(_GPT, gguf="gptneox", positions=None, tied=False),
    "GPTJForCausalLM": replace(
        _GPT, gguf="gptj", attention="split", qkv_bias=False, out_bias=False, norms=1, positions=None, tied=False,
        head_bias=True,
    ),
    "GPTNeoForCausalLM": replace(_GPT, gguf="", attention="split", qkv_bias=False),
    "OPTForCausalLM": replace(_GPT, gguf="", attention="split", positions=2),
    "MambaForCausalLM": Layout(gguf="mamba", attention="none", norms=1, tied=True, linear="mamba", one_block_layers=True),
    "FalconMambaForCausalLM": Layout(gguf="mamba", attention="none", norms=1, tied=True, linear="mamba", one_block_layers=True),
    "Mamba2ForCausalLM": Layout(gguf="mamba2", attention="none", norms=1, tied=True, linear="mamba2", one_block_layers=True),
    "NemotronHForCausalLM": Layout(
        gguf="nemotron_h", ffn="plain", norms=1, linear="mamba2", router_bias=True, one_block_layers=True,
    ),
}  # fmt: skip
"""Layout by transformers class name (`config.json`'s `architectures[0]`)."""

MIXTURES = frozenset(
    {
        "MixtralForCausalLM",
        "GraniteMoeForCausalLM",
        "Ernie4_5_MoeForCausalLM",
        "Llama4ForConditionalGeneration",
        "Llama4ForCausalLM",
    }
    | {"DeepseekForCausalLM", "DeepseekV2ForCausalLM", "DeepseekV3ForCausalLM", "KimiK25ForConditionalGeneration"}
    | {"Glm4MoeForCausalLM", "Glm4MoeLiteForCausalLM", "Qwen2MoeForCausalLM", "Qwen3MoeForCausalLM", "Qwen3NextForCausalLM"}
    | {"Qwen3_5MoeForConditionalGeneration", "Qwen3_5MoeForCausalLM", "MiniMaxM2ForCausalLM", "OlmoeForCausalLM"}
    | {"HunYuanMoEV1ForCausalLM", "GptOssForCausalLM", "DbrxForCausalLM", "Grok1ModelForCausalLM", "PhiMoEForCausalLM"}
    | {"Lfm2MoeForCausalLM", "BailingMoeForCausalLM", "BailingMoeV2ForCausalLM"}
    | {"DeepseekV32ForCausalLM", "GlmMoeDsaForCausalLM"}
)
"""Classes that are always a mixture of experts."""
