"""Sessions: structures of fetches, feeds, variables, messages."""

from __future__ import annotations

import re
from collections import namedtuple

import flowmill as fm
import numpy as np
import pytest
from flowmill.graph.definition import Graph

A = np.arange(6, dtype=np.float32).reshape(2, 3)


def line(text: str) -> str:
    """`file:number` of the line of this file that ends with `# text`."""
    with open(__file__) as f:
        for k, found in enumerate(f, 1):
            if found.rstrip().endswith(f"# {text}"):
                return f"test_session.py:{k}"
    raise LookupError(text)


class Net:
    """A graph with a bit of everything."""

    def __init__(self):
        with Graph() as self.g:
            self.x = fm.input("x", ("batch", 3))  # input x
            self.n = fm.input("n", (), "int32")  # input n
            self.w = fm.variable("w", np.ones((3, 2), np.float32))
            self.count = fm.variable("count", np.int64(5))
            self.h = fm.named(self.x * 2, "h")
            self.y = fm.output("y", self.h @ self.w)
            self.z = fm.output("z", self.h + fm.cast(self.n, "float32"))
            self.step = fm.assign(self.count, self.count + 1)
        self.session = fm.Session(self.g, threads=2)


@pytest.fixture
def net():
    return Net()


def test_every_structure_of_fetches(net):
    run, feeds = net.session.run, {net.x: A, "n": 1}
    h, z = A * 2, A * 2 + 1
    np.testing.assert_array_equal(run(net.h, feeds), h)
    np.testing.assert_array_equal(run("h", feeds), h)
    both = run([net.h, "z"], feeds)
    assert type(both) is list
    np.testing.assert_array_equal(both[1], z)
    assert type(run((net.h,), feeds)) is tuple
    pair = namedtuple("pair", "a b")
    named = run(pair(net.h, net.z), feeds)
    assert type(named) is pair
    np.testing.assert_array_equal(named.b, z)
    deep = run({"a": net.h, 7: [net.z, {"b": (net.h, net.x)}]}, feeds)
    assert list(deep) == ["a", 7]
    np.testing.assert_array_equal(deep[7][1]["b"][1], A)
    everything = run(None, feeds)
    assert list(everything) == ["y", "z"]
    np.testing.assert_array_equal(everything["y"], h @ np.ones((3, 2)))
    again = run([net.h, net.h], feeds)
    np.testing.assert_array_equal(again[0], again[1])


def test_outputs_declared_later_are_among_all_outputs(net):
    feeds = {"x": A, "n": 1}
    assert list(net.session.run(None, feeds)) == ["y", "z"]
    with net.g:
        fm.output("late", net.h + 1)
    assert list(net.session.run(None, feeds)) == ["y", "z", "late"]


def test_inputs_constants_and_variables_can_be_fetched(net):
    with net.g:
        c = fm.constant(np.arange(4, dtype=np.int16))
    x, got_c, w = net.session.run([net.x, c, net.w], {net.x: A})
    np.testing.assert_array_equal(x, A)
    assert x is not A
    np.testing.assert_array_equal(got_c, np.arange(4))
    w[:] = 9  # a copy
    np.testing.assert_array_equal(net.session.get("w"), np.ones((3, 2)))


def test_intermediate_values_can_be_fed(net):
    with net.g:
        checked = fm.check(net.x, net.x < 0, "negative")
        token = fm.assign(net.count, net.count * 100)
        t = fm.named(checked * fm.cast(token, "float32"), "t")
        u = t + 1
    run = net.session.run
    np.testing.assert_array_equal(run(net.y, {net.h: A}), A @ np.ones((3, 2)))
    np.testing.assert_array_equal(
        run(net.y, {"h": A, "w": np.zeros((3, 2), "f")}), np.zeros((2, 2))
    )
    # what only `t` needs is not needed: neither x, nor the check, nor the assignment
    np.testing.assert_array_equal(run(u, {t: A}), A + 1)
    assert net.session.get("count") == 5
    np.testing.assert_array_equal(run([t, u], {t: A})[0], A)
    with pytest.raises(fm.FeedError, match="cannot be fed"):
        run(net.step, {net.count: 3})


