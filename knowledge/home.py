"""The one folder in which this program keeps what is the user's: runs, rules, store snapshots, cached hub facts."""

import os
from pathlib import Path


def home() -> Path:
    """The folder with the user's runs and the snapshots: `QADVISOR_HOME`, else the platform's data folder."""
    if given := os.environ.get("QADVISOR_HOME"):
        return Path(given).expanduser()
    from platformdirs import user_data_path

    return user_data_path("qadvisor", appauthor=False)
