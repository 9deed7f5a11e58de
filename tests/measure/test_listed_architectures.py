"""The columns of `knowledge/catalog/architectures.csv` that the installed transformers decides.

`python tests/measure/test_listed_architectures.py` writes the column `transformers` anew.
"""

import csv
import re
import sys

import pytest

from knowledge.engines import CATALOG

pytestmark = pytest.mark.measure

TABLE = CATALOG / "architectures.csv"

LLAMA_TENSORS = (
    "model.embed_tokens", "model.norm", "model.layers.N.input_layernorm", "model.layers.N.post_attention_layernorm",
    *(f"model.layers.N.self_attn.{part}_proj" for part in "qkvo"),
    *(f"model.layers.N.mlp.{part}_proj" for part in ("down", "gate", "up")),
)  # fmt: skip
"""What ExLlamaV2 asks of a checkpoint that it loads as LlamaForCausalLM (its `exllamav2/architecture.py` at 7532969)."""


def rows() -> list[dict[str, str]]:
    with TABLE.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def known_classes() -> set[str]:
    """Classes that `AutoModelForCausalLM` or `AutoModelForImageTextToText` loads without code of the checkpoint, lower case."""
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
    )

    tables = (MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES)
    entries = [entry for table in tables for entry in table.values()]
    return {name.casefold() for entry in entries for name in ([entry] if isinstance(entry, str) else entry)}


def column() -> dict[str, str]:
    """How each architecture stands with transformers."""
    known = known_classes()
    return {row["architecture"]: "yes" if row["architecture"].casefold() in known else "unlisted" for row in rows()}


def test_the_column_of_transformers_is_current() -> None:
    assert {row["architecture"]: row["transformers"] for row in rows()} == column()


@pytest.mark.slow
@pytest.mark.parametrize("architecture", [row["architecture"] for row in rows() if row["exllamav2"] == "no"])
def test_what_exllamav2_cannot_load_as_llama_lacks_tensors_of_llama(architecture: str) -> None:
    import torch
    import transformers

    kind = getattr(transformers, architecture, None)
    if kind is None:
        pytest.skip("its class comes with the checkpoint")
    config = kind.config_class()
    for name in ("num_hidden_layers", "n_layer", "num_layers", "n_layers"):
        if isinstance(getattr(config, name, None), int):
            setattr(config, name, 4)
    with torch.device("meta"):
        names = {re.sub(r"\.\d+\.", ".N.", name.rsplit(".", 1)[0], count=1) for name in kind(config).state_dict()}
    assert set(LLAMA_TENSORS) - names


def main() -> None:
    """Write the column anew."""
    standing = column()
    table = [row | {"transformers": standing[row["architecture"]]} for row in rows()]
    with TABLE.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(table[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(table)


if __name__ == "__main__":
    sys.exit(main())
