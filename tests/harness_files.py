"""Result files of lm-evaluation-harness in the layouts of its versions, with whatever a test cares about changed."""

import json
from pathlib import Path
from typing import Any

MODEL = "meta-llama/Llama-2-7b-hf"


def make_results(
    model: str = MODEL, acc: float = 0.75, *, task: str = "hellaswag", arguments: str = "", **changes: Any
) -> dict[str, Any]:
    """Output of harness 0.4 on one task, `changes` at its top level (None takes a field away)."""
    document = {
        "results": {task: {"alias": task, "acc,none": acc, "acc_stderr,none": 0.004, "acc_norm,none": acc}},
        "group_subtasks": {task: []},
        "configs": {task: {"task": task, "output_type": "multiple_choice", "doc_to_text": "{{query}}", "num_fewshot": 0}},
        "versions": {task: 1.0},
        "n-shot": {task: 0},
        "higher_is_better": {task: {"acc": True, "acc_norm": True}},
        "n-samples": {task: {"original": 10042, "effective": 10042}},
        "config": {
            "model": "hf", "model_args": f"pretrained={model}{',' * bool(arguments)}{arguments}",
            "model_num_parameters": 6738415616, "model_dtype": "torch.float16", "limit": None, "bootstrap_iters": 100000,
            "gen_kwargs": None, "fewshot_seed": 1234,
        },
        "git_hash": "abc1234", "date": 1732000000.5, "lm_eval_version": "0.4.7", "max_length": 4096,
        "chat_template": None, "chat_template_sha": None, "system_instruction": None, "fewshot_as_multiturn": False,
    }  # fmt: skip
    return {name: value for name, value in (document | changes).items() if value is not None or name not in changes}


def make_old_results(
    model: str = MODEL, acc: float = 0.75, *, task: str = "hellaswag", arguments: str = "", **config: Any
) -> dict[str, Any]:
    """Output of harness 0.3 on one task, `config` changes its settings."""
    return {
        "results": {task: {"acc": acc, "acc_stderr": 0.004, "acc_norm": acc, "acc_norm_stderr": 0.004}},
        "versions": {task: 0},
        "config": {
            "model": "hf-causal-experimental", "model_args": f"pretrained={model}{',' * bool(arguments)}{arguments}",
            "num_fewshot": 0, "batch_size": "8", "batch_sizes": [], "device": "cuda:0", "no_cache": True, "limit": None,
            "bootstrap_iters": 100000, "description_dict": {},
        } | config,
    }  # fmt: skip


def write_results(path: Path, document: dict[str, Any]) -> Path:
    """The document as a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document), encoding="utf-8")
    return path
