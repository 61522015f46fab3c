"""Checkpoints: files from which a training goes on after the process was killed."""

import os
import time
from pathlib import Path

from .._warning import warn_user
from ..exceptions import InvalidCheckpointWarning, InvalidFileError
from .fingerprint import Fingerprints
from .state_file import read_state, write_state

__all__ = ["Checkpoint", "Checkpoints"]

# Share of the time that writing may take. Where an epoch takes fifty times as long as
# writing does, its state is written, otherwise not after every epoch.
_SHARE = 0.02
_SUFFIX = ".checkpoint"


class Checkpoints:
    """The checkpoints of a fit, one per training, in a folder.

    The name of a file is the fingerprint of the training. So a training finds its own,
    whatever else is in the folder, and other fits may use it at the same time.

    Parameters
    ----------
    folder : path-like
        Made if it does not exist.
    """

    def __init__(self, folder):
        self._folder = Path(folder)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise ValueError(
                "The 'checkpoint' parameter must be the path of a folder. Got "
                f"{os.fspath(folder)!r}, where there is a file."
            ) from None
        self._fingerprint = Fingerprints()
        self._paths = []

    def of(self, plan, n_components, seeds, previous=None):
        """Return the `Checkpoint` of a training; see `Fingerprints`."""
        name = self._fingerprint(plan, n_components, seeds, previous)
        path = self._folder / f"{name}{_SUFFIX}"
        self._paths.append(path)
        return Checkpoint(path)

    def remove(self):
        """Remove the files of this fit, which has ended."""
        for path in self._paths:
            # What was being written when the process was killed is still there, too.
            for file in [path, *self._folder.glob(f".{path.name}.*")]:
                file.unlink(missing_ok=True)


class Checkpoint:
    """The state of a training in a file.

    Parameters
    ----------
    path : Path
    """

    def __init__(self, path):
        self._path = path
        self._next = -float("inf")

    def load(self):
        """Return the state that a training goes on from; None if it begins anew."""
        try:
            return read_state(self._path)
        except FileNotFoundError:
            return None
        except InvalidFileError as error:
            warn_user(
                f"The checkpoint {str(self._path)!r} is damaged ({error}): training "
                "begins anew.",
                InvalidCheckpointWarning,
            )
            return None

    def save(self, make_state, last=False):
        """Write the state after an epoch, if it is time to.

        Parameters
        ----------
        make_state : callable
            Returns the state.
        last : bool, default=False
            Whether this was the last epoch, whose state is written in any case.
        """
        start = time.monotonic()
        if start < self._next and not last:
            return
        write_state(self._path, make_state())
        end = time.monotonic()
        self._next = end + (end - start) / _SHARE
