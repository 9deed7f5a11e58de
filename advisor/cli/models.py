"""`qadvisor models`: browse the catalogue, look into a model folder, config.json or GGUF file."""

from typing import Annotated, Any

import typer

from advisor.cli import options, output
from advisor.cli.groups import ListingGroup, new_app

app = new_app(cls=ListingGroup, help="Browse the model catalogue; look into a model file.")

Family = Annotated[str | None, typer.Option("--family", metavar="NAME", help="Show only this family.")]
Name = Annotated[str, typer.Argument(metavar="MODEL", help="Catalogue name, hub id, model folder, config.json or .gguf file.")]


@app.command("list")
def list_models(search: options.Search = None, family: Family = None, json: options.Json = False) -> None:
    """List the models of the catalogue."""
    from knowledge.catalogue import all_models
    from knowledge.tensors import params_total

    models = [
        model
        for model in all_models()
        if (family is None or model.family == family.lower())
        and (search is None or search.lower() in f"{model.name} {model.hf_id or ''} {' '.join(model.aliases)}".lower())
    ]
    if json:
        output.write_json(output.versioned(models=[_summary(model) for model in models]))
        return
    rows = ((model.name, model.family, _billions(params_total(model)), model.max_context) for model in models)
    table = output.make_table(("model", "family", "params", "context"), rows, right=("params", "context"), whole=("family",))
    output.write_rich(table, output.count_line(len(models), "model"))


@app.command("show")
def show_model(name: Name, online: options.Online = False, json: options.Json = False) -> None:
    """Show the facts about one model and where they were read."""
    from knowledge.resolve import resolve_model

    model = resolve_model(name, online=online)
    facts = _facts(model)
    if json:
        output.write_json(output.versioned(model=facts))
    else:
        output.write_rich(output.make_facts(facts))


def _billions(count: int | None) -> str | None:
    return f"{count / 1e9:.2f} B" if count else None


def _summary(model: Any) -> dict[str, Any]:
    from knowledge.tensors import params_total

    fields = ("name", "family", "hf_id", "layers", "max_context", "tuned", "aliases")
    return {field: getattr(model, field) for field in fields} | {"params_total": params_total(model)}


def _facts(model: Any) -> dict[str, Any]:
    """Every stated fact; parts flattened under their own name, stored tensors counted."""
    from knowledge.tensors import params_active, params_total

    facts: dict[str, Any] = {"params_total": params_total(model), "params_active": params_active(model)}
    for name in model.__slots__:
        value = getattr(model, name)
        if name == "stored_tensors":
            facts["stored_tensors"] = len(value) or None
            facts["stored_bytes"] = sum(tensor.bytes for tensor in value) or None
        elif name == "stored_scheme":
            facts[name] = value.name if value else None
        elif hasattr(value, "__slots__") and not isinstance(value, str):
            parts = {part: getattr(value, part) for part in value.__slots__}
            facts |= {f"{name}.{part}": fact for part, fact in parts.items() if fact not in (None, 0)}
        else:
            facts[name] = value
    return facts | {"engines": _standings(model.architecture)}


def _standings(architecture: str | None) -> dict[str, str | None]:
    """How the architecture stands in the engines' own lists."""
    from knowledge.architectures import architecture_lists, standing

    return {engine: standing(engine, architecture) for engine in architecture_lists()}
