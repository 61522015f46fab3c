"""The transformer: an autoencoder where PCA would stand."""

from ._base import BaseAutoencoder

__all__ = ["AutoencoderTransformer"]


class AutoencoderTransformer(BaseAutoencoder):
    """doc"""

    _auto_scaling = "global"

    def __init__(
        self,
        n_components="auto",
        *,
        architecture=None,
        bottleneck=None,
        corruption=None,
        penalty=None,
        loss=None,
        scaling="auto",
        optimizer="adamw",
        lr=5e-3,
        weight_decay=0.0,
        gradient_clip=None,
        batch_size="auto",
        max_epochs=300,
        early_stopping=True,
        validation_fraction=0.1,
        n_iter_no_change=15,
        tol=1e-3,
        warm_start=False,
        random_state=None,
        verbose=0,
        device="cpu",
        net_params=None,
    ):
        self.n_components = n_components
        self.architecture = architecture
        self.bottleneck = bottleneck
        self.corruption = corruption
        self.penalty = penalty
        self.loss = loss
        self.scaling = scaling
        self.optimizer = optimizer
        self.lr = lr
        self.weight_decay = weight_decay
        self.gradient_clip = gradient_clip
        self.batch_size = batch_size
        self.max_epochs = max_epochs
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol
        self.warm_start = warm_start
        self.random_state = random_state
        self.verbose = verbose
        self.device = device
        self.net_params = net_params

    def _finish(self, fit):
        """Learn nothing more: the model is all."""
