"""Time of training the same network: skae beside other ways to do it.

The network is fully connected with ReLU, its code and output are linear; the squared
error, Adam with a learning rate of 1e-3, the same batch size and number of epochs.
Rows are float32 in memory, correlated and random. Workloads:

- small: 5,000 x 30, network 30-64-32-8 and back, batches of 128, 20 epochs
- middle: 60,000 x 784, network 784-128-64-32 and back, batches of 256, 2 epochs
- wide: 20,000 x 2,000, network 2000-256-32 and back, batches of 512, 2 epochs

Each is timed from rows to a fitted model, building it included:

- bare loop: the rows one tensor, ``torch.randperm``, one ``index_select`` per batch,
  ``zero_grad(set_to_none=True)``, ``torch.optim.Adam`` as it comes
- textbook loop: ``DataLoader`` over a ``TensorDataset``
- skorch: ``NeuralNet`` as documented, ``train_split=None``
- PyOD: ``AutoEncoder`` without batch normalisation and dropout, and with them as it
  comes; both standardise and score the training rows, and drop the last short batch
- scikit-learn: ``MLPRegressor(X, X)``
- Keras: on JAX; warm is a further fit of a compiled model, cold builds and compiles one
- matrix products: those of forward and backward pass alone, into preallocated memory
- skae: the same network; ``fit`` as a whole, which checks the rows, compares with PCA
  and orders the code, and of that its epochs; by autograd: with a hook in a layer
- skae, default: with all that ``fit`` does when it is not told otherwise, linear path,
  start at PCA, AdamW and judgement on a tenth of the rows, which are held out; only
  the network's sizes, the batch size and the number of epochs are given

The ratio is that to the bare loop in the same round, the median over rounds. Each
thread count has a process that keeps to as many cores. Two threads are worth measuring
on an idle machine only: where another process has one of the cores, each product waits
for it, and all of torch takes many times as long. Peers come with ``pip install -c
tests/constraints.txt ".[benchmarks]"``; those that are missing are left out.

    python tests/benchmarks/bench_fit.py [--workloads small middle wide]
        [--threads 1 2] [--rounds 5] [--contenders bare skae ...]

``--device cuda`` times the bare loop, the textbook loop and skae there: 60,000 x 784,
10 epochs.
"""

import argparse
import math
import os
from dataclasses import dataclass
from itertools import pairwise

import torch
from _timing import (
    LR,
    Watch,
    ignore_warnings,
    measure,
    network,
    print_ratios,
    random_rows,
    run_with_threads,
    same_network,
    skorch_net,
    train_bare,
    train_textbook,
)
from sklearn.neural_network import MLPRegressor

from skae import AutoencoderTransformer
from skae.architectures import MLP


@dataclass
class Work:
    n_samples: int
    n_features: int
    hidden: tuple
    n_components: int
    batch_size: int
    epochs: int
    device: str = "cpu"

    def __post_init__(self):
        self.X = random_rows(self.n_samples, self.n_features)

    @property
    def inner(self):
        """Widths of all layers but input and output."""
        return (*self.hidden, self.n_components, *reversed(self.hidden))

    def network(self):
        return network(self.n_features, self.hidden, self.n_components).to(self.device)


WORK = {
    "small": (5_000, 30, (64, 32), 8, 128, 20),
    "middle": (60_000, 784, (128, 64), 32, 256, 2),
    "wide": (20_000, 2_000, (256,), 32, 512, 2),
}
ON_CUDA = (60_000, 784, (128, 64), 32, 256, 10)


# Contenders: each takes the work and returns what is timed.


def bare(work):
    def run():
        x = torch.from_numpy(work.X).to(work.device)
        train_bare(work.network(), x, work.batch_size, work.epochs)

    return run


def textbook(work):
    work_on = work.X, work.batch_size, work.epochs, work.device
    return lambda: train_textbook(work.network(), *work_on)


def skorch(work):
    net = skorch_net(work.network, work.batch_size, work.epochs)
    return lambda: net.fit(work.X, work.X)


def pyod(work, **same):
    from pyod.models.auto_encoder import AutoEncoder

    def run():
        AutoEncoder(
            hidden_neuron_list=[*work.hidden, work.n_components],
            lr=LR,
            batch_size=work.batch_size,
            epoch_num=work.epochs,
            device=torch.device("cpu"),
            verbose=0,
            **same,
        ).fit(work.X)

    return run


def pyod_same(work):
    none = {"weight_decay": 0.0}
    return pyod(work, batch_norm=False, dropout_rate=0.0, optimizer_params=none)


def sklearn(work):
    model = MLPRegressor(
        hidden_layer_sizes=work.inner,
        alpha=0,
        batch_size=work.batch_size,
        learning_rate_init=LR,
        max_iter=work.epochs,
        tol=0,
        n_iter_no_change=work.epochs + 1,
    )
    return lambda: model.fit(work.X, work.X)


