"""A back end of joblib that runs the fits of a search together.

scikit-learn hands each fit of a search, with its scores, to joblib as a task of its
own. The tasks wait here until the last one has come. The autoencoders among them are
then trained together, and every task goes on as if it had fitted its estimator itself:
scores, errors and their messages are those of scikit-learn.
"""

from functools import cached_property
from itertools import pairwise
from numbers import Integral
from time import perf_counter
from typing import NamedTuple

import joblib
import numpy as np
from joblib import effective_n_jobs, parallel_backend
from joblib.parallel import (
    ParallelBackendBase,
    SequentialBackend,
    get_active_backend,
)
from sklearn import get_config
from sklearn.base import clone
from sklearn.pipeline import Pipeline
from sklearn.utils.parallel import Parallel, delayed
from tqdm.auto import tqdm

from .._compat.sklearn import (
    check_method_params,
    fit_and_score,
    has_callbacks,
    safe_split,
)
from .._global_state import in_default_state
from .._outlier import AutoencoderOutlierDetector
from .._training.together import run, together
from .._transformer import AutoencoderTransformer

__all__ = ["JointBackend"]

# Estimators whose fits are known: a subclass may have another one.
_CLASSES = (AutoencoderTransformer, AutoencoderOutlierDetector)
# What they take beside X and y.
_FIT_PARAMS = {"sample_weight", "X_val", "X_target", "X_val_target", "groups"}
# Numbers in the training rows of fits that go on at the same time. About four times as
# many are in memory: plans, scaled rows and codes, in single precision about 1 GiB.
_MAX_NUMBERS = 2**26
# Seconds between two texts behind the bar.
_PAUSE = 0.2


class JointBackend(ParallelBackendBase):
    """Runs the fits of autoencoders together.

    Parameters
    ----------
    n_jobs : int or None
        Number of jobs of the back end that is active until now. Each runs its share of
        the fits together.
    """

    def __init__(self, n_jobs):
        super().__init__()
        self._others, active = get_active_backend()
        self._n_jobs = active if n_jobs is None else n_jobs
        self._waiting = []

    def effective_n_jobs(self, n_jobs):
        """Return two: joblib would run the tasks of a single job at once."""
        return 2

    def submit(self, func, callback=None):
        """Let a task wait for the others."""
        self._waiting.append(_Task(func, callback, self._run))
        return self._waiting[-1]

    apply_async = submit  # its name in joblib before 1.5

    def get_nested_backend(self):
        """Return what runs further tasks inside of a task: no threads."""
        return SequentialBackend(nesting_level=(self.nesting_level or 0) + 1), None

    def _run(self):
        tasks, self._waiting = self._waiting, []
        with parallel_backend(self._others, n_jobs=self._n_jobs):
            shares = _shares(tasks, effective_n_jobs(None))
            calls = [[task.call for task in share] for share in shares]
            # A single job is run at once, without a process.
            outcomes = Parallel()(delayed(_run_share)(share) for share in calls)
        for share, found in zip(shares, outcomes, strict=True):
            for task, outcome in zip(share, found, strict=True):
                task.outcome = outcome


class _Task:
    """A task of joblib, and a place for its outcome."""

    def __init__(self, call, callback, run_all):
        self.call, self._callback, self._run_all = call, callback, run_all
        self.outcome = None

    def get(self, timeout=None):
        """Return the result, for which all tasks are run if they have not been."""
        if self.outcome is None:
            self._run_all()
        self._callback(self)
        return self.outcome.get()


class _Outcome(NamedTuple):
    """What a task returned, or what made it fail."""

    result: object = None
    failure: Exception | None = None

    def get(self):
        if self.failure is not None:
            raise self.failure
        return self.result


def _shares(tasks, n_jobs):
    """Split tasks so that each process has as many fits to run together.

    Fits of a fold are side by side, since they may have their first steps in common.
    Nested codes of which one is a part of another stay together. A task that fits no
    autoencoder is a share of its own.
    """
    groups, others = {}, []
    for number, task in enumerate(tasks):
        fit = _Evaluation.of(task.call)
        if fit is None:
            others.append([task])
        else:
            key = fit.key_but_size() if fit.is_nested else number
            groups.setdefault((fit.fold, key), []).append(task)
    order = list(dict.fromkeys(fold for fold, _ in groups))
    ordered = sorted(groups, key=lambda key: order.index(key[0]))
    cuts = np.linspace(0, len(ordered), min(n_jobs, len(ordered)) + 1).round()
    shares = [
        [task for key in ordered[first:last] for task in groups[key]]
        for first, last in pairwise(cuts.astype(int))
    ]
    return shares + others


def _run_share(calls):
    """Run tasks, the fits of autoencoders among them together.

    Parameters
    ----------
    calls : list of joblib.parallel.BatchedCalls
        Either all of them fit autoencoders, or there is one.

    Returns
    -------
    list of _Outcome
    """
    fits = [_Evaluation.of(call) for call in calls]
    if fits[0] is None:
        return [_Outcome(calls[0]())]
    _run_together(fits)
    return [fit.outcome for fit in fits]


