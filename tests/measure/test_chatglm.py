"""ChatGLM checkpoints, written here from a random GLM under ChatGLM's names, give that GLM's logits and tokens."""

import json

import pytest

torch = pytest.importorskip("torch")

from knowledge.errors import InvalidModelError  # noqa: E402
from measure.backend import TorchBackend  # noqa: E402
from measure.loading import load_model  # noqa: E402
from measure.models import locate_model  # noqa: E402
from measure.plan import CalibrationRequest, Settings  # noqa: E402
from measure.presets import expand_recipes  # noqa: E402

pytestmark = pytest.mark.measure

CONFIG = {
    "model_type": "chatglm", "architectures": ["ChatGLMModel"], "padded_vocab_size": 320, "hidden_size": 64,
    "ffn_hidden_size": 96, "num_layers": 2, "num_attention_heads": 4, "multi_query_attention": True,
    "multi_query_group_num": 2, "kv_channels": 16, "add_qkv_bias": True, "add_bias_linear": False, "rmsnorm": True,
    "layernorm_epsilon": 1e-5, "seq_length": 256, "apply_residual_connection_post_layernorm": False, "post_layer_norm": True,
}  # fmt: skip
NAMES = {
    "input_layernorm": "input_layernorm", "post_attention_layernorm": "post_attention_layernorm",
    "self_attn.o_proj": "self_attention.dense", "mlp.gate_up_proj": "mlp.dense_h_to_4h", "mlp.down_proj": "mlp.dense_4h_to_h",
}  # fmt: skip


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A folder in ChatGLM's layout, and the GLM model whose weights it holds."""
    import sentencepiece
    from safetensors.torch import save_file
    from transformers import GlmConfig, GlmForCausalLM

    folder = tmp_path_factory.mktemp("chatglm") / "tiny"
    folder.mkdir()
    torch.manual_seed(0)
    shape = {
        "vocab_size": 320, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "head_dim": 16, "partial_rotary_factor": 0.5, "attention_bias": True, "rms_norm_eps": 1e-5,
        "max_position_embeddings": 256, "pad_token_id": 0,
    }  # fmt: skip
    model = GlmForCausalLM(GlmConfig(**shape)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    state = model.state_dict()
    stored = {
        "transformer.embedding.word_embeddings.weight": state["model.embed_tokens.weight"],
        "transformer.encoder.final_layernorm.weight": state["model.norm.weight"],
        "transformer.output_layer.weight": state["lm_head.weight"],
        "transformer.rotary_pos_emb.inv_freq": torch.zeros(4),
    }
    for number in range(2):
        here, there = f"model.layers.{number}.", f"transformer.encoder.layers.{number}."
        stored |= {f"{there}{new}.weight": state[f"{here}{old}.weight"] for old, new in NAMES.items()}
        for kind in ("weight", "bias"):
            parts = [state[f"{here}self_attn.{letter}_proj.{kind}"] for letter in "qkv"]
            stored[f"{there}self_attention.query_key_value.{kind}"] = torch.cat(parts)
    save_file({name: tensor.clone() for name, tensor in stored.items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(CONFIG))
    text = folder.parent / "text.txt"
    text.write_text("\n".join(f"the line {n} of a text on cats and dogs {n * 7}" for n in range(200)))
    sentencepiece.SentencePieceTrainer.train(
        input=str(text),
        model_prefix=str(folder / "tokenizer"),
        vocab_size=300,
        model_type="bpe",
        byte_fallback=True,
        minloglevel=2,
    )
    return folder, model


def test_logits_are_those_of_the_same_glm(checkpoint):
    folder, model = checkpoint
    loaded = load_model(locate_model(str(folder)), Settings())
    ids = torch.randint(0, 320, (2, 30), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert torch.equal(loaded.model(input_ids=ids).logits, model(input_ids=ids).logits)
    assert loaded.facts().family == "glm"
    assert loaded.model.config.rope_parameters["partial_rotary_factor"] == 0.5


def test_tokens_are_those_of_sentencepiece(checkpoint):
    import sentencepiece

    folder, _ = checkpoint
    tokenizer = load_model(locate_model(str(folder)), Settings()).tokenizer
    processor = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    for text in ("the cats", "a line of text 42", "Zürich, 北京"):
        assert tokenizer(text, add_special_tokens=False)["input_ids"] == processor.encode(text)
    assert tokenizer.convert_tokens_to_ids(["[MASK]", "[gMASK]", "[sMASK]", "sop", "eop"]) == [300, 301, 302, 303, 304]


def test_recipes_run_on_it(checkpoint):
    calibration = CalibrationRequest(samples=4, tokens_per_sample=32)
    backend = TorchBackend(locate_model(str(checkpoint[0])), Settings(calibration=calibration))
    backend.open()
    for recipe in ("w4a16-g32", "kv4", "w8a8", "w4a16-g32:gptq"):
        with backend.quantized(*expand_recipes([recipe])[1]) as facts:
            assert facts.logit_change is not None
            assert facts.logit_change > 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rope_ratio": 50}, "rope_ratio=50 cannot be converted"),
        ({"add_bias_linear": True}, "add_bias_linear=True cannot be converted"),
        ({"kv_channels": None}, "lacks kv_channels"),
    ],
    ids=["long context", "bias", "missing"],
)
def test_variants_that_glm_does_not_have(checkpoint, tmp_path, change, message):
    folder, _ = checkpoint
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    config = {name: value for name, value in (CONFIG | change).items() if value is not None}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(InvalidModelError, match=message):
        load_model(locate_model(str(tmp_path)), Settings())


def test_missing_tokenizer(checkpoint, tmp_path):
    folder, _ = checkpoint
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    with pytest.raises(InvalidModelError, match=r"no tokenizer\.model"):
        load_model(locate_model(str(tmp_path)), Settings())
