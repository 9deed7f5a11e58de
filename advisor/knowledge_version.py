"""The version of everything that an answer rests on: evidence, catalogues, rules, and the fitted predictor."""

import hashlib
from functools import lru_cache
from pathlib import Path

from advisor.predictor import PACKAGED
from knowledge.engines import CATALOG
from knowledge.rules import COMPILED, RULEBOOK, USER_FOLDER


def knowledge_version(store_version: str, home: Path) -> str:
    """Sixteen hexadecimal digits; the same request and the same version give the same answer, byte for byte.

    Args:
        store_version: version of the knowledge base, over published and measured figures.
        home: the user's folder, whose rules count beside the packaged ones.
    """
    digest = hashlib.sha256(f"{store_version} {digest_of_files(packaged_files())}".encode())
    for path in sorted((home / USER_FOLDER).glob("*.y*ml")):
        digest.update(f"{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()}".encode())
    return digest.hexdigest()[:16]


def packaged_files() -> tuple[Path, ...]:
    """What comes with the program beside the published figures: predictor, rules, catalogues."""
    return (PACKAGED, RULEBOOK / COMPILED, *sorted(path for path in CATALOG.iterdir() if path.suffix in (".csv", ".jsonl")))


@lru_cache(maxsize=4)
def digest_of_files(paths: tuple[Path, ...]) -> str:
    """A hash over the names and contents of files, worked out once a process."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(f"{path.name} {path.stat().st_size} ".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()
