"""Checks that any component, also one of another package, keeps to its interface."""

import pickle
from copy import deepcopy
from functools import partial

import numpy as np
import torch
from sklearn.base import clone

from ._compat.torch import tree_flatten, tree_leaves, tree_unflatten
from ._component import Affine, Component
from ._model.autoencoder import Parts
from ._outlier import AutoencoderOutlierDetector
from ._transformer import AutoencoderTransformer
from .anomaly_scores import AnomalyScore, Scorer, View
from .architectures import MLP, Architecture
from .bottlenecks import Bottleneck
from .corruptions import Corruption
from .losses import Loss
from .penalties import Penalty

__all__ = ["check_component"]

_N_ROWS = 60
# The parameter of the estimators that takes each kind of component.
_SLOTS = {
    Architecture: "architecture",
    Bottleneck: "bottleneck",
    Corruption: "corruption",
    Loss: "loss",
    Penalty: "penalty",
}


def check_component(component, *, n_features=6, n_components=3):
    """Check that a component keeps to the interface that the estimators need.

    Rows are drawn uniformly from [0, 1] and clipped to the domain of a loss. The
    component is checked

    - alone: it can be cloned, printed and pickled; shapes, dtypes and gradients are
      right; nothing is changed in place or drawn from a global generator;
    - in a model: two runs with the same draws agree, and so do several models stacked
      by :func:`torch.func.vmap`;
    - in an estimator: it trains, ``fit`` does not change it, fits are reproducible bit
      by bit, and the fitted model can be pickled.

    It returns None if all checks pass.

    Parameters
    ----------
    component : Component
        An instance of a subclass of :class:`~skae.corruptions.Corruption`,
        :class:`~skae.architectures.Architecture`,
        :class:`~skae.bottlenecks.Bottleneck`, :class:`~skae.penalties.Penalty`,
        :class:`~skae.losses.Loss` or :class:`~skae.anomaly_scores.AnomalyScore`.

    n_features, n_components : int, default=6 and 3
        Number of columns of the rows and of components of the code, for components
        that accept only certain numbers.

    Raises
    ------
    AssertionError
        If a check fails; the message says which.
    TypeError
        If ``component`` is not an instance of one of these classes.

    Examples
    --------
    >>> import torch
    >>> from skae.corruptions import Corruption
    >>> from skae.testing import check_component
    >>> class Blank(Corruption):
    ...     def __init__(self, share=0.2):
    ...         self.share = share
    ...     def draw(self, shape, generator):
    ...         return torch.rand(shape)
    ...     def __call__(self, x, draw):
    ...         return torch.where(draw < self.share, 0.0, x)
    >>> check_component(Blank())
    Traceback (most recent call last):
    ...
    AssertionError: Blank(): the same draw gives other rows
    """
    if not isinstance(component, (*_SLOTS, AnomalyScore)):
        raise TypeError(
            "check_component takes an instance of a subclass of Corruption, "
            "Architecture, Bottleneck, Penalty, Loss or AnomalyScore. "
            f"Got {component!r}."
        )
    check = partial(_expect, component)
    before = _global_states()
    _check_value(component, check)
    x = _rows(component, n_features)
    for kind, check_kind in _CHECKS.items():
        if isinstance(component, kind):
            check_kind(component, x, n_components, check)
            check(_global_states() == before, "global random state was used or changed")
    _check_pickle(component, check)
    if not isinstance(component, AnomalyScore):
        _check_in_a_model(component, x, n_components, check)
        _check_in_an_estimator(component, x, n_components, check)
        check(_global_states() == before, "global random state was used or changed")


def _check_pickle(component, check):
    try:
        copy = pickle.loads(pickle.dumps(component))
    except (AttributeError, pickle.PicklingError):
        copy = None
    check(
        repr(copy) == repr(component),
        "it cannot be pickled: define its class at the top of a module",
    )


def _expect(component, condition, otherwise):
    if not condition:
        raise AssertionError(f"{component!r}: {otherwise}")


def _global_states():
    return torch.get_rng_state().tolist(), str(np.random.get_state())  # noqa: NPY002


