"""What training minimises, and what the parts allow together."""

import pytest
import torch
from test_module import N_COMPONENTS, N_FEATURES, Batch, Noisy

from skae._model.autoencoder import Objective, Parts
from skae.architectures import MLP
from skae.bottlenecks import (
    FiniteScalar,
    Plain,
    TopK,
    Variational,
    VectorQuantized,
)
from skae.corruptions import Gaussian
from skae.losses import SquaredError, Trimmed
from skae.penalties import L1, Contractive, Decorrelation


@pytest.fixture
def output(generator):
    """What a model with all that can cost something gives for a batch."""
    parts = Parts(MLP((8,)), Noisy(), SquaredError(), penalty=L1(0.1))
    module = parts.build(N_FEATURES, N_COMPONENTS, 0)
    x = torch.randn(30, N_FEATURES, generator=generator)
    return module(x, module.draw(x.shape, generator))


@pytest.fixture
def weight(generator):
    return torch.rand(30, generator=generator)


def test_the_objective_is_the_weighted_mean_of_its_terms(output, weight):
    _, _, terms, _ = output
    objective = Objective(SquaredError())
    torch.testing.assert_close(objective(output), terms.mean())
    torch.testing.assert_close(objective(output, weight), (weight * terms).mean())


def test_weights_of_one_are_none_bit_for_bit(output):
    objective = Objective(SquaredError(), Batch())
    assert torch.equal(objective(output, torch.ones(30)), objective(output))


def test_the_price_of_the_batch_is_added_once(output, weight):
    without = Objective(SquaredError())(output, weight)
    with_price = Objective(SquaredError(), Batch())(output, weight)
    price = Batch().per_batch(output[1], weight)
    torch.testing.assert_close(with_price, without + price)


def test_the_objective_counts_what_the_loss_trusts(output, weight):
    _, _, terms, _ = output
    order = terms.argsort()
    objective = Objective(Trimmed(SquaredError(), 0.5))
    kept = order[: len(terms) // 2]
    torch.testing.assert_close(objective(output), terms[kept].mean())
    # Half of the weight is left out, and the rest stands for all of it.
    kept = order[weight[order].cumsum(dim=0) <= weight.sum() / 2]
    assert len(kept) > 0
    expected = (terms * weight)[kept].sum() / weight[kept].sum() * weight.mean()
    torch.testing.assert_close(objective(output, weight), expected)


# Parts


@pytest.mark.parametrize(
    ("parts", "symmetry", "guarded"),
    [
        ({}, "rotation", False),
        ({"corruption": Gaussian()}, "rotation", True),
        ({"penalty": L1()}, "scaling", True),
        ({"penalty": Decorrelation()}, "rotation", True),
        ({"penalty": Contractive()}, "rotation", True),
        ({"penalty": Contractive() + L1()}, "scaling", True),
        ({"bottleneck": Variational()}, "permutation", True),
        ({"bottleneck": Variational(), "penalty": L1()}, "permutation", True),
        ({"bottleneck": TopK(2)}, "scaling", True),
        ({"bottleneck": TopK(2), "penalty": Contractive()}, "scaling", True),
        ({"bottleneck": VectorQuantized()}, None, True),
        ({"bottleneck": FiniteScalar()}, None, True),
        ({"bottleneck": Plain("relu")}, "scaling", False),
        ({"bottleneck": Plain("tanh")}, "permutation", False),
        ({"penalty": Batch()}, None, True),
        ({"bottleneck": Noisy()}, None, True),
    ],
    ids=str,
)
def test_parts_know_what_they_allow(parts, symmetry, guarded):
    made = Parts(
        **{
            "architecture": MLP(),
            "bottleneck": Plain(),
            "loss": SquaredError(),
            **parts,
        }
    )
    assert made.symmetry == symmetry
    assert made.is_regularized is guarded
