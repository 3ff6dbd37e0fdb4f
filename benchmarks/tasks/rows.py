"""Kernels bound by memory or by elementary functions: rows with several reductions, a long sum.

Softmax and layer norm of rows, softmax cross-entropy with its gradient, the sum of ten million
floats. Rates count the tensors nobody can avoid to read or write, once each.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from job import Case, Job

PEERS = ("flowmill", "numpy", "torch", "torch.compile", "jax")
TARGET = 1.0
UNIT = "GB/s"
EPSILON = 1e-5


def cases(quick: bool, models: str) -> list[Case]:
    def case(kind: str, rows: int, columns: int, tensors: int) -> Case:
        name = f"{kind} {rows} x {columns}" if columns else f"{kind} of {rows:,}"
        size = rows * (columns or 1)
        return Case(name, 4.0 * tensors * size, 1e-5, {"kind": kind, "shape": [rows, columns]})

    found = [case("softmax", 512, 512, 2), case("softmax", 1536, 128, 2),
             case("softmax", 512, 1024, 2), case("layer norm", 512, 768, 2),
             case("cross-entropy", 256, 1024, 2), case("sum", 10_000_000, 0, 1)]  # fmt: skip
    return [found[k] for k in (0, 3, 5)] if quick else found


def operands(case: Case) -> tuple[Any, ...]:
    rng = np.random.default_rng(0)
    rows, columns = case.options["shape"]
    kind = case.options["kind"]
    if kind == "sum":  # positive, so that errors add up
        return (rng.random(rows, np.float32),)
    x = rng.standard_normal((rows, columns), np.float32)
    if kind == "layer norm":
        return x, rng.standard_normal(columns, np.float32), rng.standard_normal(columns, np.float32)
    return (x,) if kind == "softmax" else (x, rng.integers(0, columns, rows).astype(np.int32))


def flowmill(case: Case, threads: int) -> Job:
    import flowmill as fm

    arrays = operands(case)
    with fm.Graph() as graph:
        x, *rest = (fm.input(f"x{k}", a.shape, a.dtype) for k, a in enumerate(arrays))
        results: list[Any]
        if case.options["kind"] == "softmax":
            results = [fm.softmax(x)]
        elif case.options["kind"] == "layer norm":
            centred = x - fm.mean(x, -1, keepdims=True)
            variance = fm.mean(centred * centred, -1, keepdims=True)
            results = [centred * fm.rsqrt(variance + EPSILON) * rest[0] + rest[1]]
        elif case.options["kind"] == "sum":
            results = [fm.sum(x)]
        else:
            loss = fm.losses.sparse_softmax_cross_entropy(rest[0], x)
            results = [loss, *fm.gradients(loss, [x])]
    call = fm.Session(graph, threads=threads).make_callable(results, [x, *rest])
    out = [np.empty(y.shape, np.float32) for y in results]
    return Job(lambda: call(*arrays, out=out), lambda: out)


def numpy(case: Case, threads: int) -> Job:
    x, *rest = operands(case)
    kind = case.options["kind"]

    def run() -> list[Any]:
        if kind == "sum":
            return [x.sum()]
        if kind == "layer norm":
            centred = x - x.mean(-1, keepdims=True)
            variance = np.mean(centred * centred, -1, keepdims=True)
            return [centred / np.sqrt(variance + np.float32(EPSILON)) * rest[0] + rest[1]]
        e = np.exp(x - x.max(-1, keepdims=True))
        total = e.sum(-1, keepdims=True)
        if kind == "softmax":
            return [e / total]
        at = np.arange(len(x)), rest[0]
        slope = e / total
        loss = -np.log(slope[at]).mean()
        slope[at] -= 1
        return [loss, slope / np.float32(len(x))]

    return Job(run, lambda: [np.asarray(a) for a in run()])


def _torch(case: Case, threads: int, compiled: bool) -> Job:
    import torch as t

    t.set_num_threads(threads)
    kind = case.options["kind"]
    x, *rest = (t.from_numpy(a) for a in operands(case))
    functional = t.nn.functional

    def forward(x: Any, *rest: Any) -> Any:
        if kind == "softmax":
            return t.softmax(x, -1)
        if kind == "layer norm":
            return functional.layer_norm(x, x.shape[-1:], *rest, EPSILON)
        return t.sum(x)

    def loss_of(x: Any, label: Any) -> Any:
        return functional.cross_entropy(x, label)

    chosen = loss_of if kind == "cross-entropy" else forward
    made = t.compile(chosen) if compiled else chosen
    if kind == "cross-entropy":
        x.requires_grad_()
        rest = [rest[0].long()]

    def run() -> list[Any]:
        if kind == "cross-entropy":
            loss = made(x, *rest)
            return [loss.detach(), *t.autograd.grad(loss, [x])]
        with t.no_grad():
            return [made(x, *rest)]

    return Job(run, lambda: [a.numpy() for a in run()])


def torch(case: Case, threads: int) -> Job:
    return _torch(case, threads, compiled=False)


def torch_compile(case: Case, threads: int) -> Job:
    return _torch(case, threads, compiled=True)


def jax(case: Case, threads: int) -> Job:
    import jax as j
    import jax.numpy as jnp

    kind = case.options["kind"]
    arrays = [jnp.array(a) for a in operands(case)]

    def loss_of(x: Any, label: Any) -> Any:
        return -jnp.take_along_axis(j.nn.log_softmax(x), label[:, None], 1).mean()

    def layer_norm(x: Any, gamma: Any, beta: Any) -> Any:
        centred = x - x.mean(-1, keepdims=True)
        variance = (centred * centred).mean(-1, keepdims=True)
        return centred * j.lax.rsqrt(variance + EPSILON) * gamma + beta

    made = {"softmax": j.nn.softmax, "layer norm": layer_norm, "sum": jnp.sum,
            "cross-entropy": j.value_and_grad(loss_of)}[kind]  # fmt: skip
    compiled = j.jit(made)

    def run() -> list[Any]:
        done = j.block_until_ready(compiled(*arrays))
        return list(done) if kind == "cross-entropy" else [done]

    return Job(run, lambda: [np.asarray(a) for a in run()])
