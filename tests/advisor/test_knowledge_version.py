from advisor.knowledge_version import knowledge_version


def test_the_version_follows_everything_that_an_answer_rests_on(tmp_path) -> None:
    first = knowledge_version("a", tmp_path)
    assert knowledge_version("a", tmp_path) == first
    assert knowledge_version("b", tmp_path) != first
    rules = tmp_path / "rules"
    rules.mkdir()
    (rules / "mine.yaml").write_text("id: mine\n")
    assert knowledge_version("a", tmp_path) != first
