"""The version of everything that an answer rests on: evidence and catalogues, rules, and the fitted predictor."""

import hashlib
from functools import lru_cache
from pathlib import Path

from advisor.predictor import PACKAGED
from knowledge.rules import COMPILED, RULEBOOK, USER_FOLDER


def knowledge_version(store_version: str, home: Path) -> str:
    """Sixteen hexadecimal digits; the same request and the same version give the same answer, byte for byte.

    Args:
        store_version: version of the knowledge base, over published and measured figures and the catalogues.
        home: the user's folder, whose rules count beside the packaged ones.
    """
    digest = hashlib.sha256(f"{store_version} {_packaged()}".encode())
    for path in sorted((home / USER_FOLDER).glob("*.y*ml")):
        digest.update(f"{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()}".encode())
    return digest.hexdigest()[:16]


@lru_cache(maxsize=1)
def _packaged() -> str:
    digest = hashlib.sha256(PACKAGED.read_bytes())
    digest.update((RULEBOOK / COMPILED).read_bytes())
    return digest.hexdigest()
