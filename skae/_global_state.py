"""Settings of torch and NumPy that a caller has made for other computations.

Estimators compute the same inside of them as outside: each public method runs with the
settings that both libraries start with.

- Autograd is on, inference mode off.
- No autocast, but for that of ``precision="bf16"``.
- New tensors are float32, on the CPU.
- Floating-point errors of NumPy are warnings.

In a process that was forked, torch computes in one thread.
"""

import os
from functools import wraps
from inspect import isfunction
from threading import Lock

import numpy as np
import torch

from ._compat.torch import (
    InferenceMode,
    disable_function_modes,
    function_state,
    has_function_modes,
    is_any_autocast_enabled,
    set_function_state,
)

__all__ = ["DefaultStateMixin", "at_interrupt", "in_default_state"]

_DEVICES = ("cpu", "cuda", "mps")
_ERRORS = {"divide": "warn", "over": "warn", "under": "ignore", "invalid": "warn"}


class DefaultStateMixin:
    """Let the public methods of all subclasses run with the default settings."""

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        for name, value in list(vars(cls).items()):
            if isfunction(value) and not name.startswith("_"):
                setattr(cls, name, in_default_state(value))


def in_default_state(function):
    """Return a function that runs with the default settings of torch and NumPy.

    When it ends, the settings are those of the caller again. This holds for a
    KeyboardInterrupt at any point, too: one that comes while a context manager is
    entered or left, here or in torch, keeps it from restoring what it has changed.
    Settings are therefore set to known values, again if doing so was interrupted, and
    what torch can only enter and leave is done by its context managers in C, between
    whose steps no interrupt is raised.
    """

    @wraps(function)
    def call(*args, **kwargs):
        if os.getpid() != _process:
            _use_one_thread()
        settings = _Settings()
        try:
            # It restores whether gradients are computed, too.
            with InferenceMode(False):
                settings.leave()
                result = function(*args, **kwargs)
            settings.restore()
            return result
        except BaseException as error:
            settings.restore(interrupted=True)
            if not isinstance(error, Exception):
                for restore in _at_interrupt:
                    restore()
            raise

    return call


# What else is to be restored after an interrupt.
_at_interrupt: list = []


def at_interrupt(function):
    """Call a function whenever an interrupt ends a call, in the thread of that.

    It restores what the call has changed, unless that was done already.
    """
    _at_interrupt.append(function)


# The process for which the number of threads of torch is right.
_process = os.getpid()


def _use_one_thread():
    """Compute in one thread from now on, in a process that was forked.

    Threads of OpenMP do not survive a fork, and GNU's library would wait for them
    forever if the parent process has used them. It cannot be asked whether it has.
    """
    global _process
    torch.set_num_threads(1)
    _process = os.getpid()


class _Settings:
    """The settings of a caller, when this is made."""

    def __init__(self):
        self._errors = np.geterr()
        self._autocast = ()
        if is_any_autocast_enabled():
            self._autocast = tuple(filter(torch.is_autocast_enabled, _DEVICES))
        self._autocast_dtypes = tuple(map(torch.get_autocast_dtype, _DEVICES))
        self._autocast_cache = torch.is_autocast_cache_enabled()
        self._autocast_depth = _autocast_depth()
        self._functions = function_state()

    def leave(self):
        """Set all to the defaults."""
        if self._errors != _ERRORS:
            np.seterr(**_ERRORS)
        for device in self._autocast:
            torch.set_autocast_enabled(device, False)
        if has_function_modes():
            disable_function_modes()
        _default_dtype.enter(self)

    def restore(self, interrupted=False):
        """Set all to what they were.

        Parameters
        ----------
        interrupted : bool, default=False
            Whether others may have been changed than those that `leave` changes.
        """
        if interrupted or self._errors != _ERRORS:
            np.seterr(**self._errors)
        for device in _DEVICES if interrupted else self._autocast:
            torch.set_autocast_enabled(device, device in self._autocast)
        if interrupted:
            self._restore_autocast()
        set_function_state(self._functions)
        _default_dtype.leave(self)

    def _restore_autocast(self):
        """Set what a context of autocast changes, besides whether it is on."""
        for device, dtype in zip(_DEVICES, self._autocast_dtypes, strict=True):
            torch.set_autocast_dtype(device, dtype)
        torch.set_autocast_cache_enabled(self._autocast_cache)
        while _autocast_depth() > self._autocast_depth:
            torch.autocast_decrement_nesting()


def _autocast_depth():
    """Return how many contexts of autocast are entered."""
    torch.autocast_increment_nesting()
    return torch.autocast_decrement_nesting()


class _DefaultDtype:
    """float32 as dtype of new tensors, as long as any call is in progress.

    All threads share the default of torch: the first call that finds another one
    changes it, and the last one to end restores it.
    """

    def __init__(self):
        self._lock = Lock()
        self._before = {}

    def enter(self, call):
        if not self._before and torch.get_default_dtype() is torch.float32:
            return
        with self._lock:
            before = next(iter(self._before.values()), torch.get_default_dtype())
            self._before[call] = before
            torch.set_default_dtype(torch.float32)

    def leave(self, call):
        if call not in self._before:
            return
        with self._lock:
            if len(self._before) == 1:
                torch.set_default_dtype(self._before[call])
            del self._before[call]


_default_dtype = _DefaultDtype()