def _rows(component, n_features):
    x = torch.rand(_N_ROWS, n_features, generator=_generator())
    return x.clamp(*component.domain) if isinstance(component, Loss) else x


def _generator(seed=0):
    return torch.Generator().manual_seed(seed)


def _finite(*tensors):
    return all(bool(t.isfinite().all()) for t in tensors)


# Alone


def _check_value(component, check):
    check(isinstance(component, Component), "it is not a Component")
    component.validate()
    check(repr(clone(component)) == repr(component), "clone changes it")


def _check_corruption(corruption, x, n_components, check):
    clean = x.clone()
    draw = corruption.draw(x.shape, _generator())
    noisy = corruption(x, draw)
    check(torch.equal(x, clean), "the rows are changed in place")
    check(noisy.shape == x.shape, "corrupted rows have another shape")
    check(noisy.dtype == x.dtype, "corrupted rows have another dtype")
    check(_finite(noisy), "corrupted rows are not finite")
    again = corruption(x, corruption.draw(x.shape, _generator()))
    check(torch.equal(again, noisy), "the same draw gives other rows")


def _check_penalty(penalty, x, n_components, check):
    weight = torch.linspace(-1, 1, x.shape[1] * n_components).requires_grad_()
    low, high = penalty.code_domain

    def encode(x):
        code = x @ weight.view(-1, n_components)
        return code.sigmoid() if np.isfinite([low, high]).all() else code

    code = encode(x)
    draw = penalty.draw(x.shape, _generator())
    per_row = penalty.per_sample(x, code, encode, draw)
    shape = getattr(per_row, "shape", (len(x),))
    check(shape == (len(x),), "per_sample must give one number per row")
    per_batch = penalty.per_batch(code, None)
    check(getattr(per_batch, "shape", ()) == (), "per_batch must give one number")
    cost = torch.as_tensor(per_row).sum() + per_batch
    check(_finite(cost), "the cost is not finite")
    check(cost.requires_grad, "the cost does not depend on the encoder")
    (gradient,) = torch.autograd.grad(cost, weight)
    check(_finite(gradient), "the gradient of the cost is not finite")
    equal = penalty.per_batch(code, torch.ones(len(x)))
    check(
        torch.allclose(torch.as_tensor(equal), torch.as_tensor(per_batch)),
        "weights of one are not the same as none",
    )
    check((penalty + penalty).per_batch(code, None) == 2 * per_batch, "it does not add")


def _check_loss(loss, x, n_components, check):
    raw = torch.zeros_like(x).requires_grad_()
    terms = loss.per_entry(raw, x)
    check(terms.shape == x.shape, "per_entry must give one number per entry")
    per_row = loss(raw, x)
    is_sum = per_row.shape == (len(x),) and torch.allclose(per_row, terms.sum(dim=1))
    check(is_sum, "the loss of a row must be the sum of its entries")
    (gradient,) = torch.autograd.grad(per_row.sum(), raw)
    check(_finite(per_row, gradient), "loss or gradient are not finite")
    mask = torch.rand(x.shape, generator=_generator()) < 0.5
    (gradient,) = torch.autograd.grad(loss(raw, x, mask).sum(), raw)
    check(not gradient[~mask].any(), "entries that are masked have a gradient")
    values = loss.inverse_link(torch.linspace(-3, 3, 20)[:, None])
    low, high = loss.domain
    check(
        bool(((values >= low) & (values <= high)).all()),
        "inverse_link leaves the domain",
    )
    reconstruction = Affine(x.T, x.mean(dim=0))
    check(_finite(*loss.start(reconstruction)), "start is not finite")
    link = loss.build(x.shape[1])
    if link is not None:
        started = link.start(reconstruction, x, x)
        shapes = [tuple(tensor.shape) for tensor in started]
        check(shapes == [(x.shape[1], len(x)), (x.shape[1],)], "link start: shapes")
        check(_finite(*started, link(x)), "link or its start are not finite")
        check(link(x).shape == x.shape, "the link changes the shape")
    variance = loss.variance(x)
    if variance is not None:
        right = variance.shape == x.shape and bool((variance > 0).all())
        check(right, "variance must be one positive number per entry")
    check(loss.trusted(per_row).shape == (len(x),), "trusted changes the shape")


