"""How to make and serve a recommended checkpoint: the library's commands and the engine's options, with their sources.

Nothing is invented: a step stands here only if the library's documentation shows it. For every other combination of
format and method the answer says that no command is known.
"""

from dataclasses import dataclass

from advisor.recipe_make import make_steps
from advisor.recipe_step import Step, as_dict, folder_for
from knowledge.engines import serve_hint
from knowledge.recipes import QuantRecipe


@dataclass(frozen=True, slots=True, kw_only=True)
class Instructions:
    """Steps from the published 16-bit model to a running engine."""

    model: str
    scheme: str
    method: str
    format: str
    engine: str
    make: tuple[Step, ...]
    serve: tuple[Step, ...]
    notes: tuple[str, ...]
    """What the sources say must hold, and what is not known."""

    def as_dict(self) -> dict[str, object]:
        """Plain values for JSON."""
        fields: dict[str, object] = {name: getattr(self, name) for name in self.__slots__}
        return fields | {"make": [as_dict(step) for step in self.make], "serve": [as_dict(step) for step in self.serve]}


def write_instructions(
    recipe: QuantRecipe, *, model: str, format: str, engine: str, context: int | None = None
) -> Instructions:
    """The steps for one recipe.

    Args:
        recipe: scheme and method.
        model: hub id, folder or file of the published model.
        format: checkpoint format, as in `knowledge.engines.EngineFormat.format`.
        engine: engine that serves it.
        context: tokens to reserve; the engine's own default where None.

    Raises:
        UnknownNameError: nobody knows the engine.
    """
    made, notes = make_steps(recipe, model=model, format=format)
    hint = serve_hint(engine, format, recipe.scheme.kv_cache, scheme=recipe.scheme, context=context)
    quantized = recipe.scheme.weights is not None or recipe.scheme.activations is not None
    target = (made[-1].output if made else None) or (folder_for(model, recipe) if quantized else model)
    line = hint.line.replace("MODEL.gguf", target).replace("(MODEL", f'("{target}"').replace("MODEL", target)
    sources = dict.fromkeys("; ".join(hint.sources).split("; "))
    serve = Step(title=f"serve with {engine}", command=line, source="; ".join(sources))
    return Instructions(
        model=model, scheme=recipe.scheme.name, method=recipe.method.name, format=format, engine=engine,
        make=made, serve=(serve,), notes=(*notes, *hint.notes),
    )  # fmt: skip
