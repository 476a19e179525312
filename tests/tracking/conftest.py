"""A results folder whose tracker has its tables."""

import shutil

import pytest

from ablate.tracking.experiment import make_file


@pytest.fixture(scope="session")
def tables(tmp_path_factory):
    """An empty tracker: MLflow takes longer to make its tables than most tests take."""
    place = tmp_path_factory.mktemp("tables")
    make_file(place / "mlflow.db")
    return place / "mlflow.db"


@pytest.fixture
def prepared(tables, tmp_path):
    """The results folder of each test, with a tracker that has its tables."""
    (tmp_path / "results").mkdir(exist_ok=True)
    shutil.copy(tables, tmp_path / "results" / "mlflow.db")
