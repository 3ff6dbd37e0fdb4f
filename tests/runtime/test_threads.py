"""Sessions in several Python threads, in forked children, and taking turns on variables."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor

import flowmill as fm
import numpy as np
import pytest
from flowmill.graph.definition import Graph
from flowmill.runtime.state import State


def network():
    with Graph() as g:
        x = fm.input("x", ("batch", 64))
        h = fm.relu(fm.layers.Dense(128)(x))
        y = fm.named(fm.layers.Dense(10)(h), "y")
        loss = fm.mean(y**2)
        fm.named(fm.optimizers.SGD(0.01).minimize(loss), "train")
    return g


DATA = np.random.default_rng(0).standard_normal((96, 64)).astype(np.float32)


def test_one_session_in_many_threads():
    session = fm.Session(network(), threads=2)
    sizes = [1, 7, 32, 96] * 8
    expected = {n: fm.Session(session.graph, threads=1).run("y", {"x": DATA[:n]}).tobytes()
                for n in set(sizes)}  # fmt: skip
    call = session.make_callable("y", "x")
    with ThreadPoolExecutor(8) as pool:
        ran = pool.map(lambda n: session.run("y", {"x": DATA[:n]}).tobytes(), sizes * 4)
        called = pool.map(lambda n: call(DATA[:n]).tobytes(), sizes * 4)
        assert list(ran) == list(called) == [expected[n] for n in sizes * 4]


def test_many_sessions_in_many_threads():
    graphs = [network() for _ in range(3)]
    sessions = [fm.Session(g, threads=t) for g in graphs for t in (1, 2, 3)]
    expected = fm.Session(graphs[0], threads=1).run("y", {"x": DATA}).tobytes()
    with ThreadPoolExecutor(6) as pool:
        ran = pool.map(lambda s: s.run("y", {"x": DATA}).tobytes(), sessions * 10)
        assert set(ran) == {expected}


def test_inference_beside_training_sees_whole_steps():
    """Every result comes from variables as they are between two training steps."""
    session, alone = (fm.Session(network(), threads=2) for _ in range(2))
    steps, small = 60, DATA[:5]
    allowed = [alone.run("y", {"x": small}).tobytes()]
    for _ in range(steps):
        alone.run("train", {"x": DATA})
        allowed.append(alone.run("y", {"x": small}).tobytes())
    stop = threading.Event()
    infer = session.make_callable("y", "x")

    def watch():
        seen = []
        while not stop.is_set():
            seen.append(infer(small).tobytes())
        return seen

    with ThreadPoolExecutor(3) as pool:
        watching = [pool.submit(watch) for _ in range(3)]
        train = session.make_callable("train", "x")
        for _ in range(steps):
            train(DATA)
        stop.set()
        for seen in watching:
            places = [allowed.index(bits) for bits in seen.result()]
            assert places == sorted(places)
    final = {n: a.tobytes() for n, a in session.variables.items()}
    assert final == {n: a.tobytes() for n, a in alone.variables.items()}


def test_training_in_many_threads_loses_no_step():
    with Graph() as g:
        x = fm.input("x", ("n",))
        count = fm.variable("count", np.int64(0))
        total = fm.variable("total", np.zeros(3, np.float32))
        step = [fm.assign(count, count + 1), fm.assign(total, total + fm.sum(x))]
    session = fm.Session(g, threads=2)
    call = session.make_callable(step, "x")
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda _: call(np.ones(4, np.float32)), range(300)))
        list(pool.map(lambda _: session.run(step, {"x": np.ones(4, np.float32)}), range(100)))
    assert session.get("count") == 400
    assert session.get("total").tolist() == [1600.0] * 3


def in_child(work):
    """What `work()` returns in a forked child, as text."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(write, str(work()).encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as f:
        text = f.read().decode()
    os.waitpid(child, 0)
    return text


@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
def test_a_forked_child_runs_on():
    session = fm.Session(network(), threads=2)
    for _ in range(3):
        session.run("train", {"x": DATA})
    expected = session.run("y", {"x": DATA}).tobytes().hex()
    assert in_child(lambda: session.run("y", {"x": DATA}).tobytes().hex()) == expected

    def train_and_compile():
        session.run("train", {"x": DATA})
        return session.run(["y", "x"], {"x": DATA[:3]})[0].tobytes().hex()

    found = in_child(train_and_compile)
    assert session.run("y", {"x": DATA}).tobytes().hex() == expected, (
        "the child's variables are its own"
    )
    assert train_and_compile() == found


@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
def test_a_child_forked_in_the_middle_of_a_turn_runs_on():
    session = fm.Session(network(), threads=1)
    expected = session.run("y", {"x": DATA}).tobytes().hex()
    session.state.begin_write()
    try:
        assert in_child(lambda: session.run("y", {"x": DATA}).tobytes().hex()) == expected
    finally:
        session.state.end_write()


def test_turns_exclude_writers_and_only_writers():
    state = State([("a", np.zeros(1))])
    inside: list[str] = []
    wrong: list[str] = []
    busy = threading.Lock()

    def work(kind, begin, end):
        for _ in range(300):
            begin()
            with busy:
                inside.append(kind)
                if "w" in inside and len(inside) > 1:
                    wrong.append(str(inside))
            with busy:
                inside.remove(kind)
            end()

    turns = [("r", state.begin_read, state.end_read)] * 4 + [
        ("w", state.begin_write, state.end_write)
    ] * 2
    threads = [threading.Thread(target=work, args=turn) for turn in turns]
    for t in threads:
        t.start()
    for t in threads:
        t.join(60)
    assert not any(t.is_alive() for t in threads) and not wrong
    state.begin_read()
    state.begin_read()  # readers share
    state.end_read()
    state.end_read()
