"""Profiles: every kernel is timed, costs are the graph's, readings are in order."""

from __future__ import annotations

import flowmill as fm
import numpy as np
import pytest
from flowmill.errors import ConfigError, FeedError
from flowmill.runtime.profile import Profile, duration, profile, seconds_per_tick, table


@pytest.fixture
def session(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> fm.Session:
    with fm.Graph("net") as g:
        x = fm.input("x", ("batch", 64))
        with g.scope("one"):
            h = x @ fm.variable("w", np.full((64, 64), 0.01, "f"))
        with g.scope("two"):
            y = fm.sum(h * h, axis=0)
        fm.output("y", y)
        count = fm.variable("count", np.zeros(3, "f"))
        fm.named(fm.assign(count, count + 1), "step")
    return fm.Session(g, threads=1)


FEEDS = {"x": np.ones((32, 64), np.float32)}


def measured(session: fm.Session) -> Profile:
    return profile(*session.bound(["y"], FEEDS), steps=3, warmup=1)


def test_every_launch_has_a_row(session: fm.Session) -> None:
    p = measured(session)
    assert [r.loc.layer for r in p.rows] == ["one", "two", "two"]  # sums of blocks, and their sum
    assert p.rows[0].label.startswith("matmul")
    assert p.rows[0].flops >= 2 * 32 * 64 * 64
    assert p.rows[0].source == 'h = x @ fm.variable("w", np.full((64, 64), 0.01, "f"))'
    assert all(r.seconds > 0 and r.gbytes > 0 for r in p.rows)
    assert p.busy > 0
    assert sum(p.share(r) for r in p.rows) == pytest.approx(1)
    assert p.seconds < p.call
    assert p.dims == {"batch": 32}


def test_the_session_is_as_before(session: fm.Session) -> None:
    before = session.run("y", FEEDS)
    executable, _ = session.bound(["y"], FEEDS)
    measured(session)
    assert executable.clock is None
    np.testing.assert_array_equal(session.run("y", FEEDS), before)
    np.testing.assert_array_equal(executable.run([FEEDS["x"]])[0], before)


def test_variables_are_updated_as_by_any_run(session: fm.Session) -> None:
    profile(*session.bound(["step"], {}), steps=4, warmup=2)
    assert session.get("count").tolist() == [6, 6, 6]


def test_layers_add_up(session: fm.Session) -> None:
    p = measured(session)
    layers = p.by_layer()
    assert [r.label for r in layers] == ["one", "two"]
    assert sum(r.flops for r in layers) == p.flops
    slowest = table(p, "time", 1)
    assert len(slowest) == 3
    assert slowest[1][4] == max(p.rows, key=lambda r: r.seconds).kernel


def test_several_small_kernels_of_one_phase_are_timed_apart() -> None:
    with fm.Graph("net") as g:
        x = fm.input("x", (64,))
        for k in range(5):
            fm.output(f"y{k}", fm.sum(fm.maximum(x - k, 0)))
    session = fm.Session(g, threads=1)
    executable, inputs = session.bound(None, {"x": np.ones(64, np.float32)})
    clock = executable.start_clock()
    executable.run(inputs)
    assert len(executable.manifest.steps) > 1
    assert len({s.phase for s in executable.manifest.steps}) == 1
    assert clock.size == 2 * len(executable.manifest.steps) + 2
    assert (clock[2::2] >= 0).all() and (clock[3::2] == 1).all()
    assert clock[0] - clock[1] >= clock[2::2].sum() > 0


def test_wrong_arguments(session: fm.Session) -> None:
    with pytest.raises(ConfigError, match="one step or more"):
        profile(*session.bound(["y"], FEEDS), steps=0)
    with pytest.raises(FeedError):
        profile(*session.bound(["y"], {}))


def test_durations_and_the_clock() -> None:
    assert [duration(s) for s in (2.5, 0.0123, 4.56e-6, 3e-8)] == ["2.5 s", "12.3 ms", "4.56 us",
                                                                    "30 ns"]  # fmt: skip
    assert 1e-11 < seconds_per_tick() < 1e-6
