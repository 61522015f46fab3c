"""Warnings and errors of :mod:`skae`.

There is one warning for each problem that a fit can have. These derive from
:class:`FitWarning`, so that a single filter ignores them or turns them into errors.
:class:`LargestCodeWarning` is one of a search, and :class:`InvertedLabelsWarning` one
of the labels that set a threshold.

Errors are those of Python and scikit-learn, but for files, :class:`InvalidFileError`,
:class:`NewerFormatError` and :class:`UntrustedObjectError`, and for fits of several
processes, :class:`WorkerError`.
"""

__all__ = [
    "CollapsedCodeWarning",
    "ContaminatedRowsWarning",
    "DecoderRangeWarning",
    "DependentRowsWarning",
    "DivergenceWarning",
    "FitWarning",
    "IgnoredTargetWarning",
    "InitialWeightsWarning",
    "InvalidCheckpointWarning",
    "InvalidFileError",
    "InvertedLabelsWarning",
    "LargestCodeWarning",
    "NewerFormatError",
    "OutOfMemoryWarning",
    "OvercompleteWarning",
    "UntrustedObjectError",
    "WorkerError",
    "WorseThanPCAWarning",
]


class FitWarning(UserWarning):
    """Base of all warnings: the fitted model is usable, but may not be as expected."""


class DivergenceWarning(FitWarning):
    """The loss became infinite or NaN.

    Training went on once from the best weights before that, with a tenth of the
    learning rate. If the loss was not finite again, the best weights were kept.
    """


class InitialWeightsWarning(FitWarning):
    """The model kept its initial weights, by default those of PCA.

    No network was trained, training failed, or, with an ``architecture`` of your own,
    no epoch was better on the validation rows. The message says why, and what to
    change. As long as it is so, parameters of the networks and of their training make
    no difference: in a search, candidates that differ in those alone have equal scores.

    With ``architecture=None`` it is part of the default that networks are judged by
    validation rows, and PCA kept where they are not better: the attribute
    ``kept_weights_`` says so, and there is no warning. Nor is there one where nothing
    was to be gained: for linear networks with squared error, whose minimum is PCA, for
    rows that PCA reconstructs exactly, and by a warm start that does not improve on the
    fitted model.
    """


class WorseThanPCAWarning(FitWarning):
    """The model reconstructs worse than PCA with as many components, or than one row.

    It is compared in its own loss, on the training rows or on validation rows;
    :ref:`compared`.
    """


class CollapsedCodeWarning(FitWarning):
    """Some components of the code are constant over the training rows."""


class DecoderRangeWarning(FitWarning):
    """The decoder cannot return values that the rows have, for example below zero."""


class ContaminatedRowsWarning(FitWarning):
    """Of the rows that set the threshold more are flagged than is usual.

    ``contamination="auto"`` takes the training rows for normal ones. If outliers are
    among them, pass their share as ``contamination``: suspected rows are then left out
    of the rows that the score compares with. Outliers that do not stand out raise no
    warning, and normal rows with heavy tails may raise one.
    """


class DependentRowsWarning(FitWarning):
    """Rows resemble the next ones, and the threshold was set as if at random.

    Pass ``groups`` to `fit`, or ``validation_split="last"`` for rows in the order of
    time; shuffle rows that are only sorted.
    """


class LargestCodeWarning(UserWarning):
    """The best of several ``n_components`` is the largest, by the reconstruction."""


class InvertedLabelsWarning(UserWarning):
    """Outliers, by the labels that `calibrate` got, are the more normal rows."""


class OvercompleteWarning(FitWarning):
    """The code is wider than the data and not regularised: it can be a copy."""


class IgnoredTargetWarning(FitWarning):
    """A table was passed as ``y``, which is ignored, and not as ``X_target``."""


class OutOfMemoryWarning(FitWarning):
    """The device ran out of memory; training restarted with half the batch size."""


class InvalidCheckpointWarning(FitWarning):
    """A file of ``checkpoint`` is damaged: the training that it is of began anew."""


class InvalidFileError(ValueError):
    """:func:`skae.load` got a file that :func:`skae.save` does not write.

    It is damaged, was cut short, or was made by another program. Nothing was loaded.
    """


class NewerFormatError(InvalidFileError):
    """:func:`skae.load` got a file of a later format: it needs a later skae."""


class WorkerError(RuntimeError):
    """A process that takes part in a fit lost another one.

    That one died, failed, or did not answer within the time-out of
    :func:`skae.distributed` or of the estimators of :mod:`skae.dask`. Nothing was
    fitted.
    """


class UntrustedObjectError(TypeError):
    """An estimator has a part that a file cannot hold, or a file needs one.

    A function, a class of your own or a callback, for example. The message names it,
    and what to pass as ``trusted``.
    """