def _check_bottleneck(bottleneck, x, n_components, check):
    width = bottleneck.encoder_width(n_components)
    module = bottleneck.build(n_components, _generator()).eval()
    h = torch.randn(len(x), width, generator=_generator()).requires_grad_()
    code, cost = module(h)
    check(code.shape == (len(x), n_components), "the code has the wrong shape")
    check(cost.shape == (len(x),), "the cost must be one number per row")
    low, high = bottleneck.code_range
    check(bool(((code >= low) & (code <= high)).all()), "a code leaves code_range")
    check(torch.equal(module(h)[0], code), "it is random without a draw")
    check(code.requires_grad, "no gradient reaches the encoder")
    (gradient,) = torch.autograd.grad(code.sum() + cost.sum(), h)
    check(_finite(code, cost, gradient), "code, cost or gradient are not finite")
    if bottleneck.discrete:
        symbols = module.symbols(h)
        check(len(symbols) == len(x), "symbols must give one row per row")
        check(not symbols.is_floating_point(), "symbols must be integers")
        _, index = np.unique(symbols.numpy(), axis=0, return_index=True)
        n_codes = len(np.unique(code.detach().numpy(), axis=0))
        check(len(index) == n_codes, "symbols and codes do not name each other")
        n_symbols, n_values = module.symbols_shape
        check(symbols.shape == (len(x), n_symbols), "symbols_shape is another one")
        check(bool((symbols < n_values).all()), "a symbol has too many values")
        check(torch.equal(module.codes(symbols), code), "codes does not invert symbols")
    if hasattr(module, "project"):
        check(
            torch.allclose(module.project(code), code),
            "project moves a code that is possible",
        )
    if hasattr(module, "prior"):
        shape = module.prior(7, _generator()).shape
        check(shape == (7, n_components), "prior must give one code per row")


def _check_architecture(architecture, x, n_components, check):
    width = n_components + 1
    build = partial(architecture.build, x.shape[1], width, n_components)
    encoder, decoder = (network.eval() for network in build(_generator()))
    h = encoder(x)
    check(h.shape == (len(x), width), "the encoder gives the wrong shape")
    raw = decoder(h[:, :n_components])
    check(raw.shape == x.shape, "the decoder gives the wrong shape")
    check(_finite(raw), "the output is not finite")
    again, _ = build(_generator())
    check(torch.equal(again.eval()(x), h), "weights are not drawn from the generator")


def _check_anomaly_score(score, x, n_components, check):
    x = x.double()
    raw = x.roll(1, dims=0)
    rows = View(x, raw, x - raw, x[:, :n_components], (x - raw).square().sum(dim=1))
    few = View(*(part[:20] for part in rows))
    before = [part.clone() for part in rows]
    scorer = score.build(Parts.of().loss)
    check(isinstance(scorer, Scorer), "build must return a Scorer")
    scorer.start(rows, few)
    scores = scorer(rows)
    check(scores.shape == (len(x),), "a score must be one number per row")
    check(_finite(scores), "scores are not finite")
    check(torch.allclose(scorer(few), scores[:20]), "a score depends on other rows")
    if type(scorer).contributions is not Scorer.contributions:
        _check_contributions(scorer, rows, check)
    unchanged = all(map(torch.equal, rows, before))
    check(unchanged, "the views are changed in place")
    single = deepcopy(scorer).float()(View(*(part.float() for part in rows)))
    check(single.dtype == torch.float32, "scores of float32 rows are not float32")
    check(
        torch.allclose(single.double(), scores, rtol=1e-3, atol=1e-4),
        "scores of float32 rows differ: are all statistics of start buffers?",
    )
    detector = AutoencoderOutlierDetector(
        n_components,
        architecture=MLP(()),  # its minimum is PCA, however few rows there are
        anomaly_score=score,
        max_epochs=2,
        random_state=0,
    )
    X = x.numpy()
    scores = detector.fit(X).score_samples(X)
    copy = pickle.loads(pickle.dumps(detector))
    check(np.array_equal(copy.score_samples(X), scores), "pickle changes the scores")


