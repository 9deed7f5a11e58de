"""Published sizes: how far each was rounded, and what cannot be read."""

from pathlib import Path

import pytest

from knowledge.errors import DataError
from knowledge.filesizes import load_filesizes, main, read_tables

HEADER = "source,ref,model,params_b,format,w_bits,w_group,bpw,size_bytes,size_gb,unit,note\n"


def _read(folder: Path, row: str) -> tuple[int | None, int, bool]:
    (folder / "filesize_x.csv").write_text(HEADER + row + "\n", encoding="utf-8")
    found = next(read_tables(folder))
    return found.size_bytes, found.rounding_bytes, found.exact


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (",4431390720,,B,", (4431390720, 0, True)),
        (",,4.15,GB,", (4_150_000_000, 5_000_000, False)),
        (",,7.96,GiB,", (round(7.96 * 2**30), round(0.005 * 2**30), False)),
        (",,26,GB,\"Ollama library listing, rounded to 2 digits\"", (26_000_000_000, 500_000_000, False)),
        (",,9,GB,\"Ollama library listing, rounded to 2 digits\"", (9_000_000_000, 50_000_000, False)),
        (",,0.352,GB,\"Ollama library listing, rounded to 2 digits\"", (352_000_000, 500_000, False)),
        (",,0.7012,GiB,rounded to 0.1 MiB by the catalogue", (round(0.7012 * 2**30), round(0.05 * 2**20), False)),
        (",,15.0,GiB,rounded to 0.1 GiB by the catalogue", (15 * 2**30, round(0.05 * 2**30), False)),
        (",,5.73,GB,4.68 + 1.05 GB shards", (5_730_000_000, 10_000_000, False)),
        ("3.35,,,,bits per weight only", (None, 0, False)),
    ],
    ids=["bytes", "two decimals", "GiB", "Ollama 26", "Ollama 9", "Ollama MB", "0.1 MiB", "0.1 GiB", "shards", "bits only"],
)  # fmt: skip
def test_rounding(tmp_path: Path, cells: str, expected: tuple[int | None, int, bool]) -> None:
    assert _read(tmp_path, f"peers,somewhere,llama-2-7b,7,gguf:q4_0,4,32,{cells}") == expected


@pytest.mark.parametrize("row", ["peers,r,m,7,gguf:q4_0,4,32,,,4.1,miles,", "nobody,r,m,7,gguf:q4_0,4,32,,,4.1,GB,"])
def test_unreadable_rows_are_named(tmp_path: Path, row: str) -> None:
    with pytest.raises(DataError, match=r"filesize_x\.csv row 2"):
        _read(tmp_path, row)


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="filesize_"):
        next(read_tables(tmp_path))


def test_packaged_rows() -> None:
    rows = load_filesizes()
    assert len(rows) > 3000
    assert all(row.licence and row.ref for row in rows)
    assert sum(row.exact for row in rows) >= 50


def test_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "SOURCE_FOLDER" in capsys.readouterr().err