def test_feeds_in_any_order_and_feeds_nobody_needs(net):
    first = net.session.run(net.z, {"x": A, "n": 2})
    second = net.session.run(net.z, {"n": 2, "x": A})
    assert first.tobytes() == second.tobytes()
    assert len(net.session._executables) == 1
    np.testing.assert_array_equal(net.session.run(net.h, {"n": 2, "x": A}), A * 2)
    with pytest.raises(fm.FeedError, match=r'"n" has shape \[\]'):
        net.session.run(net.h, {"n": np.zeros(3, np.int32), "x": A})


def test_updates_and_what_a_run_sees_of_them(net):
    token, before, after = net.session.run([net.step, net.count, net.count + 0])
    assert (before, after, token) == (5, 5, 6)
    assert net.session.get(net.count) == 6
    assert net.session.run(net.count) == 6
    net.session.run([net.step, net.step])
    assert net.session.get("count") == 7


def test_an_optimizer_made_after_the_session(net):
    with net.g:
        loss = fm.mean((net.y - 1) ** 2)
        train = fm.optimizers.Adam(0.1).minimize(loss)
        extra = fm.variable("extra", [1.0, 2.0])
    net.session.set("extra", [3.0, 4.0])
    np.testing.assert_array_equal(net.session.run(extra), [3, 4])
    assert set(net.session.variables) == set(net.g.variables)
    losses = [net.session.run([train, loss], {net.x: A})[1] for _ in range(30)]
    assert losses[-1] < losses[0] / 2
    w0 = net.session.get("w")
    w, _ = net.session.run([net.w, train], {"x": A})
    np.testing.assert_array_equal(w, w0)
    assert (net.session.get("w") != w0).any()


def test_callables(net):
    call = net.session.make_callable([net.h, net.z], [net.n, net.x])
    for _ in range(3):
        z = call(np.int32(3), A)[1]
        np.testing.assert_array_equal(z, A * 2 + 3)
    out = [np.empty((2, 3), np.float32), None]
    assert call(np.array(4, np.int32), A, out=out)[0] is out[0]
    np.testing.assert_array_equal(out[0], A * 2)
    single = net.session.make_callable(net.h, net.x)
    for k in (2, 1, 2):
        np.testing.assert_array_equal(single(A[:k]), A[:k] * 2)
    mine = np.empty((2, 3), np.float32)
    assert single(A, out=mine) is mine
    for out in (mine[::-1], mine.T, mine[:1], [mine]):
        with pytest.raises(fm.FeedError, match="must be a writable, contiguous float32"):
            single(A, out=out)
    with pytest.raises(fm.FeedError, match="shares memory"):
        single(mine, out=mine)
    with pytest.raises(fm.FeedError, match="1 arrays are needed, 2 were given"):
        single(A, A)
    with pytest.raises(fm.FeedError, match=r'"n" .* is not fed'):
        net.session.make_callable(net.z, net.x)
    everything = net.session.make_callable(None, ["x", "n"])
    assert list(everything(A, 1)) == ["y", "z"]


def test_out(net):
    feeds, mine = {"x": A, "n": 1}, np.empty((2, 3), np.float32)
    for _ in range(2):
        mine[:] = 0
        assert net.session.run(net.h, feeds, out=mine) is mine
        np.testing.assert_array_equal(mine, A * 2)
    got = net.session.run({"a": net.h, "b": net.z}, feeds, out={"a": mine})
    assert got["a"] is mine
    with pytest.raises(fm.FeedError, match="shares memory"):
        net.session.run(net.h, {"x": mine}, out=mine)
    with pytest.raises(fm.FeedError, match="into two arrays"):
        net.session.run([net.h, net.h], feeds, out=[mine, mine.copy()])
    with pytest.raises(fm.FeedError, match="must be a writable, contiguous float32"):
        net.session.run(net.h, feeds, out=np.empty((2, 3)))
    with pytest.raises(fm.FeedError, match="out must be a list of 2"):
        net.session.run([net.h, net.z], feeds, out=[mine])


