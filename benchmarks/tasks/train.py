"""Training steps: softmax cross-entropy, SGD, batch 128, data already in memory.

`mlp` is 784-512-512-10. `lenet` is conv 5x5 to 32, pool, conv 5x5 to 64, pool, 512, 10 on 28 x 28
images. Losses of the first steps are compared, so everyone trains the same network.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from job import Case, Job

PEERS = ("flowmill", "torch", "torch.compile", "jax")
TARGET = 1.0
BATCH, RATE, COMPARED = 128, 0.05, 6
_SHAPES = {
    "mlp": ((784, 512), (512, 512), (512, 10)),
    "lenet": ((32, 1, 5, 5), (64, 32, 5, 5), (1024, 512), (512, 10)),
}


def cases(quick: bool, models: str) -> list[Case]:
    return [Case(name, 0, 2e-3, {"net": name}) for name in _SHAPES]


def parts(case: Case) -> tuple[Any, Any, list[tuple[Any, Any]]]:
    """Images, labels (int32), weights and biases; weights as [in, out] and [out, in, *window]."""
    rng = np.random.default_rng(0)
    net = case.options["net"]
    shape = (BATCH, 784) if net == "mlp" else (BATCH, 1, 28, 28)
    x = rng.standard_normal(shape, np.float32)
    labels = rng.integers(0, 10, BATCH).astype(np.int32)
    weights = []
    for s in _SHAPES[net]:
        fan = s[0] if len(s) == 2 else int(np.prod(s[1:]))
        w = rng.standard_normal(s, np.float32) * np.float32(np.sqrt(1 / fan))
        weights.append((w, np.zeros(s[1] if len(s) == 2 else s[0], np.float32)))
    return x, labels, weights


def job(step: Any) -> Job:
    """`step()` gives the loss as a Python number."""
    losses = np.array([step() for _ in range(COMPARED)], np.float32)
    return Job(step, lambda: [losses])


def flowmill(case: Case, threads: int) -> Job:
    import flowmill as fm

    x, labels, weights = parts(case)
    with fm.Graph() as graph:
        image, label = fm.input("x", x.shape), fm.input("label", labels.shape, "int32")
        h = image
        for i, (w, b) in enumerate(weights):
            weight, bias = fm.variable(f"w{i}", w), fm.variable(f"b{i}", b)
            if w.ndim == 4:
                h = fm.relu(fm.conv(h, weight) + fm.reshape(bias, (1, -1, 1, 1)))
                h = fm.max_pool(h, 2)
            else:
                h = fm.reshape(h, (BATCH, -1)) @ weight + bias
                h = fm.relu(h) if i < len(weights) - 1 else h
        loss = fm.losses.sparse_softmax_cross_entropy(label, h)
        step = fm.optimizers.SGD(RATE).minimize(loss)
    call = fm.Session(graph, threads=threads).make_callable(step, [image, label])
    return job(lambda: float(call(x, labels)))


def _torch_step(case: Case, threads: int, compiled: bool) -> Job:
    import torch as t

    t.set_num_threads(threads)
    x, labels, weights = parts(case)
    layers: list[Any] = []
    for i, (w, _) in enumerate(weights):
        if w.ndim == 4:
            layers += [t.nn.Conv2d(w.shape[1], w.shape[0], w.shape[2:]), t.nn.ReLU(),
                       t.nn.MaxPool2d(2)]  # fmt: skip
        else:
            layers += [t.nn.Flatten()] if w.shape[0] == 1024 else []
            layers += [t.nn.Linear(*w.shape)] + ([t.nn.ReLU()] if i < len(weights) - 1 else [])
    learnt = [m for m in layers if hasattr(m, "weight")]
    for m, (w, b) in zip(learnt, weights, strict=True):
        m.weight.data = t.from_numpy(w if w.ndim == 4 else w.T.copy())
        m.bias.data = t.from_numpy(b)
    net = t.nn.Sequential(*layers)
    optimizer = t.optim.SGD(net.parameters(), RATE)
    tx, ty = t.from_numpy(x), t.from_numpy(labels.astype(np.int64))

    def loss_of(a: Any, b: Any) -> Any:
        return t.nn.functional.cross_entropy(net(a), b)

    forward = t.compile(loss_of) if compiled else loss_of

    def step() -> float:
        optimizer.zero_grad()
        loss = forward(tx, ty)
        loss.backward()
        optimizer.step()
        return float(loss.item())

    return job(step)


def torch(case: Case, threads: int) -> Job:
    return _torch_step(case, threads, compiled=False)


def torch_compile(case: Case, threads: int) -> Job:
    return _torch_step(case, threads, compiled=True)


def jax(case: Case, threads: int) -> Job:
    import jax as j
    import jax.numpy as jnp

    x, labels, weights = parts(case)

    def loss_of(held: Any, a: Any, b: Any) -> Any:
        h = a
        for i, (w, bias) in enumerate(held):
            if w.ndim == 4:
                h = j.lax.conv_general_dilated(h, w, (1, 1), "VALID") + bias[:, None, None]
                h = j.lax.reduce_window(j.nn.relu(h), -jnp.inf, j.lax.max, (1, 1, 2, 2),
                                        (1, 1, 2, 2), "VALID")  # fmt: skip
            else:
                h = h.reshape(BATCH, -1) @ w + bias
                h = j.nn.relu(h) if i < len(held) - 1 else h
        rows = j.nn.log_softmax(h)
        return -jnp.take_along_axis(rows, b[:, None], 1).mean()

    def update(held: Any, a: Any, b: Any) -> Any:
        loss, slopes = j.value_and_grad(loss_of)(held, a, b)
        return loss, j.tree.map(lambda p, g: p - RATE * g, held, slopes)

    compiled = j.jit(update, donate_argnums=0)
    state = [[jnp.array(p) for p in pair] for pair in weights]
    jx, jy = jnp.array(x), jnp.array(labels)

    def step() -> float:
        nonlocal state
        loss, state = compiled(state, jx, jy)
        return float(loss)

    return job(step)