def keras_model(work):
    os.environ["KERAS_BACKEND"] = "jax"
    import keras

    layers = [keras.layers.Input((work.n_features,))]
    for i, width in enumerate((*work.inner, work.n_features)):
        linear = i in (len(work.hidden), len(work.inner))
        layers.append(keras.layers.Dense(width, activation=None if linear else "relu"))
    model = keras.Sequential(layers)
    model.compile(optimizer=keras.optimizers.Adam(LR), loss="mse")
    return model


def keras_fit(model, work):
    model.fit(work.X, work.X, batch_size=work.batch_size, epochs=work.epochs, verbose=0)


def keras_warm(work):
    model = keras_model(work)
    return lambda: keras_fit(model, work)


def keras_cold(work):
    keras_model(work)
    return lambda: keras_fit(keras_model(work), work)


def products(work):
    widths = (work.n_features, *work.inner, work.n_features)
    sizes = [work.batch_size] * (work.n_samples // work.batch_size)
    sizes += [work.n_samples % work.batch_size]

    @torch.inference_mode()
    def run():
        weights = [torch.randn(pair) for pair in pairwise(widths)]
        gradients = [torch.empty_like(weight) for weight in weights]
        units = [torch.randn(work.batch_size, width) for width in widths]
        for size in sizes * work.epochs:
            h = [unit[:size] for unit in units]
            for i, weight in enumerate(weights):
                torch.mm(h[i], weight, out=h[i + 1])
            for i in reversed(range(len(weights))):
                torch.mm(h[i].T, h[i + 1], out=gradients[i])
                if i > 0:
                    torch.mm(h[i + 1], weights[i].T, out=h[i])

    return run


def of_training(work):
    return {
        "n_components": work.n_components,
        "batch_size": work.batch_size,
        "max_epochs": work.epochs,
        "n_iter_no_change": work.epochs + 1,
        "device": work.device,
    }


def skae_same(work):
    model = same_network(work.hidden, **of_training(work))
    return lambda: trained(model, work, "skae, of that its epochs")


def skae_autograd(work):
    watched = {"callbacks": [("watch", Watch())]}
    model = same_network(work.hidden, **of_training(work), net_params=watched)
    return lambda: trained(model, work, "skae by autograd, of that its epochs")


def skae_default(work):
    given = {"architecture": MLP(work.hidden), "random_state": 0}
    model = AutoencoderTransformer(**given, **of_training(work))
    return lambda: trained(model, work, "skae, default, of that its epochs")


def trained(model, work, name):
    model.fit(work.X)
    if model.n_iter_ != work.epochs:
        raise RuntimeError(f"{name}: {model.n_iter_} epochs instead of {work.epochs}")
    return {name: model.history_["seconds"].sum()}


CONTENDERS = {
    "bare": ("bare loop", bare),
    "textbook": ("textbook loop", textbook),
    "skorch": ("skorch as documented", skorch),
    "pyod": ("PyOD, same network", pyod_same),
    "pyod-default": ("PyOD, batch norm and dropout", pyod),
    "sklearn": ("scikit-learn MLPRegressor", sklearn),
    "keras-warm": ("Keras on JAX, warm", keras_warm),
    "keras-cold": ("Keras on JAX, cold", keras_cold),
    "products": ("matrix products alone", products),
    "skae": ("skae", skae_same),
    "skae-autograd": ("skae by autograd", skae_autograd),
    "skae-default": ("skae, default", skae_default),
}


def fits(name, arguments):
    work = Work(*WORK[name])
    chosen = {"bare": CONTENDERS["bare"]}
    chosen |= {key: CONTENDERS[key] for key in arguments.contenders}
    runs = {}
    for label, make in chosen.values():
        try:
            runs[label] = make(work)
        except ImportError as error:
            print(f"Left out: {label}. {error}")
    warm_up = set(runs) - {CONTENDERS["keras-cold"][0]}
    print_ratios(measure(runs, arguments.rounds, warm_up), "bare loop")


def on_cuda(rounds):
    work = Work(*ON_CUDA, device="cuda")
    chosen = (CONTENDERS[key] for key in ("bare", "textbook", "skae"))
    runs = {label: make(work) for label, make in chosen}
    seconds = measure(runs, rounds, wait=torch.cuda.synchronize)
    steps = work.epochs * math.ceil(work.n_samples / work.batch_size)
    print(f"{torch.cuda.get_device_name()}: {steps} steps\n")
    print_ratios(seconds, "bare loop", unit=1e-6 * steps, unit_name="us a step")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workloads", nargs="+", choices=WORK, default=list(WORK))
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--rounds", type=int, default=5)
    keys = list(CONTENDERS)
    parser.add_argument("--contenders", nargs="+", choices=keys, default=keys)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    ignore_warnings()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        parser.error("torch finds no CUDA device")
    if arguments.device == "cuda":
        on_cuda(arguments.rounds)
    elif arguments.inside:
        torch.set_num_threads(arguments.threads[0])
        (name,) = arguments.workloads
        fits(name, arguments)
    else:
        more = ["--contenders", *arguments.contenders]
        for name in arguments.workloads:
            run_with_threads("--workloads", name, arguments, more)


if __name__ == "__main__":
    main()