def _run_together(fits):
    """Fit and score autoencoders."""
    leaders = _share_nested(fits)
    folds: dict = {}
    for fit in fits:
        fit.share_rows(folds)
    # From now on only fits that have not ended hold rows.
    del folds
    with _Bar(len(fits), hidden=not fits[0].verbose) as bar:
        # First those whose codes others are a part of.
        for group in ([f for f in fits if f.leader is None], leaders):
            for some in _portions(group):
                run(together(fit.evaluate(bar) for fit in some))


def _share_nested(fits):
    """Let nested codes be taken from the largest one; return the fits that do so."""
    by_others, sharing = {}, []
    for fit in fits:
        if fit.is_nested:
            by_others.setdefault(fit.key_but_size(), []).append(fit)
    for group in by_others.values():
        leader = max(group, key=lambda fit: fit.autoencoder.n_components)
        for fit in group:
            if fit is not leader:
                fit.leader, leader.is_leader = leader, True
                sharing.append(fit)
    return sharing


def _portions(fits):
    """Split fits so that the rows of those that go on at once fit into memory."""
    some, total = [], 0
    for fit in fits:
        if some and total + fit.n_numbers > _MAX_NUMBERS:
            yield some
            some, total = [], 0
        some.append(fit)
        total += fit.n_numbers
    if some:
        yield some


class _Rows:
    """Training rows of a fold after the first steps of a pipeline, computed once.

    Parameters
    ----------
    before : Pipeline or None
        The first steps, not fitted.
    """

    def __init__(self, before, estimator, X, y, train):
        self._before = before
        self._given = estimator, X, y, train

    @cached_property
    def _computed(self):
        before = None
        # Rows of their own: steps may write into them.
        X, y = safe_split(*self._given)
        if self._before is not None:
            before = clone(self._before)
            X = before.fit_transform(X, y)
        return before, X, y

    def get(self):
        """Return the fitted steps or None, the rows, and the targets."""
        return self._computed


