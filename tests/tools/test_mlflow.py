"""MLflow: a model logged, and loaded as it was."""

import numpy as np
import pytest
from sklearn.datasets import load_wine

from skae import AutoencoderOutlierDetector, AutoencoderTransformer

mlflow = pytest.importorskip("mlflow")
pytest.importorskip("sqlalchemy")

pytestmark = pytest.mark.filterwarnings(
    # MLflow 3.17 with SQLAlchemy 2.1 and pandas 3.
    "ignore:The ``noload`` loader strategy is deprecated",
    "ignore:Operation with range is deprecated",
    "ignore:.*Any type hint is inferred as AnyType:UserWarning",
    "ignore::skae.exceptions.FitWarning",  # few epochs
    "ignore:Hint. Inferred schema contains integer column:UserWarning",
)

FRAME = load_wine(as_frame=True).data


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """An experiment in a folder, and nothing outside it."""
    folder = tmp_path_factory.mktemp("mlflow")
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
    mlflow.create_experiment("skae", artifact_location=f"file://{folder}/artifacts")
    mlflow.set_experiment("skae")
    yield folder
    mlflow.set_tracking_uri(before)


def log(model, **how):
    with mlflow.start_run() as run:
        mlflow.log_params(model.get_params())
        for epoch, loss in enumerate(model.history_["train_loss"], 1):
            mlflow.log_metric("train_loss", loss, step=epoch)
        info = mlflow.sklearn.log_model(
            model, name="model", pip_requirements=["skae"], **how
        )
    return run.info.run_id, info.model_uri


def test_detector(store):
    model = AutoencoderOutlierDetector(
        2, max_epochs=5, early_stopping=False, random_state=0
    ).fit(FRAME)
    signature = mlflow.models.infer_signature(FRAME, model.predict(FRAME))
    run_id, uri = log(model, signature=signature, serialization_format="cloudpickle")

    loaded = mlflow.sklearn.load_model(uri)
    np.testing.assert_array_equal(
        loaded.score_samples(FRAME), model.score_samples(FRAME)
    )
    served = mlflow.pyfunc.load_model(uri)
    np.testing.assert_array_equal(served.predict(FRAME), model.predict(FRAME))
    # Scores, which predict does not give, are there by the raw model.
    np.testing.assert_array_equal(
        served.get_raw_model().score_samples(FRAME), model.score_samples(FRAME)
    )
    with pytest.raises(mlflow.exceptions.MlflowException, match="proline"):
        served.predict(FRAME.drop(columns="proline"))

    assert mlflow.get_run(run_id).data.params["n_components"] == "2"
    metrics = mlflow.MlflowClient().get_metric_history(run_id, "train_loss")
    assert [metric.value for metric in metrics] == model.history_["train_loss"].tolist()


def test_transformer(store):
    model = AutoencoderTransformer(
        2, max_epochs=5, early_stopping=False, random_state=0
    ).fit(FRAME)
    model.set_output(transform="pandas")
    _, uri = log(model, serialization_format="cloudpickle")
    assert (
        mlflow.sklearn.load_model(uri).transform(FRAME).equals(model.transform(FRAME))
    )


@pytest.mark.xfail(
    raises=AssertionError, reason="models keep tensors, which skops does not know"
)
def test_default_format_asks_what_to_trust(store):
    skops_io = pytest.importorskip("skops.io")
    model = AutoencoderTransformer(2, random_state=0).fit(FRAME)
    with pytest.raises(mlflow.exceptions.MlflowException, match="skops_trusted_types"):
        log(model)
    unknown = skops_io.get_untrusted_types(data=skops_io.dumps(model))
    _, uri = log(model, skops_trusted_types=unknown)
    loaded = mlflow.sklearn.load_model(uri)
    np.testing.assert_array_equal(loaded.transform(FRAME), model.transform(FRAME))
