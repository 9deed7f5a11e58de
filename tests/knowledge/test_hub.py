"""The hub, played by a small server on this machine: what is asked, what is kept, and what every failure says."""

import json
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from knowledge.errors import HubError, InvalidModelError
from knowledge.hub import fetch_model, is_hub_id

CONFIG = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 64, "intermediate_size": 128,
    "num_hidden_layers": 4, "num_attention_heads": 8, "num_key_value_heads": 2, "vocab_size": 100,
}  # fmt: skip
ID = "acme/Rocket-7B"


@dataclass
class Hub:
    """What the server answers, and what it was asked."""

    address: str
    config: bytes = json.dumps(CONFIG).encode()
    info: dict[str, Any] = field(default_factory=dict)
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    delay_s: float = 0.0
    asked: list[str] = field(default_factory=list)

    def fetch(self, home: Path, **more: Any) -> Any:
        return fetch_model(ID, home=home, endpoint=self.address, **more)


@pytest.fixture
def hub() -> Iterator[Hub]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.asked.append(self.path)
            time.sleep(state.delay_s)
            api = self.path.startswith("/api/")
            body = json.dumps(state.info).encode() if api else state.config
            self.send_response(state.status)
            for name, value in {"Content-Length": str(len(body)), **state.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state = Hub(f"http://127.0.0.1:{server.server_port}")
    files = [{"rfilename": "config.json"}, {"rfilename": "model.safetensors"}]
    state.info = {
        "id": ID,
        "sha": "0" * 40,
        "siblings": files,
        "safetensors": {"parameters": {"BF16": 123456}, "total": 123456},
    }
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield state
    server.shutdown()
    server.server_close()


def test_facts_and_exact_count_come_from_two_requests(hub: Hub, tmp_path: Path) -> None:
    spec = hub.fetch(tmp_path)
    assert (spec.name, spec.hf_id, spec.layers, spec.kv_heads) == ("rocket-7b", ID, 4, 2)
    assert (spec.params_published, spec.params_exact, spec.source) == (123456, True, f"huggingface.co/{ID}@0000000")
    assert [path.split("?")[0] for path in hub.asked] == [f"/api/models/{ID}", f"/{ID}/resolve/{'0' * 40}/config.json"]


def test_second_question_is_answered_from_the_home_folder(hub: Hub, tmp_path: Path) -> None:
    assert hub.fetch(tmp_path) == hub.fetch(tmp_path)
    assert len(hub.asked) == 2
    assert (tmp_path / "hub" / "acme--Rocket-7B.json").is_file()


def test_old_answer_is_asked_again_and_serves_when_nobody_answers(hub: Hub, tmp_path: Path) -> None:
    hub.fetch(tmp_path)
    kept = tmp_path / "hub" / "acme--Rocket-7B.json"
    os.utime(kept, (0, 0))
    hub.config = json.dumps(CONFIG | {"num_hidden_layers": 5}).encode()
    assert hub.fetch(tmp_path).layers == 5
    os.utime(kept, (0, 0))
    hub.status = 500
    spec = hub.fetch(tmp_path)
    assert spec.layers == 5
    assert "facts of an earlier answer" in spec.notes[-1]


def test_broken_kept_answer_is_asked_again(hub: Hub, tmp_path: Path) -> None:
    kept = tmp_path / "hub" / "acme--Rocket-7B.json"
    kept.parent.mkdir()
    kept.write_text("{", encoding="utf-8")
    assert hub.fetch(tmp_path).layers == 4


def test_quantized_checkpoint_does_not_count_its_packed_words(hub: Hub, tmp_path: Path) -> None:
    hub.config = json.dumps(CONFIG | {"quantization_config": {"quant_method": "gptq", "bits": 4, "group_size": 128}}).encode()
    spec = hub.fetch(tmp_path)
    assert (spec.params_published, spec.stored_method) == (None, "gptq")


FAILURES = [
    ("not there", {"status": 404, "headers": {"X-Error-Code": "RepoNotFound"}}, "is not on the hub, or private"),
    ("gated", {"status": 403, "headers": {"X-Error-Code": "GatedRepo"}}, "is gated: its terms must be accepted"),
    ("server error", {"status": 500}, "the hub did not answer"),
    ("GGUF alone", {"info": {"id": ID, "siblings": [{"rfilename": "m.gguf"}]}}, r"has no config\.json"),
    ("adapter", {"info": {"id": ID, "siblings": [{"rfilename": "adapter_config.json"}]}}, r"has no config\.json"),
    ("a config of gigabytes", {"config": b" " * (2**24 + 1)}, "larger than"),
]


@pytest.mark.parametrize(("answer", "reason"), [row[1:] for row in FAILURES], ids=[row[0] for row in FAILURES])
def test_failure_says_what_to_do(answer: dict[str, Any], reason: str, hub: Hub, tmp_path: Path) -> None:
    for name, value in answer.items():
        setattr(hub, name, value)
    with pytest.raises(HubError, match=reason) as caught:
        hub.fetch(tmp_path)
    assert caught.value.given == ID
    assert not (tmp_path / "hub").exists()


@pytest.mark.parametrize(
    ("config", "reason"),
    [(b"{", "no valid JSON"), (b"[]", "holds a JSON list"), (b'{"model_type": "bert"}', "no causal language model")],
    ids=["broken", "no object", "encoder"],
)
def test_config_that_describes_no_model_is_refused_and_not_kept(config: bytes, reason: str, hub: Hub, tmp_path: Path) -> None:
    hub.config = config
    with pytest.raises(InvalidModelError, match=reason):
        hub.fetch(tmp_path)
    assert not (tmp_path / "hub").exists()


def test_silence_ends_after_the_time_out(hub: Hub, tmp_path: Path) -> None:
    hub.delay_s = 1.0
    begun = time.monotonic()
    with pytest.raises(HubError, match="the hub did not answer"):
        hub.fetch(tmp_path, timeout_s=0.1)
    assert time.monotonic() - begun < 0.9


def test_no_network_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(HubError, match="the hub did not answer") as caught:
        fetch_model(ID, home=tmp_path, endpoint="http://127.0.0.1:1")
    assert "catalogue answers" in (caught.value.hint or "")


def test_read_only_home_does_not_spoil_the_answer(hub: Hub, read_only_folder: Path) -> None:
    assert hub.fetch(read_only_folder).layers == 4


@pytest.mark.parametrize("text", ["mistral", "a/b/c", "../x/y", "a//b", "a/b--c", "", "a b/c"], ids=str)
def test_what_is_no_id_never_reaches_the_network(text: str, tmp_path: Path) -> None:
    assert not is_hub_id(text)
    with pytest.raises(HubError, match="is no hub id"):
        fetch_model(text, home=tmp_path)
