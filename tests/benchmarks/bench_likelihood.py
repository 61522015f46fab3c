"""Log-likelihood of a variational autoencoder on dynamically binarised MNIST.

Protocol of Burda, Grosse & Salakhutdinov, "Importance Weighted Autoencoders" (ICLR
2016), one stochastic layer: code of 50 normal components, two hidden layers of 200 tanh
units each way, Bernoulli outputs; grey values are binarised anew in every epoch. The
negative log-likelihood of test images is bounded by importance sampling with 5,000
samples each. Their figure for the VAE is 86.76 nats after 3,280 epochs of batches of
20, with a learning rate that falls in eight stages.

"PyTorch" is the same network, objective, optimiser and number of steps in a loop
written by hand; "skae, textbook" the same through skae;
"skae" has the linear path, the start and the averaged weights that are its default. By
default the run is scaled down: batches of 100, few epochs, a constant learning rate of
1e-3, Adam, and the first 500 test images.

    SKAE_DATA=<folder> python tests/benchmarks/bench_likelihood.py [--epochs 20]
        [--batch-size 100] [--n-test 500] [--n-samples 5000] [--device cpu]

``--epochs 3280 --batch-size 20 --n-test 10000`` is the published length.
"""

import argparse
import math
import time
import warnings

import numpy as np
import torch
from _data import mnist
from skorch.callbacks import Callback
from torch import nn
from torch.nn.functional import softplus

from skae import AutoencoderTransformer
from skae.architectures import MLP
from skae.bottlenecks import Variational
from skae.losses import Bernoulli

N_COMPONENTS, WIDTH, LR = 50, 200, 1e-3


class Binarise(Callback):
    """Draw the training images anew before every epoch.

    So large a table is scaled batch by batch: what is written to it is what is seen.
    """

    def __init__(self, grey, images, seed):
        self.grey = grey
        self.images = images
        self.seed = seed

    def on_train_begin(self, net, **kwargs):
        self.generator_ = torch.Generator().manual_seed(self.seed)

    def on_epoch_begin(self, net, **kwargs):
        drawn = torch.bernoulli(self.grey, generator=self.generator_)
        np.copyto(self.images, drawn)


def with_skae(grey, arguments, seed, averaging=0.995, **mlp):
    """Train through skae; return functions to a posterior and to logits."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.bernoulli(grey, generator=generator).numpy()
    binarise = Binarise(grey, images, seed)
    model = AutoencoderTransformer(
        N_COMPONENTS,
        architecture=MLP((WIDTH, WIDTH), **mlp),
        bottleneck=Variational(),
        loss=Bernoulli(),
        optimizer="adam",
        lr=LR,
        batch_size=arguments.batch_size,
        max_epochs=arguments.epochs,
        early_stopping=False,
        n_iter_no_change=arguments.epochs,
        random_state=seed,
        device=arguments.device,
        net_params={"callbacks": [binarise], "averaging": averaging},
    )
    model.fit(images)
    module = model.net_.module_.eval()
    return lambda x: module.bottleneck.posterior(module(x)[3]), module.decoder


def _network(n_in, n_out):
    return nn.Sequential(
        nn.Linear(n_in, WIDTH),
        nn.Tanh(),
        nn.Linear(WIDTH, WIDTH),
        nn.Tanh(),
        nn.Linear(WIDTH, n_out),
    )


def with_pytorch(grey, arguments, seed):
    """Train in a loop written by hand; return the same two functions."""
    torch.manual_seed(seed)
    device = arguments.device
    grey = grey.to(device)
    encoder = _network(grey.shape[1], 2 * N_COMPONENTS).to(device)
    decoder = _network(N_COMPONENTS, grey.shape[1]).to(device)
    parameters = [*encoder.parameters(), *decoder.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=LR)
    for _ in range(arguments.epochs):
        binary = torch.bernoulli(grey)
        order = torch.randperm(len(grey), device=device)
        for index in order.split(arguments.batch_size):
            x = binary[index]
            mean, log_variance = encoder(x).chunk(2, dim=1)
            z = mean + (0.5 * log_variance).exp() * torch.randn_like(mean)
            kl = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum(dim=1)
            raw = decoder(z)
            loss = (softplus(raw) - x * raw).sum(dim=1) + kl
            optimizer.zero_grad()
            loss.mean().backward()
            optimizer.step()
    return lambda x: encoder(x).chunk(2, dim=1), decoder


@torch.inference_mode()
def bounds(posterior, decoder, x, n_samples, generator):
    """Return the negative ELBO and the importance-sampled bound, means over rows."""
    elbo, likelihood = [], []
    for row in x:
        mean, log_variance = posterior(row[None])
        noise = torch.randn(
            n_samples, mean.shape[1], generator=generator, device=x.device
        )
        z = mean + (0.5 * log_variance).exp() * noise
        raw = decoder(z)
        given_code = (row * raw - softplus(raw)).sum(dim=1)
        prior = -0.5 * (z**2).sum(dim=1)
        drawn_from = -0.5 * (noise**2 + log_variance).sum(dim=1)
        log_weight = given_code + prior - drawn_from
        elbo.append(log_weight.mean())
        likelihood.append(log_weight.logsumexp(dim=0) - math.log(n_samples))
    return -torch.stack(elbo).mean().item(), -torch.stack(likelihood).mean().item()


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=100)
    parser.add_argument("--n-test", type=int, default=500)
    parser.add_argument("--n-samples", type=int, default=5000)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")

    data = mnist(n_test=arguments.n_test)
    grey, grey_test = torch.from_numpy(data.train), torch.from_numpy(data.test)
    test = torch.bernoulli(grey_test, generator=torch.Generator().manual_seed(0))
    test = test.to(arguments.device)
    textbook = {"linear_path": False, "start": "random", "norm": None}
    textbook["averaging"] = 0
    models = {
        "PyTorch": with_pytorch,
        "skae, textbook": lambda *given: with_skae(*given, **textbook),
        "skae": with_skae,
    }
    n_steps = arguments.epochs * math.ceil(len(grey) / arguments.batch_size)
    print(
        f"{n_steps} steps of {arguments.batch_size} rows; bound of "
        f"{arguments.n_samples} samples for {len(test)} test images; nats\n"
    )
    print("| | seed | negative ELBO | negative log-likelihood | seconds |")
    print("|---|---|---|---|---|", flush=True)
    for name, train in models.items():
        for seed in range(arguments.seeds):
            begin = time.perf_counter()
            posterior, decoder = train(grey, arguments, seed)
            seconds = time.perf_counter() - begin
            generator = torch.Generator(arguments.device).manual_seed(0)
            elbo, likelihood = bounds(
                posterior, decoder, test, arguments.n_samples, generator
            )
            print(
                f"| {name} | {seed} | {elbo:.2f} | {likelihood:.2f} | {seconds:.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
