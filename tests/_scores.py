"""Anomaly scores of other packages: valid ones, and ones with a single mistake."""

from torch import nn

from skae.anomaly_scores import AnomalyScore, Scorer

# Right


class Largest(AnomalyScore):
    """The largest residual, in units of its RMS, to some power."""

    def __init__(self, power=1.0):
        self.power = power

    def build(self, loss):
        return _Largest(self.power)


class _Largest(Scorer):
    def __init__(self, power):
        super().__init__()
        self.power = power

    def start(self, rows, held_out):
        self.register_buffer("usual", held_out.residual.square().mean(dim=0).sqrt())

    def forward(self, view):
        return self._terms(view).amax(dim=1)

    def contributions(self, view):
        terms = self._terms(view)
        largest = terms == terms.amax(dim=1, keepdim=True)
        by_feature = terms * largest / largest.sum(dim=1, keepdim=True)
        return by_feature, terms.new_zeros(len(terms))

    def _terms(self, view):
        return (view.residual / self.usual).abs() ** self.power


class Silent(AnomalyScore):
    """A score without contributions."""

    def build(self, loss):
        return _Silent()


class _Silent(Scorer):
    def forward(self, view):
        return view.residual.square().sum(dim=1)


RIGHT_SCORES = [Largest(), Largest(2.0), Silent()]

# Wrong


class NoScorer(AnomalyScore):
    def build(self, loss):
        return nn.Identity()


class Mistaken(AnomalyScore):
    """A score whose scorer has the mistake that ``changes`` names."""

    def __init__(self, changes):
        self.changes = changes

    def build(self, loss):
        cls = type("Changed", (_Largest,), _SCORERS[self.changes])
        return cls(1.0)


def _start_loose(self, rows, held_out):
    self.usual = held_out.residual.square().mean(dim=0).sqrt()


def _start_greedy(self, rows, held_out):
    _Largest.start(self, rows, held_out)
    rows.code.mul_(2)


_SCORERS = {
    "per entry": {"forward": lambda self, view: self._terms(view)},
    "division": {"forward": lambda self, view: view.x.sum(dim=1) / 0},
    "others": {"forward": lambda self, view: view.x[:, 0] - view.x[:, 0].mean()},
    "cancelling": {"forward": lambda self, view: view.x.sum(dim=1) + 1e9 - 1e9},
    "loose": {"start": _start_loose},
    "greedy": {"start": _start_greedy},
    "narrow": {
        "contributions": lambda self, view: (view.residual[:, 1:].abs(), view.x[:, 0])
    },
    "whole": {"contributions": lambda self, view: (view.residual.abs(), view.x.sum())},
    "infinite": {
        "contributions": lambda self, view: (view.residual.abs() / 0, view.x[:, 0])
    },
    "negative": {"contributions": lambda self, view: (view.residual, view.x[:, 0])},
}


WRONG_SCORES = {
    "build must return a Scorer": NoScorer(),
    "a score must be one number per row": Mistaken("per entry"),
    "scores are not finite": Mistaken("division"),
    "a score depends on other rows": Mistaken("others"),
    "contributions must be one number per feature": Mistaken("narrow"),
    "the code's contribution must be one per row": Mistaken("whole"),
    "contributions are not finite": Mistaken("infinite"),
    "contributions must not be negative": Mistaken("negative"),
    "the views are changed in place": Mistaken("greedy"),
    "scores of float32 rows are not float32": Mistaken("loose"),
    "scores of float32 rows differ: are all statistics of start buffers?": Mistaken(
        "cancelling"
    ),
}