def test_all_bad_feeds_at_once_with_their_lines(net):
    with pytest.raises(fm.FeedError) as caught:
        net.session.run(net.z, {"x": np.zeros((2, 4)), "h2": A})
    text = str(caught.value)
    for part in ('nothing is named "h2" to feed (did you mean h', f'"n" (i32[], {line("input n")}) is not fed',
                 f'"x" takes float32, it was fed float64: use .astype("float32") ({line("input x")})',
                 f'"x" has shape [batch,3], it was fed shape [2, 4] ({line("input x")})'):  # fmt: skip
        assert part in text, text
    with pytest.raises(fm.FeedError) as caught:
        net.session.run(net.z, {"x": np.zeros((2, 4), "f"), "n": 1.5})
    text = str(caught.value)
    assert f'"x" has shape [batch,3], it was fed shape [2, 4] ({line("input x")})' in text
    assert f'"n" takes int32, it was fed float64 ({line("input n")})' in text


@pytest.mark.parametrize(
    ("fetch", "feeds", "error", "message"),
    [
        ("hh", {}, fm.FetchError, 'no value is named "hh".*did you mean h'),
        (3, {}, fm.FetchError, "cannot fetch 3"),
        ([], {}, fm.FetchError, "nothing is fetched"),
        ([None], {}, fm.FetchError, "cannot fetch None"),
        ({1, 2}, {}, fm.FetchError, "cannot fetch {1, 2}"),
        (["y", object], {}, fm.FetchError, "cannot fetch <class 'object'>"),
        ("h", {}, fm.FeedError, '"x" .* is not fed'),
        ("h", ["x"], fm.FeedError, "feeds must be a dict, not list"),
        ("h", {3: A}, fm.FeedError, "cannot feed 3"),
        ("h", {"x": np.zeros((0, 3), "f")}, fm.FeedError,
         'dimension "batch" must be at least 1, the feeds make it 0'),
        ("h", {"x": "text"}, fm.FeedError, '"x" takes float32, it was fed <U4'),
        ("h", {"x": [[1, 2, 3], [4, 5]]}, fm.FeedError, '"x" cannot be made an array'),
        ("h", {"x": None}, fm.FeedError, '"x" takes float32, it was fed object'),
        ("h", {"x": np.zeros((2, 3), ">f4")}, fm.FeedError, '"x" takes float32, it was fed >f4'),
        ("n", {"n": 2**40}, fm.FeedError, '"n" takes int32, which cannot hold 1099511627776'),
        ("n", {"n": float("nan")}, fm.FeedError, '"n" takes int32, it was fed float64'),
    ],
)  # fmt: skip
def test_messages(net, fetch, feeds, error, message):
    with pytest.raises(error, match=re.compile(message, re.DOTALL)):
        net.session.run(fetch, feeds)
    np.testing.assert_array_equal(net.session.run("h", {"x": A}), A * 2)  # goes on


def test_values_of_other_graphs_are_refused(net):
    other = Net()
    with pytest.raises(fm.FetchError, match="belongs to another graph"):
        net.session.run(other.h, {"x": A})
    with pytest.raises(fm.FeedError, match="belongs to another graph"):
        net.session.run(net.h, {other.x: A})
    with pytest.raises(fm.FeedError, match="fed twice"):
        net.session.run(net.h, {net.x: A, "x": A})
    with pytest.raises(fm.FetchError, match="the graph declares no outputs"):
        fm.Session(Graph()).run()
    with pytest.raises(fm.FetchError, match=r'no variable "coumt".*\n.*did you mean count'):
        net.session.get("coumt")
    with pytest.raises(fm.FetchError, match="is not a variable"):
        net.session.set(net.h, 1)
    with pytest.raises(fm.FeedError, match=r'"w" has shape \[3, 2\], given \[2\]'):
        net.session.set("w", [1, 2])