class _Evaluation:
    """One candidate on one fold: its fit, as a part of those of a search, and scores.

    Attributes
    ----------
    estimator : estimator or Pipeline
        With the parameters of the candidate.
    autoencoder : AutoencoderTransformer or AutoencoderOutlierDetector
        The same, or a step of it.
    fold : bytes
        The same for all fits to the same rows.
    leader : _Evaluation or None
        Of which this one takes the first components.
    outcome : _Outcome or None
        When it is done: scores and times, as scikit-learn returns them.
    """

    def __init__(self, function, args, kwargs):
        self._function, self._args, self._kwargs = function, args, kwargs
        estimator, self._X, self._y = args
        parameters = clone(kwargs["parameters"] or {}, safe=False)
        self.estimator = clone(estimator).set_params(**parameters)
        self.verbose, self._train = kwargs["verbose"], np.asarray(kwargs["train"])
        self._fit_params = kwargs["fit_params"] or {}
        self.fold = self._train.tobytes()
        self.leader, self.is_leader, self.outcome = None, False, None
        self._failure, self._seconds, self._together = None, 0.0, 1

    @classmethod
    def of(cls, call):
        """Return the evaluation that a task is; None if it is another one."""
        items = getattr(call, "items", [])
        if len(items) != 1:
            return None
        function, args, kwargs = items[0]
        if getattr(function, "function", None) is not fit_and_score or len(args) != 3:
            return None
        try:
            evaluation = cls(function, args, kwargs)
            return evaluation if evaluation._suits() else None
        except Exception:
            return None  # scikit-learn says what is wrong

    def _suits(self):
        whole, steps = self.estimator, [("", self.estimator)]
        if isinstance(whole, Pipeline):
            # Scikit-learn knows which step takes parameters of `fit`.
            if type(whole) is not Pipeline or whole.memory or self._fit_params:
                return False
            steps = whole.steps
        found = [i for i, (_, step) in enumerate(steps) if type(step) in _CLASSES]
        names = [name for name, _ in steps]
        if len(found) != 1 or len(set(names)) < len(names):
            return False
        if has_callbacks(whole) or any(has_callbacks(step) for _, step in steps):
            return False
        self._position = found[0]
        self._name, self.autoencoder = steps[self._position]
        if getattr(whole, "verbose", False) or self.autoencoder.verbose:
            return False
        return (
            not self.autoencoder.warm_start and self._fit_params.keys() <= _FIT_PARAMS
        )

    def _steps_before(self):
        is_first = not self._name or self._position == 0
        return None if is_first else self.estimator[: self._position]

    def share_rows(self, folds):
        """Take the training rows from other fits that have the same."""
        before, key = self._steps_before(), self.fold
        if before is not None:
            key = key, _hash(before, unique=self)
        if key not in folds:
            given = self.estimator, self._X, self._y, self._train
            folds[key] = _Rows(before, *given)
        self._rows = folds[key]

    @property
    def n_numbers(self):
        """Size of the training rows."""
        width = self._X.shape[1] if len(getattr(self._X, "shape", ())) == 2 else 1
        return len(self._train) * width

    @property
    def is_nested(self):
        """Whether its code may be the first components of a larger one."""
        size, bottleneck = self.autoencoder.n_components, self.autoencoder.bottleneck
        is_number = isinstance(size, Integral) and not isinstance(size, bool)
        has_scores = hasattr(self.autoencoder, "score_samples")
        return getattr(bottleneck, "nested", False) and is_number and not has_scores

    def key_but_size(self):
        """Return what fits have in common whose codes differ in size alone."""
        parameters = self.autoencoder.get_params(deep=False)
        del parameters["n_components"]
        others = parameters, self._steps_before(), self._fit_params
        return self.fold, _hash(others, unique=self), self._name

    def evaluate(self, bar):
        """Fit and score: a generator that asks for networks to be trained."""
        yield from self._timed(self._fit(bar.listener(self._label())))
        self._rows = None
        self.estimator.fit = self._fitted
        kwargs = self._kwargs | {"parameters": None, "verbose": 0}
        try:
            result = self._function(self.estimator, *self._args[1:], **kwargs)
            result |= {"fit_time": self._seconds, "how": self._how()}
            self.outcome = _Outcome([result])
        except Exception as failure:
            self.outcome = _Outcome(failure=failure)
        if not self.is_leader:
            self.estimator = self.autoencoder = None  # a model takes memory
        bar.update()

    def _fitted(self, *args, **kwargs):
        """Take the place of the method `fit` of the estimator."""
        del self.estimator.fit
        if self._failure is not None:
            raise self._failure
        return self.estimator

    def _timed(self, fit):
        """Take the time of a fit, and its share of that of networks in a stack."""
        while True:
            begin = perf_counter()
            try:
                trainings = next(fit)
            except StopIteration:
                return
            except Exception as failure:
                self._failure = failure
                return
            finally:
                self._seconds += perf_counter() - begin
            try:
                yield trainings
            finally:
                self._seconds += sum(training.seconds for training in trainings)
                self._together = max(
                    self._together, *(training.n_together for training in trainings)
                )

    def _fit(self, listener):
        before, X, y = self._rows.get()
        size = self.autoencoder.n_components
        whole = None if self.leader is None else self.leader.autoencoder
        if self.leader is not None and getattr(whole, "n_components_", 0) >= size:
            self.autoencoder = whole.truncate(size)
        else:
            self.leader = None
            given = check_method_params(
                self._X, params=self._fit_params, indices=self._train
            )
            if not get_config()["skip_parameter_validation"]:
                self.autoencoder._validate_params()
            fit = self.autoencoder._fitting(X, y=y, **given, listener=listener)
            yield from _in_default_state(fit)
        if not self._name:
            self.estimator = self.autoencoder
            return
        after = self.estimator[self._position + 1 :]
        if len(after):
            after.fit(self.autoencoder.transform(X), y)
        self.estimator.steps = [
            *([] if before is None else before.steps),
            (self._name, self.autoencoder),
            *after.steps,
        ]

    def _how(self):
        if self.leader is not None:
            return f"first components of {self.leader.autoencoder.n_components}"
        return f"stack of {self._together}" if self._together > 1 else "alone"

    def _label(self):
        (fold, n_folds), (number, n_candidates) = (
            self._kwargs.get(name) or (0, 1)
            for name in ("split_progress", "candidate_progress")
        )
        return f"candidate {number + 1}/{n_candidates}, fold {fold + 1}/{n_folds}"


def _hash(value, unique):
    """Return a hash of a value; ``unique`` if it has none, for it cannot be pickled."""
    try:
        return joblib.hash(value)
    except Exception:
        return unique


def _in_default_state(fit):
    """Advance a fit as its public method does, others than it as they are."""
    advance = in_default_state(lambda: next(fit, None))
    try:
        while (trainings := advance()) is not None:
            yield trainings
    finally:
        fit.close()


class _Bar:
    """The bar of a search: fits that are done, and the last epoch of the others."""

    def __init__(self, n_fits, hidden):
        self._bar = tqdm(total=n_fits, disable=hidden, unit="fit")
        self._shown = 0.0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._bar.close()

    def update(self):
        """Count a fit."""
        self._bar.update()

    def listener(self, label):
        """Return what shows the events of one fit."""
        return _Listener(self, label)

    def show(self, text):
        """Show what is going on, unless something was shown just before."""
        now = perf_counter()
        if now > self._shown + _PAUSE:
            self._bar.set_postfix_str(text)
            self._shown = now


class _Listener:
    """Shows the epochs of a fit behind the bar of a search; see `Progress`."""

    def __init__(self, bar, label):
        self._bar, self._label = bar, label

    def begin_fit(self, plan, n_networks):
        """Do nothing."""

    def begin_network(self, plan, max_epochs, attributes):
        """Return itself, for all networks."""
        return self

    def begin_epoch(self, number):
        """Show the epoch."""
        self._bar.show(f"{self._label}: epoch {number + 1}")

    def batches(self, batches):
        """Return the batches."""
        return batches

    def end_epoch(self, number, net):
        """Go on."""
        return False

    def end_round(self, share):
        """Do nothing."""

    def end(self, net):
        """Do nothing."""

    def end_fit(self, failed):
        """Do nothing."""
