"""Data frames: pandas and polars."""

import numpy as np
import pytest
from sklearn.datasets import load_wine
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skae import AutoencoderOutlierDetector, AutoencoderTransformer

pd = pytest.importorskip("pandas")

X = load_wine().data
NAMES = load_wine().feature_names


@pytest.fixture(params=["pandas", "pandas of arrow", "polars"])
def frame(request):
    frame = pd.DataFrame(X, columns=NAMES)
    if request.param == "pandas":
        return frame
    pytest.importorskip("pyarrow")
    if request.param == "pandas of arrow":
        return frame.convert_dtypes(dtype_backend="pyarrow")
    return pytest.importorskip("polars").from_pandas(frame)


def test_numbers_are_those_of_the_array(frame):
    of_frame = AutoencoderOutlierDetector(3, random_state=0).fit(frame)
    of_array = AutoencoderOutlierDetector(3, random_state=0).fit(X)
    assert of_frame.feature_names_in_.tolist() == NAMES
    np.testing.assert_array_equal(
        of_frame.score_samples(frame), of_array.score_samples(X)
    )
    np.testing.assert_array_equal(of_frame.reconstruct(frame), of_array.reconstruct(X))


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_code_comes_as_either_kind_of_frame(frame, library):
    frames = pytest.importorskip(library)
    pipeline = make_pipeline(
        StandardScaler(), AutoencoderTransformer(2, random_state=0)
    ).set_output(transform=library)
    out = pipeline.fit_transform(frame)
    assert isinstance(out, frames.DataFrame)
    assert list(out.columns) == pipeline.get_feature_names_out().tolist()
    # A code that is a frame goes back as well.
    back = pipeline.inverse_transform(out)
    np.testing.assert_allclose(
        back, pipeline.inverse_transform(out.to_numpy()), rtol=1e-12
    )


def test_explanation_speaks_of_columns_by_name(frame):
    detector = AutoencoderOutlierDetector(3, random_state=0).fit(frame)
    values = X[:5].copy()
    values[:, NAMES.index("hue")] += 10 * X[:, NAMES.index("hue")].std()
    rows = type(frame)(dict(zip(NAMES, values.T, strict=True)))
    worst = detector.explain(rows).to_frame(top_k=1)
    assert worst["feature"].tolist() == ["hue"] * 5
    np.testing.assert_array_equal(worst["value"], values[:, NAMES.index("hue")])


@pytest.mark.parametrize(
    "index",
    [
        pd.date_range("2026-01-01", periods=len(X), freq="h", tz="UTC"),
        pd.MultiIndex.from_product([range(len(X) // 2), ["left", "right"]]),
        pd.Index([f"wine {i}" for i in range(len(X))]),
    ],
    ids=["times", "two levels", "strings"],
)
def test_index_is_kept(index):
    frame = pd.DataFrame(X, columns=NAMES, index=index)
    detector = AutoencoderOutlierDetector(3, random_state=0).fit(frame)
    detector.set_output(transform="pandas")
    assert detector.transform(frame).index.equals(index)
    explained = detector.explain(frame[100:103])
    assert explained.index.equals(index[100:103])
    assert explained.to_frame(2)["row"].tolist() == index[100:103].repeat(2).tolist()


@pytest.mark.filterwarnings("ignore::skae.exceptions.InitialWeightsWarning")
def test_columns_must_be_those_of_fit(frame):
    model = AutoencoderTransformer(2, random_state=0).fit(frame)
    with pytest.raises(ValueError, match="Feature names must be in the same order"):
        model.transform(frame[NAMES[::-1]])
    with pytest.raises(ValueError, match=r"(?s)now missing.*proline"):
        model.transform(frame[NAMES[:-1]])


@pytest.mark.filterwarnings("ignore::skae.exceptions.InitialWeightsWarning")
def test_lazy_frames_must_be_collected():
    polars = pytest.importorskip("polars")
    lazy = polars.DataFrame(dict(zip(NAMES, X.T, strict=True))).lazy()
    with pytest.raises(ValueError, match="sequence"):
        AutoencoderTransformer(2).fit(lazy)
    model = AutoencoderTransformer(2, random_state=0).fit(lazy.collect())
    assert model.feature_names_in_.tolist() == NAMES


@pytest.mark.filterwarnings("ignore::skae.exceptions.FitWarning")
def test_missing_values_of_any_kind_are_taken():
    frame = pd.DataFrame(X, columns=NAMES)
    frame["proline"] = frame["proline"].astype("Int64")
    frame.loc[3, "proline"] = pd.NA
    model = AutoencoderTransformer(2, random_state=0).fit(frame)
    column = NAMES.index("proline")
    filled = model.impute(frame)
    assert X[:, column].min() <= filled[3, column] <= X[:, column].max()
    np.testing.assert_array_equal(np.delete(filled, 3, axis=0), np.delete(X, 3, axis=0))
