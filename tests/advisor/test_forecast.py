import numpy as np

from advisor.candidates import generate_candidates
from advisor.forecast import forecast_tasks
from advisor.predictor import load_predictor
from advisor.recipe_table import recipe_table
from knowledge.catalogue import find_model
from knowledge.task_catalogue import find_task


def test_forecasts_are_those_of_the_rows_written_out() -> None:
    table = recipe_table(generate_candidates(find_model("gemma-2-9b")).candidates)
    constants = {"model": "gemma-2-9b", "family": "gemma", "params_b": 9.24, "moe": False, "tuned": None, "context": 4096}
    tasks = [
        {"task": task.name, "task_type": task.type, "ability": task.ability, "metric": task.metric, "chance": task.chance}
        for task in map(find_task, ("gsm8k", "wikitext2", "hellaswag"))
    ]
    predictor = load_predictor()
    for found, task in zip(forecast_tasks(predictor, table, constants, tasks), tasks, strict=True):
        filled = {name: [value] * len(table.recipes) for name, value in (constants | task).items()}
        expected = predictor.predict(table.scheme | filled)
        for name in ("point", "lower", "upper"):
            np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=1e-12)
        assert (found.in_support == expected.in_support).all()
        assert (found.n_calibration == expected.n_calibration).all()
        assert (found.kind == expected.kind).all()
