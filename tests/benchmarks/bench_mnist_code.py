"""MNIST through a code of 30 numbers: squared error per test image, all 60,000 rows.

Hinton & Salakhutdinov, "Reducing the Dimensionality of Data with Neural Networks"
(Science, 2006), report 3.00 for a deep autoencoder, 784-1000-500-250-30 and back,
pretrained layer by layer, and 13.87 for PCA: squared differences of grey values in
[0, 1], summed over the pixels, means over the 10,000 test images.

The networks "conv" and "mlp" start at random, with a learning rate that falls along a
cosine; all else is the default. The test images tell how far each epoch has come; no
run stops or chooses by them, and the last weights are the ones that count. "default" is
the default estimator: nothing is set but code size, seed and device. "projected" is its
error on the test images with two projection steps.

    SKAE_DATA=<folder> python tests/benchmarks/bench_mnist_code.py [--network conv]
        [--epochs 50] [--batch-size 128] [--lr 2e-3] [--seed 0] [--device cpu]
"""

import argparse
import time
import warnings

import numpy as np
import torch
from _data import mnist
from sklearn.decomposition import PCA
from skorch.callbacks import Callback, LRScheduler

from skae import AutoencoderTransformer
from skae.architectures import MLP, Conv

RANDOM = {
    "activation": "gelu",
    "norm": None,
    "linear_path": False,
    "start": "random",
}
NETWORKS = {
    "conv": Conv((1, 28, 28), (32, 64), hidden_layer_sizes=(256,), **RANDOM),
    "mlp": MLP((1000, 500, 250), **RANDOM),
}


class Curve(Callback):
    """Print the errors of every epoch."""

    def __init__(self, test, unit):
        self.test = test
        self.unit = unit

    def on_train_begin(self, net, **kwargs):
        self.begin_ = time.perf_counter()

    def on_epoch_end(self, net, **kwargs):
        module = net.module_.eval()
        with torch.inference_mode():
            squares = [
                (module.reconstruct(x) - x).square().sum(dim=1)
                for x in self.test.to(net.device).split(1000)
            ]
        test = torch.cat(squares).mean().item() * self.unit**2
        # The loss is half the squared error, before the weights are averaged.
        train = 2 * net.history[-1, "train_loss"] * self.unit**2
        seconds = time.perf_counter() - self.begin_
        epoch = len(net.history)
        print(f"| {epoch} | {train:.3f} | {test:.3f} | {seconds:.0f} |", flush=True)


def squared_error(model, X):
    reconstruction = model.inverse_transform(model.transform(X))
    return float(np.square(X - reconstruction).sum(axis=1).mean())


def shown(arguments, data):
    """Return one of the networks; its fit prints a line for each epoch."""
    center = data.train.mean(axis=0)
    unit = float(np.sqrt(data.train.var(axis=0).mean()))
    scaled = torch.from_numpy(((data.test - center) / unit).astype(np.float32))
    cosine = LRScheduler(
        torch.optim.lr_scheduler.CosineAnnealingLR, T_max=arguments.epochs
    )
    model = AutoencoderTransformer(
        30,
        architecture=NETWORKS[arguments.network],
        lr=arguments.lr,
        batch_size=arguments.batch_size,
        max_epochs=arguments.epochs,
        early_stopping=False,
        n_iter_no_change=arguments.epochs,
        random_state=arguments.seed,
        device=arguments.device,
        net_params={"callbacks": [Curve(scaled, unit), cosine]},
    )
    print(f"{model}\n\n| epoch | training | test | seconds |\n|---|---|---|---|")
    return model


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    networks = [*NETWORKS, "default"]
    parser.add_argument("--network", choices=networks, default="conv")
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")

    data = mnist()
    begin = time.perf_counter()
    if arguments.network == "default":
        model = AutoencoderTransformer(
            30, random_state=arguments.seed, device=arguments.device
        )
    else:
        model = shown(arguments, data)
    model.fit(data.train)
    print(f"\n{time.perf_counter() - begin:.0f} s, {model.kept_weights_}")
    pca = PCA(30, svd_solver="full").fit(data.train)
    print("\n| | training | test |\n|---|---|---|")
    for name, fitted in (("PCA", pca), ("skae", model)):
        errors = (squared_error(fitted, X) for X in (data.train, data.test))
        print("| " + " | ".join([name, *(f"{error:.3f}" for error in errors)]) + " |")
    # The training is the same; rows of single precision, so that no copy is used.
    model._model.n_projection_steps = 2
    projected = squared_error(model, data.test.astype(np.float32))
    print(f"| projected | | {projected:.3f} |")
    print("| Hinton & Salakhutdinov (2006) | | 3.00 |")


if __name__ == "__main__":
    main()
