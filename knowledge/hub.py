"""The only door to the network: facts about a model on the Hugging Face hub, cached under the home folder.

Asked for with `--online` alone. Two requests a model: its metadata (files, exact parameter count) and its `config.json`; no
weights, no code of the repository (`trust_remote_code` has no equivalent here). Answers are kept for a day, and used when
they are older if the network does not answer.
"""

import json
import os
import re
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from knowledge.errors import HubError, InvalidModelError
from knowledge.home import home as home_folder
from knowledge.model_config import spec_from_config
from knowledge.model_fields import JSON_LIMIT_BYTES, Fields, load_json, parse_json
from knowledge.models import ModelSpec

TIMEOUT_S = 3.0
"""Seconds until a request is given up."""

FRESH_S = 24 * 3600.0
"""Seconds during which a kept answer is not asked for again."""

_REPO = re.compile(r"^[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}$")


def is_hub_id(text: str) -> bool:
    """Whether `text` has the form `organisation/name` of a hub repository."""
    return bool(_REPO.match(text)) and "--" not in text and ".." not in text


def fetch_model(
    hf_id: str, *, home: Path | None = None, timeout_s: float = TIMEOUT_S, endpoint: str | None = None
) -> ModelSpec:
    """The model that the hub has as `hf_id`, from the cache where it is fresh.

    Args:
        hf_id: `organisation/name`.
        home: where answers are kept (`hub/` in it); None = the program's home folder.
        timeout_s: seconds until a request is given up.
        endpoint: address of another hub than huggingface.co; None = what huggingface_hub is set to (`HF_ENDPOINT`).

    Raises:
        HubError: the id cannot be, there is no such model, it is gated, or the network did not answer and nothing is kept.
        InvalidModelError: the model's config.json describes no causal language model.
    """
    if not is_hub_id(hf_id):
        raise HubError(f"{hf_id!r} is no hub id", given=hf_id, allowed="organisation/name")
    kept = _folder(home) / f"{hf_id.replace('/', '--')}.json"
    if (answer := _kept(kept, FRESH_S)) is not None:
        return _spec(hf_id, answer)
    try:
        answer = _ask(hf_id, timeout_s, endpoint)
    except HubError:
        if (answer := _kept(kept, float("inf"))) is None:
            raise
        spec = _spec(hf_id, answer)
        return replace(spec, notes=(*spec.notes, "the hub did not answer: facts of an earlier answer"))
    spec = _spec(hf_id, answer)  # nothing is kept that cannot be read
    with suppress(OSError):  # a read-only home: the answer is used, not kept
        _keep(kept, answer)
    return spec


def _folder(home: Path | None) -> Path:
    """Where answers are kept."""
    if home is None:
        home = home_folder()
    return home / "hub"


def _kept(path: Path, age_s: float) -> dict[str, Any] | None:
    """The answer in `path` if it is at most `age_s` seconds old; a broken file counts as none."""
    try:
        if time.time() - path.stat().st_mtime > age_s:
            return None
        answer = load_json(path)
    except (OSError, InvalidModelError):
        return None
    return answer if isinstance(answer.get("config"), dict) else None


def _keep(path: Path, answer: Mapping[str, Any]) -> None:
    """Write `answer` aside and put it in place, so that no reader meets half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(f".{os.getpid()}.tmp")
    aside.write_text(json.dumps(answer, sort_keys=True), encoding="utf-8")
    aside.replace(path)


def _ask(hf_id: str, timeout_s: float, endpoint: str | None) -> dict[str, Any]:
    """Metadata and config of a model from the hub.

    Raises:
        HubError: whatever went wrong, in words that say what to do.
    """
    from huggingface_hub import HfApi, hf_hub_url
    from huggingface_hub.errors import GatedRepoError, HTTPError, RepositoryNotFoundError  # type: ignore[attr-defined]

    try:
        info = HfApi(endpoint=endpoint).model_info(hf_id, timeout=timeout_s, expand=["safetensors", "siblings", "sha"])
        files = [sibling.rfilename for sibling in info.siblings or ()]
        if "config.json" not in files:
            raise HubError(f"{hf_id} has no config.json", given=hf_id, hint=_without_config(files))
        data = _read(hf_hub_url(hf_id, "config.json", revision=info.sha, endpoint=endpoint), hf_id, timeout_s)
    except GatedRepoError as error:
        raise _gated(hf_id) from error
    except RepositoryNotFoundError as error:
        raise HubError(f"{hf_id} is not on the hub, or private", given=hf_id, hint="check the spelling") from error
    except HubError:
        raise
    except (HTTPError, OSError, ValueError, RuntimeError) as error:
        raise _unanswered(hf_id, error) from error
    total = info.safetensors.total if info.safetensors else None
    return {"config": parse_json(data, f"{hf_id}/config.json"), "sha": info.sha, "files": files, "params_total": total}


def _read(url: str, hf_id: str, timeout_s: float) -> bytes:
    """The bytes behind `url`, up to what a config.json can be.

    Raises:
        HubError: the model is gated, the file is not given out, or too large.
    """
    from huggingface_hub import get_session, get_token

    token = get_token()
    headers = {"authorization": f"Bearer {token}"} if token else {}
    data = bytearray()
    with get_session().stream("GET", url, headers=headers, timeout=timeout_s, follow_redirects=True) as reply:
        if reply.status_code in (401, 403):
            raise _gated(hf_id)
        if reply.status_code >= 400:
            raise HubError(f"the hub does not give out the config.json of {hf_id} (status {reply.status_code})", given=hf_id)
        for chunk in reply.iter_bytes():
            data += chunk
            if len(data) > JSON_LIMIT_BYTES:
                raise HubError(f"the config.json of {hf_id} is larger than {JSON_LIMIT_BYTES} bytes", given=hf_id)
    return bytes(data)


def _gated(hf_id: str) -> HubError:
    hint = f"accept them at huggingface.co/{hf_id} and run `hf auth login`; or name an ungated copy"
    return HubError(f"{hf_id} is gated: its terms must be accepted", given=hf_id, hint=hint)


def _unanswered(hf_id: str, error: Exception) -> HubError:
    reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
    return HubError(
        f"the hub did not answer for {hf_id}: {reason}",
        given=hf_id,
        hint="without --online the catalogue answers; a folder or file works too",
    )


def _without_config(files: list[str]) -> str:
    ggufs = [name for name in files if name.endswith(".gguf")]
    if ggufs:
        return f"it holds GGUF files: download one ({ggufs[0]}) and give its path"
    return "give the repository of the base model, not of an adapter"


def _spec(hf_id: str, answer: Mapping[str, Any]) -> ModelSpec:
    """The facts of an answer; the parameter count counts where the checkpoint is not quantized."""
    fields = Fields(answer, f"hub answer for {hf_id}")
    source = f"huggingface.co/{hf_id}@{(fields.text('sha') or 'main')[:7]}"
    spec = spec_from_config(fields.inner("config").values, name=hf_id.rpartition("/")[2], source=source)
    total = fields.whole("params_total")
    if spec.stored_scheme is None and total is not None:
        spec = replace(spec, params_published=total, params_exact=True)
    return replace(spec, hf_id=hf_id)
