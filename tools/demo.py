"""`flowmill demo`: the main job from end to end on real data, in under a minute.

Trains a small convolutional network on the 1,797 handwritten digits that ship with the package,
runs it in a session, draws it, exports it with its training step and calls the library. In: a
folder to write to. Out: `libdigits.so`, `libdigits.h`, `graph.svg`, `loss.svg`, `digits.fm`.
"""

from __future__ import annotations

import time
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

import numpy as np

from ..data.digits import load_digits
from ..dtypes import Array
from ..errors import ExportError, InternalError
from ..graph import optimizers, schedules
from ..graph.definition import Graph, input, named, output
from ..graph.formats.flowmill import save
from ..graph.layers import catalogue as layers
from ..graph.layers.mode import training
from ..graph.layers.output import sparse_softmax_cross_entropy
from ..graph.module import Module
from ..graph.ops.reduce import argmax
from ..graph.sequential import Sequential
from ..runtime.library import load
from ..runtime.session import Session
from .feeds import at_least
from .picture.curve import curve
from .terminal import progress

SUMMARY = "train a network on digits, export it, look at it"
EXAMPLES = """\
  flowmill demo
  flowmill demo --folder /tmp/digits --epochs 20
"""
BATCH = 32
EPOCHS = 12


def configure(parser: ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("--folder", type=Path, default=Path("flowmill-demo"),
                        help="where to write (default: ./flowmill-demo)")  # fmt: skip
    parser.add_argument("--epochs", type=at_least(1), default=EPOCHS, help=f"default: {EPOCHS}")


def digits(steps: int = EPOCHS * 45) -> Graph:
    """The graph: "image" [batch, 1, 8, 8] and "label"; "logits", "predicted" and "train"."""
    with Graph("digits") as graph:
        image = input("image", ("batch", 1, 8, 8))
        label = input("label", ("batch",), "int32")
        network = Sequential([
            layers.Conv2D(16, 3, padding="same", activation="relu"),
            layers.Conv2D(32, 3, padding="same", activation="relu"), layers.MaxPool2D(2),
            layers.Flatten(), layers.Dense(64, activation="relu"), layers.Dense(10),
        ])  # fmt: skip
        logits = output("logits", network(image))
        named(argmax(logits, axis=1), "predicted")
        with training():
            loss = sparse_softmax_cross_entropy(label, network(image))
        rate = schedules.cosine(3e-3, steps)
        named(optimizers.Adam(rate).minimize(loss), "train")
    return graph


def command(args: Namespace) -> int:
    """Runs the demo."""
    folder: Path = args.folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise ExportError(f"cannot write to {folder}: {e.strerror}",
                          "choose another folder: --folder PATH") from None  # fmt: skip
    begin = time.monotonic()
    train_images, train_labels, test_images, test_labels = load_digits()
    graph = digits(args.epochs * (len(train_images) // BATCH + 1))
    session = Session(graph)
    losses = _train(session, train_images, train_labels, args.epochs)
    found = session.run("predicted", {"image": test_images})
    print(f"test accuracy: {np.mean(found == test_labels):.1%}")
    paths = _leave(graph, session, folder, losses)
    _compare(session, paths[0], test_images)
    print(f"done in {time.monotonic() - begin:.0f} s; what was written:")
    for path in paths:
        print(f"  {path}")
    print("next:")
    print(f"  flowmill dump {folder}/digits.fm --stage fuse")
    print(f"  flowmill profile {folder}/digits.fm --random --dim batch=32")
    print(f"  less {folder}/libdigits.h")
    return 0


def _train(session: Session, images: Array, labels: Array, epochs: int) -> list[float]:
    """The loss of every step. The order of examples is the same in every run."""
    step = session.make_callable("train", ["image", "label"])
    generator = np.random.default_rng(0)
    losses: list[float] = []
    with progress("training") as say:
        for epoch in range(epochs):
            order = generator.permutation(len(images))
            for k in range(0, len(order), BATCH):
                pick = order[k : k + BATCH]
                losses.append(float(step(images[pick], labels[pick])))
            say(f"epoch {epoch + 1} of {epochs}, loss {losses[-1]:.4f}")
    return losses


def _leave(graph: Graph, session: Session, folder: Path, losses: list[float]) -> list[Path]:
    """Writes the library, the pictures and the model."""
    from .. import target
    from ..exporter import export
    from ..runtime.session import function_for
    from .dump import graph_picture
    from .stages import collect

    module = Module(graph, infer="logits", train_step="train")
    written = export(module, folder / "libdigits.so", variables=session)
    logits = graph.outputs["logits"]
    function = function_for(graph, [logits], [graph.inputs["image"]], "digits")
    fused = collect(function, target.host(), wanted=("fuse",)).after("fuse")
    texts = {"graph.svg": graph_picture(fused), "loss.svg": curve(losses, "loss", "step")}
    for name, text in texts.items():
        path = folder / name
        path.write_text(text)
        written.append(path)
    save(graph, folder / "digits.fm", session.variables)
    return [*written, folder / "digits.fm"]


def _compare(session: Session, library: Path, images: Array) -> None:
    """The library must give the session's bits."""
    shipped: Any = load(library)
    expected = session.run("logits", {"image": images})
    if not np.array_equal(shipped.infer(image=images), expected):
        raise InternalError(f"{library} and the session differ")
    print(f"{library.name}, called without the compiler: the same bits as the session")
