"""A back end of joblib that runs the fits of a search together.

scikit-learn hands each fit of a search, with its scores, to joblib as a task of its
own. The tasks wait here until the last one has come. The autoencoders among them are
then trained together, and every task goes on as if it had fitted its estimator itself:
scores, errors and their messages are those of scikit-learn.
"""

from time import perf_counter
from typing import NamedTuple

from joblib import effective_n_jobs, hash, parallel_backend
from joblib.parallel import (
    ParallelBackendBase,
    SequentialBackend,
    get_active_backend,
)
from sklearn.base import clone
from sklearn.pipeline import Pipeline
from sklearn.utils.parallel import Parallel, delayed
from tqdm.auto import tqdm

from .._base import BaseAutoencoder
from .._compat.sklearn import (
    check_method_params,
    fit_and_score,
    has_callbacks,
    safe_split,
)
from .._global_state import in_default_state
from .._training.together import run, together

__all__ = ["JointBackend"]

# Numbers in the training rows of fits that go on at the same time: in single precision
# 1 GiB, and as much again for what is computed of them.
_MAX_NUMBERS = 2**28
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

    Nested codes of which one is a part of another stay together. A task that fits no
    autoencoder is a share of its own.
    """
    folds, groups, others = _Folds(), {}, []
    for number, task in enumerate(tasks):
        fit = _Evaluation.of(task.call, folds)
        if fit is None:
            others.append([task])
        else:
            key = fit.key_but_size() if fit.is_nested else number
            groups.setdefault(key, []).append(task)
    shares = [[] for _ in range(min(n_jobs, len(groups)))]
    for number, group in enumerate(groups.values()):
        shares[number % len(shares)] += group
    return shares + others


@in_default_state
def _run_share(calls):
    """Run tasks, the fits of autoencoders among them together.

    Parameters
    ----------
    calls : list of joblib.parallel.BatchedCalls

    Returns
    -------
    list of _Outcome
    """
    folds = _Folds()
    fits = [_Evaluation.of(call, folds) for call in calls]
    if fits == [None]:
        return [_Outcome(calls[0]())]
    _run_together(fits)
    return [fit.outcome for fit in fits]


def _run_together(fits):
    """Fit and score autoencoders."""
    leaders = _share_nested(fits)
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


class _Folds:
    """Training rows of each fold, and what the first steps of pipelines make of them.

    Both are computed once for all candidates.
    """

    def __init__(self):
        self._rows, self._steps = {}, {}

    def rows(self, estimator, X, y, train):
        """Return the rows and targets with these indices."""
        key = train.tobytes()
        if key not in self._rows:
            self._rows[key] = safe_split(estimator, X, y, train)
        return self._rows[key]

    def transformed(self, steps, X, y, train):
        """Return fitted steps, and the rows after them."""
        key = train.tobytes(), hash(steps)
        if key not in self._steps:
            fitted = []
            for name, step in steps:
                if step not in (None, "passthrough"):
                    step = clone(step)
                    X = step.fit_transform(X, y)
                fitted.append((name, step))
            self._steps[key] = fitted, X
        return self._steps[key]


class _Evaluation:
    """One candidate on one fold: its fit, as a part of those of a search, and scores.

    Attributes
    ----------
    estimator : estimator or Pipeline
        With the parameters of the candidate.
    autoencoder : BaseAutoencoder
        The same, or a step of it.
    leader : _Evaluation or None
        Of which this one takes the first components.
    outcome : _Outcome or None
        When it is done: scores and times, as scikit-learn returns them.
    """

    def __init__(self, function, args, kwargs, folds):
        self._function, self._args, self._kwargs = function, args, kwargs
        self._folds, self.outcome = folds, None
        parameters = kwargs["parameters"] or {}
        estimator, self._X, self._y = args
        self.estimator = clone(estimator).set_params(**clone(parameters, safe=False))
        self.verbose = kwargs["verbose"]
        self.leader, self.is_leader = None, False
        self._failure, self._seconds, self._together = None, 0.0, 1

    @classmethod
    def of(cls, call, folds):
        """Return the evaluation that a task is; None if it is another one."""
        items = getattr(call, "items", [])
        if len(items) != 1:
            return None
        function, args, kwargs = items[0]
        if getattr(function, "function", None) is not fit_and_score or len(args) != 3:
            return None
        try:
            evaluation = cls(function, args, kwargs, folds)
        except Exception:
            return None  # scikit-learn says what is wrong with the parameters
        return evaluation if evaluation._suits() else None

    def _suits(self):
        steps = [("", self.estimator)]
        if isinstance(self.estimator, Pipeline):
            if type(self.estimator) is not Pipeline or self.estimator.memory:
                return False
            if self._kwargs["fit_params"]:
                return False  # scikit-learn knows which step takes them
            steps = self.estimator.steps
        found = [i for i, (_, step) in enumerate(steps) if _is_autoencoder(step)]
        if len(found) != 1 or any(has_callbacks(step) for _, step in steps):
            return False
        self._position = found[0]
        self._name, self.autoencoder = steps[self._position]
        last = self._position == len(steps) - 1
        return (last or hasattr(self.autoencoder, "inverse_transform")) and not (
            self.autoencoder.verbose or self.autoencoder.warm_start
        )

    @property
    def _before(self):
        return self.estimator.steps[: self._position] if self._name else []

    @property
    def _train(self):
        return self._kwargs["train"]

    @property
    def n_numbers(self):
        """Size of the training rows."""
        width = self._X.shape[1] if len(getattr(self._X, "shape", ())) == 2 else 1
        return len(self._train) * width

    @property
    def is_nested(self):
        """Whether its code may be the first components of a larger one."""
        size, bottleneck = self.autoencoder.n_components, self.autoencoder.bottleneck
        is_number = isinstance(size, int) and not isinstance(size, bool)
        has_scores = hasattr(self.autoencoder, "score_samples")
        return getattr(bottleneck, "nested", False) and is_number and not has_scores

    def key_but_size(self):
        """Return what fits have in common whose codes differ in size alone."""
        parameters = self.autoencoder.get_params(deep=False)
        del parameters["n_components"]
        return self._train.tobytes(), hash((parameters, self._before)), self._name

    def evaluate(self, bar):
        """Fit and score: a generator that asks for networks to be trained."""
        yield from self._timed(self._fit(bar.listener(self._label())))
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
            yield trainings
            self._seconds += sum(training.seconds for training in trainings)
            self._together = max(
                self._together, *(training.n_together for training in trainings)
            )

    def _fit(self, listener):
        X, y = self._folds.rows(self.estimator, self._X, self._y, self._train)
        before = []
        if self._before:
            before, X = self._folds.transformed(self._before, X, y, self._train)
        whole = None if self.leader is None else self.leader.autoencoder
        size = self.autoencoder.n_components
        if self.leader is not None and getattr(whole, "n_components_", 0) >= size:
            self.autoencoder = whole.truncate(size)
        else:
            self.leader = None
            given = self._kwargs["fit_params"] or {}
            given = check_method_params(self._X, params=given, indices=self._train)
            self.autoencoder._validate_params()
            yield from self.autoencoder._fitting(X, y=y, **given, listener=listener)
        if not self._name:
            self.estimator = self.autoencoder
            return
        steps = [*before, (self._name, self.autoencoder)]
        after = self.estimator.steps[self._position + 1 :]
        if after:
            X = self.autoencoder.transform(X)
        for number, (name, step) in enumerate(after, 1):
            if step not in (None, "passthrough"):
                if number == len(after):
                    step.fit(X, y)
                else:
                    X = step.fit_transform(X, y)
            steps.append((name, step))
        self.estimator.steps = steps

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


def _is_autoencoder(step):
    return isinstance(step, BaseAutoencoder)


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

    def end(self, net):
        """Do nothing."""

    def end_fit(self, failed):
        """Do nothing."""
