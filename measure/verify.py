"""Whether what was quantized is what the recipe says. Four libraries of this field skip layers without a word."""

import math
from collections.abc import Collection, Sequence

from knowledge.measurements import QuantizationFacts
from knowledge.recipes import QuantRecipe
from knowledge.schemes import UNQUANTIZED_BITS
from measure.errors import QuantizationMismatchError
from measure.presets import Protocol
from measure.quantizers import Applied, TensorChange

_BROKEN_ERROR = 2.0
"""|W - Wq| / |W| beyond which a rounding is a fault, not a loss: zeroing every weight gives 1."""


def describe(
    applied: Applied,
    recipe: QuantRecipe,
    protocol: Protocol,
    *,
    expected: Collection[str],
    parameters: int,
    logit_change: float,
) -> QuantizationFacts:
    """The facts of a quantized model, as a record keeps them; check them with `verify`.

    Args:
        applied: what the quantizer says it did.
        recipe: what it was asked to do.
        protocol: by which conventions.
        expected: names of the weight matrices that should have changed.
        parameters: parameters of the whole model.
        logit_change: relative change of the logits on the probe tokens.
    """
    elements = sum(change.elements for change in applied.changes)
    bits = sum(change.bits for change in applied.changes)
    norm = sum(change.squared_norm for change in applied.changes)
    error = sum(change.squared_error for change in applied.changes)
    return QuantizationFacts(
        scheme=recipe.scheme.name,
        method=recipe.method.name,
        protocol=protocol.name,
        library=applied.library,
        simulated=applied.simulated,
        conventions=dict(applied.conventions),
        tensors_expected=len(expected),
        tensors_changed=len(applied.changes),
        left_out=dict(applied.left_out),
        group_exceptions={change.name: change.exception for change in applied.changes if change.exception},
        bits_per_weight=bits / elements if elements else None,
        model_bits_per_weight=(bits + (parameters - elements) * UNQUANTIZED_BITS) / parameters if elements else None,
        weight_error=math.sqrt(error / norm) if norm else None,
        logit_change=logit_change,
        calibration=applied.calibration,
    )


def verify(applied: Applied, recipe: QuantRecipe, *, expected: Collection[str], logit_change: float) -> None:
    """Refuse a quantized model that is not what the recipe says.

    Raises:
        QuantizationMismatchError: a matrix was skipped or changed unasked, nothing moved, the effective bits are not those
            of the scheme, or the logits are not finite.
    """
    if not math.isfinite(logit_change):
        raise QuantizationMismatchError(
            "the quantized model gives logits that are not finite", given=recipe.name, hint="try --dtype float32"
        )
    if recipe.scheme.weights is not None:
        _verify_names(applied, recipe, expected)
        _verify_changes(applied.changes, recipe)
    elif applied.changes:
        raise QuantizationMismatchError(
            f"{recipe.name} leaves weights alone, but {len(applied.changes)} matrices changed", given=recipe.name
        )
    if logit_change == 0 and not (recipe.scheme.weights is not None and not applied.changes):
        raise QuantizationMismatchError("no logit moved: the recipe had no effect", given=recipe.name)


def _verify_names(applied: Applied, recipe: QuantRecipe, expected: Collection[str]) -> None:
    changed = {change.name for change in applied.changes}
    missing = sorted(set(expected) - changed - set(applied.left_out))
    unasked = sorted(changed - set(expected))
    if missing or unasked:
        what = (
            f"{len(missing)} of {len(expected)} matrices were not quantized"
            if missing
            else f"{len(unasked)} other tensors were quantized"
        )
        raise QuantizationMismatchError(f"{what}, the first is {(missing or unasked)[0]}", given=recipe.name)
    if expected and not changed:
        reason = next(iter(applied.left_out.values()), "no reason given")
        raise QuantizationMismatchError(
            f"every matrix was left out: {reason}", given=recipe.name, hint="choose another group size"
        )


def _verify_changes(changes: Sequence[TensorChange], recipe: QuantRecipe) -> None:
    weights = recipe.scheme.weights
    for change in changes:
        if not math.isfinite(change.squared_error):
            raise QuantizationMismatchError(f"{change.name} is not finite after quantizing", given=recipe.name)
        if change.squared_error == 0 and not change.constant and recipe.scheme.w_bits < UNQUANTIZED_BITS:
            raise QuantizationMismatchError(f"{change.name} did not change", given=recipe.name)
        if change.squared_norm and change.squared_error > _BROKEN_ERROR**2 * change.squared_norm:
            raise QuantizationMismatchError(f"{change.name} is further from its original than zero is", given=recipe.name)
        exact = (
            weights is not None and weights.strategy == "group" and change.group == weights.group_size and not change.exception
        )
        if (
            exact
            and recipe.method.name != "spqr"
            and not math.isclose(change.bits_per_weight, recipe.scheme.bits_per_weight, rel_tol=1e-6)
        ):
            raise QuantizationMismatchError(
                f"{change.name} takes {change.bits_per_weight:.4f} bits a weight, not {recipe.scheme.bits_per_weight:.4f}",
                given=recipe.name,
            )
