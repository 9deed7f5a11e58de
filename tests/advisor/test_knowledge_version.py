from advisor.knowledge_version import digest_of_files, knowledge_version, packaged_files


def test_the_version_follows_everything_that_an_answer_rests_on(tmp_path) -> None:
    first = knowledge_version("a", tmp_path)
    assert knowledge_version("a", tmp_path) == first
    assert knowledge_version("b", tmp_path) != first
    rules = tmp_path / "rules"
    rules.mkdir()
    (rules / "mine.yaml").write_text("id: mine\n")
    assert knowledge_version("a", tmp_path) != first


def test_it_covers_predictor_rules_and_every_catalogue(tmp_path) -> None:
    assert {path.name for path in packaged_files()} == {
        "predictor.safetensors", "compiled.json", "models.jsonl", "tasks.csv", "hardware.csv", "engines.csv",
        "engine_formats.csv", "engine_kv.csv", "architectures.csv", "architecture_lists.csv",
    }  # fmt: skip
    for name, content in (("a", "xy"), ("b", "xz"), ("c", "x"), ("d", "xyx")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(content)
    assert len({digest_of_files((tmp_path / name / "file",)) for name in "abcd"}) == 4
