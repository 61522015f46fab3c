"""The autoencoders of textbooks, in PyTorch and in skae: equal errors?

Each network of a first course, written as there, and the lines of skae that do the same
(docs/guide/starter_code.rst shows both):

- plain: dense layers with ReLU, a sigmoid at the end, mean squared error
- convolutional: two convolutions with stride 2, and transposed ones
- sparse: ReLU at the code, and a penalty on its absolute values
- variational: binary cross-entropy and the divergence, both summed

Adam with a learning rate of 1e-3. The error is the mean squared one of a pixel, times
1,000, on images that were not trained on: mean and standard deviation over seeds.
PCA and "default", which is ``AutoencoderTransformer`` with nothing else set, have the
same code size.

    python tests/benchmarks/bench_starter.py [--data digits mnist] [--seeds 5]
        [--networks plain convolutional sparse variational default]

MNIST is that of the folder SKAE_DATA, or fetched by scikit-learn: the first 60,000
images train, 10 epochs in batches of 256; the digits have 1,437 training images, 50
epochs in batches of 32.
"""

import argparse
import os
import warnings

import numpy as np
import pandas as pd
import torch
from _data import mnist
from sklearn.datasets import fetch_openml, load_digits
from sklearn.decomposition import PCA
from torch import nn
from torch.nn import functional

from skae import AutoencoderTransformer
from skae.architectures import Custom
from skae.bottlenecks import Variational
from skae.losses import Bernoulli
from skae.penalties import L1

LATENT, SPARSITY = 32, 1e-4


def encoder(n_in, n_out):
    """Return the encoder 784-128-64-32 of textbooks."""
    return nn.Sequential(
        nn.Linear(n_in, 128),
        nn.ReLU(),
        nn.Linear(128, 64),
        nn.ReLU(),
        nn.Linear(64, n_out),
    )


def to_logits(n_in, n_out):
    """Return the decoder without the sigmoid."""
    return nn.Sequential(
        nn.Linear(n_in, 64),
        nn.ReLU(),
        nn.Linear(64, 128),
        nn.ReLU(),
        nn.Linear(128, n_out),
    )


def decoder(n_in, n_out):
    """Return the decoder, a sigmoid at its end."""
    return nn.Sequential(to_logits(n_in, n_out), nn.Sigmoid())


def sparse_encoder(n_in, n_out):
    """Return an encoder with a non-negative code."""
    return nn.Sequential(encoder(n_in, n_out), nn.ReLU())


