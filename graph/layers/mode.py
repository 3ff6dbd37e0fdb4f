"""Training or inference: which form the layers called here build."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

_modes = threading.local()


def is_training() -> bool:
    """Whether layers called here build their training form: inside `with training():`."""
    stack = getattr(_modes, "stack", None)
    return bool(stack and stack[-1])


@contextmanager
def training(on: bool = True) -> Iterator[None]:
    """Layers called inside build their training form (`on`), or their inference form.

    A graph holds both side by side: call the same layer objects twice, and the two results share
    the variables. That is how `train_step` and `infer` are defined over one state:

        with fm.training():
            loss = fm.losses.sparse_softmax_cross_entropy(labels, net(x))
        train_step = fm.optimizers.Adam().minimize(loss)
        infer = fm.softmax(net(x))
    """
    if not hasattr(_modes, "stack"):
        _modes.stack = []
    _modes.stack.append(on)
    try:
        yield
    finally:
        _modes.stack.pop()
