"""Tiny models on disk and in memory, made once a session."""

import importlib.util

import pytest


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Products of tiny matrices are slower on several threads, much so on a busy machine."""
    if importlib.util.find_spec("torch"):
        import torch

        torch.set_num_threads(1)


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory):
    """A function from a family to the folder of its tiny random model."""
    import tiny_models

    root, made = tmp_path_factory.mktemp("models"), {}

    def folder(family):
        if family not in made:
            made[family] = tiny_models.save_model(family, root)
        return made[family]

    return folder


@pytest.fixture(scope="session")
def backend_for(model_folder):
    """A function from a family to an open backend; backends restore their model, so tests may share them."""
    from measure.backend import TorchBackend
    from measure.models import locate_model
    from measure.plan import CalibrationRequest, Settings

    open_backends = {}

    def backend(family):
        if family not in open_backends:
            settings = Settings(calibration=CalibrationRequest(samples=8, tokens_per_sample=64))
            open_backends[family] = TorchBackend(locate_model(str(model_folder(family))), settings)
            open_backends[family].open()
        return open_backends[family]

    return backend


@pytest.fixture(scope="session")
def double_for(model_folder):
    """A function from a family to its loaded model in float64, where no rounding noise can move a value to another code."""
    from measure.loading import load_model
    from measure.models import locate_model
    from measure.plan import Settings

    models = {}

    def loaded(family):
        if family not in models:
            models[family] = load_model(locate_model(str(model_folder(family))), Settings())
            models[family].model.double()
        return models[family]

    return loaded
