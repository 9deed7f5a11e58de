"""`qadvisor rules`: browse the papers' findings, and recompute their claims on the evidence."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from advisor.cli import options, output
from advisor.cli.groups import ListingGroup, new_app
from knowledge.errors import UnknownNameError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from knowledge.rules import ClaimResult, Rule, RuleCheck

app = new_app(cls=ListingGroup, help="Browse the papers' findings; recompute their claims.")

Effect = Annotated[str | None, typer.Option("--effect", metavar="EFFECT", help="Only refuse, avoid, prefer, …")]
RuleId = Annotated[str, typer.Argument(metavar="ID", help="Id of a rule, as `qadvisor rules` lists it.")]
AgainstPredictor = Annotated[
    bool, typer.Option("--against-predictor", help="Also compute the claims on predicted losses; list the disagreements.")
]


@app.command("list")
def list_rules(search: options.Search = None, effect: Effect = None, json: options.Json = False) -> None:
    """List the rules: what they say, how strongly, and what the evidence says of them."""
    from knowledge.rules import load_rulebook

    wanted = (search or "").lower()
    rules = [
        rule
        for rule in load_rulebook()
        if effect in (None, rule.effect) and wanted in f"{rule.id} {rule.title} {rule.why}".lower()
    ]
    if json:
        output.write_json(output.versioned(rules=[_fields(rule) for rule in rules]))
        return
    rows = ((rule.id, rule.acting, rule.strength, rule.check.status if rule.check else None, rule.title) for rule in rules)
    table = output.make_table(("id", "effect", "strength", "evidence", "title"), rows)
    output.write_rich(table, output.count_line(len(rules), "rule"))


@app.command("show")
def show_rule(rule_id: RuleId, json: options.Json = False) -> None:
    """Show one rule: its condition, its reason, its citations, its exceptions, its claim."""
    from knowledge.rules import load_rulebook

    rules = {rule.id: rule for rule in load_rulebook()}
    if rule_id not in rules:
        raise UnknownNameError.of("rule", rule_id, list(rules), hint="`qadvisor rules` lists them")
    fields = _fields(rules[rule_id])
    if json:
        output.write_json(output.versioned(rule=fields))
        return
    fields["citations"] = [f"{c['paper']}, {c['where']}: {c['number']} ({c['url']})" for c in fields["citations"]]
    fields["claim"] = fields["claim"] and f"{fields['claim']['text']} ({fields['claim']['bound']} {fields['claim']['unit']})"
    fields["check"] = fields["check"] and _check_text(rules[rule_id].check)
    output.write_rich(output.make_facts(fields))


@app.command("check")
def check(against_predictor: AgainstPredictor = False, json: options.Json = False) -> None:
    """Recompute every rule's claim on the evidence, on the rule's own sources and on the others apart."""
    from knowledge.rule_check import check_rules
    from knowledge.rules import load_rulebook
    from knowledge.store import open_store

    rules = load_rulebook()
    predicted: dict[str, RuleCheck] | None = None
    with open_store() as store:
        checks = check_rules(store.connection, rules)
        if against_predictor:
            from advisor.rule_agreement import predicted_checks

            predicted = {one.rule_id: one for one in predicted_checks(store, rules)}
    if json:
        output.write_json(output.versioned(checks=[_check_fields(one, predicted) for one in checks]))
        return
    _write_checks(checks, predicted)
    if predicted is not None:
        _write_disagreements(rules, checks, predicted)


def _write_disagreements(rules: "Sequence[Rule]", checks: "Sequence[RuleCheck]", predicted: "dict[str, RuleCheck]") -> None:
    """Each claim that does not hold on predicted losses, with what was measured and what is predicted."""
    for rule, check in zip(rules, checks, strict=True):
        said = predicted[check.rule_id]
        if rule.claim and said.status == "contradicted":
            output.write_text(f"\n{rule.id}: {rule.claim.text}\n")
            for name, measured, forecast in (("own sources", check.own, said.own), ("others", check.others, said.others)):
                if measured.value is not None and forecast.value is not None:
                    output.write_text(
                        f"    {name}: measured {measured.value:.4g}, predicted {forecast.value:.4g} ({rule.claim.bound})\n"
                    )


def _write_checks(checks: "Sequence[RuleCheck]", predicted: "dict[str, RuleCheck] | None") -> None:
    """One line a rule, then how many the evidence supports and contradicts, and how many the predictor agrees with."""
    agreement = None if predicted is None else {rule_id: _agreement(one) for rule_id, one in predicted.items()}
    columns = ("rule", "status", "own", "n", "others", "n ") + (() if agreement is None else ("predictor",))
    rows = [
        (one.rule_id, one.status, *_result_cells(one.own), *_result_cells(one.others), *_said(agreement, one.rule_id))
        for one in checks
    ]
    output.write_rich(output.make_table(columns, rows, right=columns[2:6]))
    output.write_text(f"\n{_tally(one.status for one in checks)}\n")
    if agreement is not None:
        output.write_text(f"predictor: {_tally(agreement.values())}\n")


def _tally(words: "Iterable[str]") -> str:
    counts: dict[str, int] = {}
    for word in words:
        counts[word] = counts.get(word, 0) + 1
    return ", ".join(f"{counts[word]} {word}" for word in sorted(counts))


def _said(agreement: dict[str, str] | None, rule_id: str) -> tuple[str, ...]:
    return () if agreement is None else (agreement[rule_id],)


def _fields(rule: "Rule") -> dict[str, Any]:
    from dataclasses import asdict

    fields = {name: value for name, value in asdict(rule).items() if name not in ("file", "packaged")}
    if rule.claim:
        fields["claim"]["bound"] = rule.claim.bound
    return fields | {"acting": rule.acting, "check": _check_fields(rule.check) if rule.check else None}


def _check_fields(check: "RuleCheck", predicted: "dict[str, RuleCheck] | None" = None) -> dict[str, Any]:
    from dataclasses import asdict

    fields = asdict(check) | {"status": check.status}
    if predicted is None:
        return fields
    said = predicted[check.rule_id]
    return fields | {"predictor": _agreement(said), "predicted": {"own": asdict(said.own), "others": asdict(said.others)}}


def _agreement(check: "RuleCheck") -> str:
    from advisor.rule_agreement import agreement

    return agreement(check)


def _check_text(check: "RuleCheck | None") -> str | None:
    if check is None:
        return None
    parts = (("own sources", check.own), ("other sources", check.others))
    return f"{check.status}; " + "; ".join(f"{name}: {_result_text(result)}" for name, result in parts)


def _result_text(result: "ClaimResult") -> str:
    return result.status if result.value is None else f"{result.value:.4g} over {result.n:,} ({result.status})"


def _result_cells(result: "ClaimResult") -> tuple[object, object]:
    return result.value, result.n or None