def test_arrays_in_any_order_in_memory(net):
    wide = np.arange(24, dtype=np.float32).reshape(4, 6)
    raw = np.zeros(6 * 4 + 1, np.uint8)[1:].view(np.float32).reshape(2, 3)
    for given in (wide[::2, ::2], wide[:3, :2].T, wide[::-1, 3:], raw, A.tolist(), A):
        np.testing.assert_array_equal(net.session.run(net.h, {"x": given}), np.asarray(given) * 2)


def test_empty_tensors_and_batches_of_zero():
    with Graph() as g:
        x = fm.input("x", (fm.dim("n", min=0), 3))
        w = fm.constant(np.ones((3, 4), np.float32))
        e = fm.input("e", (0, 3))
        rows = [x * 2, x @ w, fm.sum(x, axis=1), fm.softmax(x, axis=1), fm.concat([x, x], axis=1)]
        whole = [fm.sum(x), fm.sum(x, axis=0), fm.sum(e), fm.sum(e, axis=0), e + 1, e @ w,
                 fm.concat([e, e * 2], axis=0), fm.transpose(e, (1, 0))]  # fmt: skip
    none, empty = np.zeros((0, 3), np.float32), np.zeros((0, 3), np.float32)
    for level in (0, 2):
        session = fm.Session(g, threads=2, level=level)
        for made in session.run(rows, {x: none}):
            assert made.size == 0 and made.shape[0] == 0
        total, columns, *rest = session.run(whole, {x: none, e: empty})
        assert total == 0 and columns.tolist() == [0, 0, 0]
        assert rest[0] == 0 and rest[1].tolist() == [0, 0, 0]
        assert [r.shape for r in rest[2:]] == [(0, 3), (0, 4), (0, 3), (3, 0)]


def test_print_and_check(net, capfd):
    with net.g:
        shown = fm.print(net.h, "h is")
        total = fm.print(fm.sum(shown), "sum")
        good = fm.check(total, total > 0, "the sum must be positive")  # check
        both = fm.assign(net.count, net.count + fm.cast(good * 0 + 1, "int64"))
    for level in (0, 2):
        session = fm.Session(net.g, threads=1, level=level)
        call = session.make_callable(both, "x")
        for k in range(2):
            assert call(A) == 6 + k
            assert capfd.readouterr().out == "h is: [[ 0.  2.  4.]\n [ 6.  8. 10.]]\nsum: 30.0\n"
        with pytest.raises(fm.RunError) as caught:
            call(-A)
        assert "the sum must be positive: check failed" in str(caught.value)
        assert line("check") in str(caught.value)
        assert "sum: -30.0" in capfd.readouterr().out
        assert session.get("count") == 7


def test_eval(net):
    np.testing.assert_array_equal(net.y.eval({net.x: A}), A * 2 @ np.ones((3, 2)))
    np.testing.assert_array_equal(net.h.eval({"x": A}), A * 2)


def test_results_whose_sizes_are_expressions() -> None:
    """No input has their size, so the fast call leaves them to the slow one, at every run."""
    with fm.Graph() as g:
        x = fm.input("x", ("n", 2))
        longer, wider = fm.concat([x, x[:1]]), fm.reshape(fm.concat([x, x], 0), (-1, 4))
    session = fm.Session(g)
    call, both = session.make_callable(longer, [x]), session.make_callable([longer, wider], [x])
    for n in (3, 3, 5, 3):
        rows = np.arange(2 * n, dtype=np.float32).reshape(n, 2)
        for made in (session.run(longer, {x: rows}), call(rows), both(rows)[0]):
            np.testing.assert_array_equal(made, np.concatenate([rows, rows[:1]]))
