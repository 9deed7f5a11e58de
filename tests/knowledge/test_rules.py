import shutil

import pytest
from rule_candidates import write_rule

from knowledge.errors import RuleError
from knowledge.rules import RULEBOOK, load_rules, natural_order


def test_user_rules_come_after_the_packaged_and_replace_them_by_id(tmp_path):
    write_rule(tmp_path, ("id: test-1", "id: li2024-1"), name="li2024-1")
    write_rule(tmp_path)
    rules = {rule.id: rule for rule in load_rules(extra=tmp_path)}
    assert not rules["li2024-1"].packaged
    assert rules["li2024-1"].title == "A rule"
    assert rules["test-1"].check is None
    assert rules["li2024-2"].packaged
    assert len(rules) == len(load_rules()) + 1


def test_a_missing_user_folder_is_no_error(tmp_path):
    assert load_rules(extra=tmp_path / "none") == load_rules()


def test_a_file_that_is_gone_takes_its_rule_with_it(tmp_path):
    folder = tmp_path / "rulebook"
    shutil.copytree(RULEBOOK, folder)
    (folder / "li2024-27.yaml").unlink()
    assert {rule.id for rule in load_rules()} - {rule.id for rule in load_rules(folder)} == {"li2024-27"}


def test_a_changed_file_is_read_again(tmp_path):
    folder = tmp_path / "rulebook"
    shutil.copytree(RULEBOOK, folder)
    path = folder / "li2024-4.yaml"
    path.write_text(path.read_text(encoding="utf-8").replace("effect: refuse", "effect: avoid"), encoding="utf-8")
    changed = {rule.id: rule for rule in load_rules(folder)}["li2024-4"]
    assert changed.effect == "avoid"
    assert changed.check is None


def test_a_broken_compiled_form_is_an_error_that_names_the_folder(tmp_path):
    (tmp_path / "compiled.json").write_text("[", encoding="utf-8")
    with pytest.raises(RuleError, match="cannot read the rules of"):
        load_rules(tmp_path)


def test_ids_sort_by_number():
    assert sorted(["li2024-10", "li2024-9", "jin2024-j3", "li2024-1-kv", "li2024-1"], key=natural_order) == [
        "jin2024-j3", "li2024-1", "li2024-1-kv", "li2024-9", "li2024-10",
    ]  # fmt: skip