def conv_encoder(n_in, n_out):
    """Return two convolutions with stride 2 and a dense layer."""
    side = round(n_in**0.5)
    return nn.Sequential(
        nn.Unflatten(1, (1, side, side)),
        nn.Conv2d(1, 16, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32 * (side // 4) ** 2, n_out),
    )


def conv_decoder(n_in, n_out):
    """Return the reverse, with transposed convolutions."""
    side = round(n_out**0.5)
    return nn.Sequential(
        nn.Linear(n_in, 32 * (side // 4) ** 2),
        nn.Unflatten(1, (32, side // 4, side // 4)),
        nn.ReLU(),
        nn.ConvTranspose2d(32, 16, 3, stride=2, padding=1, output_padding=1),
        nn.ReLU(),
        nn.ConvTranspose2d(16, 1, 3, stride=2, padding=1, output_padding=1),
        nn.Flatten(),
        nn.Sigmoid(),
    )


class VAE(nn.Module):
    """Encoder with a mean and a variance, and decoder."""

    def __init__(self, n_features):
        super().__init__()
        self.encoder = encoder(n_features, 2 * LATENT)
        self.decoder = to_logits(LATENT, n_features)

    def loss(self, x):
        """Return the negative evidence lower bound, per row."""
        mean, log_variance = self.encoder(x).chunk(2, dim=1)
        code = mean + torch.exp(log_variance / 2) * torch.randn_like(mean)
        cross_entropy = functional.binary_cross_entropy_with_logits(
            self.decoder(code), x, reduction="sum"
        )
        divergence = 0.5 * torch.sum(mean**2 + log_variance.exp() - 1 - log_variance)
        return (cross_entropy + divergence) / len(x)

    def forward(self, x):
        """Return the reconstruction from the mean."""
        return torch.sigmoid(self.decoder(self.encoder(x)[:, :LATENT]))


class Textbook(nn.Module):
    """Encoder and decoder, mean squared error, and a penalty on the code."""

    def __init__(self, make_encoder, make_decoder, n_features, sparsity=0.0):
        super().__init__()
        self.encoder = make_encoder(n_features, LATENT)
        self.decoder = make_decoder(LATENT, n_features)
        self.sparsity = sparsity

    def loss(self, x):
        """Return the mean squared error, and the mean sum of the absolute codes."""
        code = self.encoder(x)
        penalty = self.sparsity * code.abs().sum(dim=1).mean()
        return functional.mse_loss(self.decoder(code), x) + penalty

    def forward(self, x):
        """Return the reconstruction."""
        return self.decoder(self.encoder(x))


TEXTBOOKS = {
    "plain": lambda n: Textbook(encoder, decoder, n),
    "convolutional": lambda n: Textbook(conv_encoder, conv_decoder, n),
    "sparse": lambda n: Textbook(sparse_encoder, decoder, n, SPARSITY),
    "variational": VAE,
}


def by_hand(name, train, test, batch, epochs, seed):
    """Return the error of the loop of a textbook."""
    torch.manual_seed(seed)
    x, network = torch.from_numpy(train), TEXTBOOKS[name](train.shape[1])
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    for _ in range(epochs):
        for rows in torch.randperm(len(x)).split(batch):
            loss = network.loss(x[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    with torch.no_grad():
        return error(network(torch.from_numpy(test)).numpy(), test)


def by_skae(name, train, test, batch, epochs, seed):
    """Return the error of the same network in skae."""
    # Its squared error is half the sum over the pixels: so is the penalty's unit.
    sparsity = SPARSITY * train.shape[1] / 2
    own = {
        "plain": {"architecture": Custom(encoder, decoder)},
        "convolutional": {"architecture": Custom(conv_encoder, conv_decoder)},
        "sparse": {
            "architecture": Custom(sparse_encoder, decoder),
            "penalty": L1(sparsity),
        },
        "variational": {
            "architecture": Custom(encoder, to_logits),
            "bottleneck": Variational(),
            "loss": Bernoulli(),
        },
    }[name]
    model = AutoencoderTransformer(
        LATENT,
        scaling=None,
        optimizer="adam",
        lr=1e-3,
        gradient_clip=None,
        batch_size=batch,
        max_epochs=epochs,
        early_stopping=False,
        net_params={"averaging": 0},
        random_state=seed,
        **own,
    )
    return error(model.fit(train).reconstruct(test), test)


def error(reconstruction, rows):
    """Return the mean squared error of a pixel, times 1,000."""
    return 1000 * float(np.mean((reconstruction - rows) ** 2))


def images(name):
    """Return training and test rows in [0, 1], batch size and epochs."""
    if name == "digits":
        rows = np.float32(load_digits().data / 16)
        return rows[:1437], rows[1437:], 32, 50
    if "SKAE_DATA" in os.environ:
        digits = mnist()
        return digits.train, digits.test, 256, 10
    rows = fetch_openml("mnist_784", as_frame=False, parser="liac-arff").data
    rows = np.float32(rows / 255)
    return rows[:60_000], rows[60_000:], 256, 10


def main():
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", nargs="+", default=["digits"])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--networks", nargs="+", default=[*TEXTBOOKS, "default"])
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    table = {}
    for data in arguments.data:
        train, test, batch, epochs = images(data)
        for name in [name for name in TEXTBOOKS if name in arguments.networks]:
            for ours, run in (("PyTorch", by_hand), ("skae", by_skae)):
                errors = [
                    run(name, train, test, batch, epochs, seed)
                    for seed in range(arguments.seeds)
                ]
                text = f"{np.mean(errors):.2f} ± {np.std(errors, ddof=1):.2f}"
                table.setdefault(ours, {})[f"{data}, {name}"] = text
                print(f"{data}, {name}, {ours}: {text}", flush=True)
        pca = PCA(LATENT).fit(train)
        back = pca.inverse_transform(pca.transform(test))
        table["skae"][f"{data}, PCA"] = f"{error(back, test):.2f}"
        if "default" not in arguments.networks:
            continue
        errors = []
        for seed in range(arguments.seeds):
            model = AutoencoderTransformer(LATENT, random_state=seed).fit(train)
            errors.append(error(model.reconstruct(test), test))
        text = f"{np.mean(errors):.2f} ± {np.std(errors, ddof=1):.2f}"
        table["skae"][f"{data}, default"] = text
    print(pd.DataFrame(table).fillna("-").to_string())


if __name__ == "__main__":
    main()