def _check_contributions(scorer, rows, check):
    by_feature, by_code = scorer.contributions(rows)
    check(
        by_feature.shape == rows.x.shape, "contributions must be one number per feature"
    )
    check(
        by_code.shape == (len(rows.x),), "the code's contribution must be one per row"
    )
    check(_finite(by_feature, by_code), "contributions are not finite")
    check(
        bool((by_feature >= 0).all() and (by_code >= 0).all()),
        "contributions must not be negative",
    )


_CHECKS = {
    Corruption: _check_corruption,
    Penalty: _check_penalty,
    Loss: _check_loss,
    Bottleneck: _check_bottleneck,
    Architecture: _check_architecture,
    AnomalyScore: _check_anomaly_score,
}


# Among the others


def _slot(component):
    return next(slot for kind, slot in _SLOTS.items() if isinstance(component, kind))


def _companions(component):
    """Return the component in its slot, with a bottleneck that it needs."""
    parts = {_slot(component): component}
    if isinstance(component, Penalty) and component.code_domain != (-np.inf, np.inf):
        parts["bottleneck"] = type(Parts.of().bottleneck)(activation="sigmoid")
    return parts


def _check_in_a_model(component, x, n_components, check):
    parts = Parts.of(**_companions(component))
    parts.check()
    modules = [parts.build(x.shape[1], n_components, seed).eval() for seed in range(2)]
    draws = [m.draw(x.shape, _generator(seed)) for seed, m in enumerate(modules)]
    alone = [m(x, d) for m, d in zip(modules, draws, strict=True)]
    for output, module, draw in zip(alone, modules, draws, strict=True):
        check(_finite(*output), "the model gives numbers that are not finite")
        for first, second in zip(output, module(x, draw), strict=True):
            check(torch.equal(first, second), "two runs with the same draws differ")
    # Draws that are not tensors, such as a seed, cannot differ among stacked models.
    leaves, spec = tree_flatten(draws[0])
    both = list(zip(leaves, tree_leaves(draws[1]), strict=True))
    if not all(isinstance(a, torch.Tensor) or a == b for a, b in both):
        return
    stacked = [torch.stack(pair) for pair in both if isinstance(pair[0], torch.Tensor)]

    def run(state, tensors):
        left = iter(tensors)
        draw = [
            next(left) if isinstance(leaf, torch.Tensor) else leaf for leaf in leaves
        ]
        inputs = (x, tree_unflatten(draw, spec))
        return torch.func.functional_call(modules[0], state, inputs)

    together = torch.func.vmap(run)(torch.func.stack_module_state(modules), stacked)
    for i, output in enumerate(alone):
        for first, second in zip(output, together, strict=True):
            check(
                torch.allclose(first, second[i], rtol=1e-4, atol=1e-5),
                "stacked models differ from the same ones alone",
            )


def _check_in_an_estimator(component, x, n_components, check):
    X = x.numpy()

    def fit():
        model = AutoencoderTransformer(
            n_components,
            **_companions(component),
            batch_size=20,
            max_epochs=2,
            early_stopping=False,
            random_state=0,
        )
        return model.fit(X)

    before = repr(component)
    model = fit()
    check(repr(component) == before, "fit changes it")
    code = model.transform(X)
    code = (
        code.toarray() if model.bottleneck and model.bottleneck.sparse_output else code
    )
    reconstruction = model.reconstruct(X)
    check(code.shape == (len(X), n_components), "transform gives the wrong shape")
    check(np.isfinite(code).all(), "codes are not finite")
    check(np.isfinite(reconstruction).all(), "reconstructions are not finite")
    check(
        np.allclose(
            model.inverse_transform(code), reconstruction, rtol=1e-3, atol=1e-4
        ),
        "inverse_transform(transform(X)) is not reconstruct(X)",
    )
    check(model.sample(3, random_state=0).shape == (3, X.shape[1]), "sample fails")
    copy = pickle.loads(pickle.dumps(model))
    check(
        np.array_equal(copy.reconstruct(X), reconstruction), "pickle changes the model"
    )
    check(
        np.array_equal(fit().reconstruct(X), reconstruction),
        "the same fit twice gives two models",
    )
