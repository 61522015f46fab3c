"""Steps of pipelines, nested ones included."""

from sklearn.pipeline import Pipeline

__all__ = ["named_steps", "split_pipeline"]


def split_pipeline(estimator):
    """Return the steps before the last one, the last step, and its name.

    Nested pipelines are flattened, and ``"passthrough"`` and None are left out before
    the last step. The name is the one that ``set_params`` of ``estimator`` takes, such
    as ``"pipeline__pca"``. An estimator that is no pipeline is the last step, named "".
    """
    *before, (last, name) = named_steps(estimator)
    return [step for step, _ in before if step not in (None, "passthrough")], last, name


def named_steps(estimator, name=""):
    """Return the steps of a pipeline with their names, those of inner ones as well.

    Parameters
    ----------
    estimator : estimator or Pipeline
    name : str
        Of the estimator, ahead of those of its steps.
    """
    if not isinstance(estimator, Pipeline):
        return [(estimator, name)]
    return [
        named
        for key, step in estimator.steps
        for named in named_steps(step, f"{name}__{key}".removeprefix("__"))
    ]
