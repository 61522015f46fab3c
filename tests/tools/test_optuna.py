"""Optuna: a study, and trials that are given up early."""

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch.callbacks import Callback

from skae import AutoencoderTransformer
from skae.architectures import MLP

optuna = pytest.importorskip("optuna")
optuna.logging.set_verbosity(optuna.logging.WARNING)

pytestmark = pytest.mark.filterwarnings(
    "ignore::sklearn.exceptions.ConvergenceWarning"  # few epochs are asked for
)


def test_study_by_what_the_code_is_for():
    X, y = load_digits(return_X_y=True)
    X, X_test, y, y_test = train_test_split(X[:900], y[:900], random_state=0)

    def pipeline(n_components, lr):
        return make_pipeline(
            StandardScaler(),
            AutoencoderTransformer(n_components, lr=lr, max_epochs=5, random_state=0),
            LogisticRegression(max_iter=1000),
        )

    def objective(trial):
        candidate = pipeline(
            trial.suggest_int("n_components", 1, 16),
            trial.suggest_float("lr", 1e-4, 1e-1, log=True),
        )
        return cross_val_score(candidate, X, y, cv=2).mean()

    before = {"n_components": 2, "lr": 1e-4}
    study = optuna.create_study(
        direction="maximize",
        sampler=optuna.samplers.TPESampler(n_startup_trials=4, seed=0),
    )
    study.enqueue_trial(before)
    study.optimize(objective, n_trials=8)

    # The trial is what the same candidate is without Optuna.
    again = cross_val_score(pipeline(**study.best_params), X, y, cv=2).mean()
    assert study.best_value == again
    # And better on rows that no trial has seen.
    after = pipeline(**study.best_params).fit(X, y).score(X_test, y_test)
    assert after > pipeline(**before).fit(X, y).score(X_test, y_test) + 0.2


class Pruning(Callback):
    """Give a trial up whose held-out loss falls behind that of others."""

    def __init__(self, trial):
        self.trial = trial

    def on_epoch_end(self, net, **kwargs):
        """Report the loss, and end the fit by an exception if it is too high."""
        self.trial.report(net.history[-1, "valid_loss"], step=len(net.history))
        if self.trial.should_prune():
            raise optuna.TrialPruned


def test_trials_are_pruned_by_a_callback():
    X = load_digits().data[:600]
    models = []

    def objective(trial):
        model = AutoencoderTransformer(
            8,
            architecture=MLP(norm=None),
            lr=trial.suggest_float("lr", 1e-6, 1e-2, log=True),
            max_epochs=6,
            random_state=0,
            net_params={"callbacks": [Pruning(trial)]},
        )
        models.append(model)
        return model.fit(X).history_["valid_loss"][-1]

    study = optuna.create_study(
        sampler=optuna.samplers.GridSampler({"lr": [1e-2, 5e-3, 1e-6]}, seed=0),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=2),
    )
    for lr in (1e-2, 5e-3, 1e-6):
        study.enqueue_trial({"lr": lr})
    study.optimize(objective, n_trials=3)
    states = [trial.state.name for trial in study.trials]
    assert states == ["COMPLETE", "COMPLETE", "PRUNED"]
    reported = [len(trial.intermediate_values) for trial in study.trials]
    assert reported == [6, 6, 1]
    # What Optuna was told is what the estimator has; a pruned one is not fitted.
    np.testing.assert_array_equal(
        list(study.trials[0].intermediate_values.values()),
        models[0].history_["valid_loss"],
    )
    assert not models[2].__sklearn_is_fitted__()
