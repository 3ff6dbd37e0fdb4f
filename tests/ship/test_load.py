"""Exported libraries in Python: `fm.load`, weights in three places, errors, atomic writing."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import flowmill as fm
import numpy as np
import pytest
from elftools.elf.elffile import ELFFile
from flowmill import exporter
from flowmill.codegen import cpu_check, weights_image
from flowmill.dtypes import as_dtype
from flowmill.target import host, named

from .conftest import FLAGS, Shipped, data, network, run

X, T = data()


def steps(session: fm.Session, module: fm.Module, count: int) -> list[Any]:
    y, loss = module.functions["infer"].outputs[0][1], module.functions["train_step"].outputs[0][1]
    return [(session.run(y, {"x": X[: 3 + k]}), session.run(loss, {"x": X, "t": T}))
            for k in range(count)]  # fmt: skip


def same(a: Any, b: Any) -> bool:
    return np.asarray(a).tobytes() == np.asarray(b).tobytes()


@pytest.mark.parametrize("threads", [1, 3])
def test_loaded_library_has_the_session_s_bits(shipped: Shipped, threads: int) -> None:
    wanted = steps(shipped.new_session(), shipped.module, 4)
    with fm.load(shipped.library, threads=threads) as lib:
        for k, (y, loss) in enumerate(wanted):
            assert same(lib.infer(x=X[: 3 + k]), y)
            assert same(lib.train_step(X, T), loss)


def test_loading_needs_no_compiler(shipped: Shipped) -> None:
    """In a process where llvmlite, networkx and safetensors cannot be imported."""
    script = f"""
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("llvmlite", "networkx", "safetensors", "graphviz", "onnx"):
            raise ImportError(name)
sys.meta_path.insert(0, Blocked())
import numpy as np
import flowmill as fm
lib = fm.load({str(shipped.library)!r})
x = np.linspace(0, 1, 40, dtype="f").reshape(2, 20)
print(lib.infer(x=x).tobytes().hex())
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    x = np.linspace(0, 1, 40, dtype="f").reshape(2, 20)
    assert done.stdout.strip() == shipped.new_session().run("pred", {"x": x}).tobytes().hex()


def test_variables(shipped: Shipped) -> None:
    session = shipped.new_session()
    with fm.load(shipped.library) as lib:
        first = lib.variables
        assert list(first) and all(same(first[k], session.get(k)) for k in first)
        image = lib.save_state()
        lib.train_step(x=X, t=T)
        assert not same(lib.get("out/w"), first["out/w"])
        lib.load_state(image)
        assert all(same(lib.get(k), first[k]) for k in first)
        lib.set("hidden/b", np.ones(16))
        session.set("hidden/b", np.ones(16))
        assert same(lib.infer(X), session.run("pred", {"x": X}))
        lib.reset()
        assert all(same(lib.get(k), first[k]) for k in first)
        with pytest.raises(fm.FetchError, match="no variable"):
            lib.get("nope")
        with pytest.raises(fm.FeedError, match="hidden/b"):
            lib.set("hidden/b", np.ones(15))


def test_prepared_values_follow_their_variables(tmp_path: Path) -> None:
    """Weights that inference packs once are packed again after training steps and writes."""
    with fm.Graph() as g:
        x, t = fm.input("x", ("batch", 256)), fm.input("t", ("batch", 256))
        w = fm.variable("w", np.random.default_rng(1).normal(0, 0.1, (256, 256)).astype("f"))
        y = x @ w
        step = fm.optimizers.SGD(0.1).minimize(fm.mean((y - t) * (y - t)))
    fm.export(fm.Module(g, infer={"y": y}, step=step), tmp_path / "libwide.so")
    session = fm.Session(g)
    feeds = np.random.default_rng(2).normal(0, 1, (2, 33, 256)).astype("f")
    with fm.load(tmp_path / "libwide.so") as lib:
        program = lib.functions["infer"]
        assert program.has_prepare and program.prepared_bytes >= w.type.nbytes
        for _ in range(3):
            assert same(lib.infer(feeds[0]), session.run(y, {x: feeds[0]}))
            lib.step(*feeds)
            session.run(step, {x: feeds[0], t: feeds[1]})
        for place in (lib, session):
            place.set("w", np.eye(256, dtype="f"))
        assert same(lib.infer(feeds[0]), feeds[0])
        lib.reset()
        assert same(lib.infer(feeds[0]), fm.Session(g).run(y, {x: feeds[0]}))


def test_states_are_safetensors(shipped: Shipped, tmp_path: Path) -> None:
    from safetensors.numpy import load, save, save_file

    with fm.load(shipped.library) as lib:
        lib.train_step(X, T)
        values = load(lib.save_state())
        assert all(same(values[k], lib.get(k)) for k in lib.variables) and len(values) == 5
        other = {k: np.full_like(v, 0.25) for k, v in values.items()}
        other["sgd/step"] = np.array(7)
        save_file(other, tmp_path / "w.safetensors", metadata={"epoch": "3"})
        lib.restore(tmp_path / "w.safetensors")
        assert all(same(lib.get(k), other[k]) for k in other)
        lib.save(tmp_path / "mine.safetensors")
        for bad in ({**other, "more": np.ones(3)}, {k: v for k, v in other.items() if k != "out/b"},
                    {**other, "out/b": np.ones(4)}, {**other, "out/b": np.ones((1, 4), "f")}):  # fmt: skip
            with pytest.raises(fm.CheckpointError):
                lib.load_state(save(bad))
        raw = save(other)
        for cut in (0, 7, 8, 40, len(raw) - 1):
            with pytest.raises((fm.CheckpointError, fm.FeedError)):
                lib.load_state(raw[:cut])
        assert all(same(lib.get(k), other[k]) for k in other)
    with fm.load(shipped.library, weights=tmp_path / "mine.safetensors") as lib:
        assert (lib.get("out/b") == 0.25).all()


@pytest.mark.parametrize("weights", ["embed", "file", "caller"])
def test_weights_in_three_places(shipped: Shipped, tmp_path: Path, weights: str) -> None:
    session = shipped.new_session()
    steps(session, shipped.module, 2)
    path = tmp_path / "libmlp.so"
    written = fm.export(shipped.module, path, variables=session, weights=weights)
    assert written[0] == path and all(p.is_file() for p in written)
    assert (path.with_suffix(".weights") in written) == (weights == "file")
    given = None
    if weights == "caller":
        with pytest.raises(fm.ExportError, match="no weights"):
            fm.load(path)
        given = tmp_path / "mine"
        areas = [
            weights_image.Array(k, as_dtype(v.dtype), v.shape) for k, v in session.variables.items()
        ]
        given.write_bytes(weights_image.image(areas, session.variables))
    with fm.load(path, weights=given) as lib:
        assert same(lib.infer(X), session.run("pred", {"x": X}))


def test_damaged_side_file(shipped: Shipped, tmp_path: Path) -> None:
    path = tmp_path / "libmlp.so"
    fm.export(shipped.module, path, weights="file")
    side = path.with_suffix(".weights")
    side.write_bytes(side.read_bytes()[:-1])
    with pytest.raises(fm.CheckpointError, match="cut off"):
        fm.load(path)
    side.unlink()
    with pytest.raises(fm.ExportError, match=r"libmlp\.weights: the file cannot be read"):
        fm.load(path)


def test_large_constants_are_weights_too(tmp_path: Path) -> None:
    values = np.arange(5000, dtype="f")
    for place in ("embed", "file"):
        with fm.Graph() as g:
            x = fm.input("x", (5000,))
            fm.output("y", x * fm.constant(values) + fm.variable("v", np.ones(5000, "f")))
        path = tmp_path / f"lib{place}.so"
        fm.export(g, path, weights=place)
        with fm.load(path) as lib:
            assert same(lib.infer(x=values), values * values + 1)


def test_many_types_and_names(tmp_path: Path) -> None:
    """Names that are no C identifiers, all dtypes, several outputs, no dims, no variables."""
    names = ["bool", "int8", "uint16", "int64", "float16", "float32", "float64"]
    with fm.Graph() as g:
        for k, name in enumerate(names):
            x = fm.input(f"{name}/in-{k}", (3,), name)
            fm.output(f"{name}.out", fm.reshape(x, (1, 3)))
    fm.export(g, tmp_path / "libtypes.so")
    given = {f"{n}/in-{k}": np.array([0, 1, 1]).astype(n) for k, n in enumerate(names)}
    with fm.load(tmp_path / "libtypes.so") as lib:
        out = lib.infer(**given)
        assert list(out) == [f"{n}.out" for n in names]
        for n, (k, v) in zip(names, given.items()):
            assert same(out[f"{n}.out"], v), k
        assert lib.variables == {}


def test_wrong_feeds(shipped: Shipped) -> None:
    with fm.load(shipped.library) as lib:
        before = lib.variables
        for bad in ({}, {"x": X}, {"x": X, "t": T, "z": T}, {"x": X, "t": T[:5]},
                    {"x": X.astype("d"), "t": T}, {"x": X[:0], "t": T[:0]},
                    {"x": X[0], "t": T}):  # fmt: skip
            with pytest.raises(fm.UserError):
                lib.train_step(**bad)
        with pytest.raises(fm.FeedError):
            lib.infer(X, x=X)
        with pytest.raises(AttributeError):
            lib.nothing(X)
        with pytest.raises(fm.FetchError):
            lib.call("nothing", X)
        assert all(same(lib.get(k), v) for k, v in before.items())


def test_failed_runs_change_nothing(tmp_path: Path) -> None:
    with fm.Graph() as g:
        table = fm.variable("table", np.arange(12, dtype="f").reshape(6, 2))
        rows = fm.input("rows", ("n",), "int32")
        picked = fm.gather(table, rows)
        loss = fm.mean(picked * picked)
        step = fm.optimizers.SGD(0.5).minimize(loss)
    fm.export(fm.Module(g, step=step), tmp_path / "libpick.so")
    with fm.load(tmp_path / "libpick.so") as lib:
        before = lib.get("table")
        with pytest.raises(fm.RunError, match=r"gather: index out of range at element \[2"):
            lib.step(np.array([0, 1, 6], "i4"))
        assert same(lib.get("table"), before)
        lib.step(np.array([0, 1, 5], "i4"))
        assert not same(lib.get("table"), before)


def test_several_python_threads(shipped: Shipped) -> None:
    with fm.load(shipped.library, threads=2) as lib:
        wanted = lib.infer(X)
        wrong: list[int] = []

        def work() -> None:
            wrong.extend(k for k in range(100) if not same(lib.infer(X), wanted))

        threads = [threading.Thread(target=work) for _ in range(4)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        assert not wrong


# --- writing --------------------------------------------------------------------------------------


def test_paths_that_cannot_be_written(shipped: Shipped, tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir()
    (tmp_path / "libdir.so").mkdir()
    for path in (tmp_path / "missing" / "libx.so", tmp_path / "libdir.so", tmp_path / "x.txt",
                 tmp_path / "libß.so"):  # fmt: skip
        with pytest.raises(fm.ExportError):
            fm.export(shipped.module, path)
    closed.chmod(0o500)
    if not os.access(closed, os.W_OK):
        with pytest.raises(fm.ExportError, match="read-only"):
            fm.export(shipped.module, closed / "libx.so")
    closed.chmod(0o700)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["closed", "libdir.so"]


def test_a_write_that_fails_leaves_the_old_files(shipped: Shipped, tmp_path: Path,
                                                 monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    path = tmp_path / "libmlp.so"
    fm.export(shipped.module, path)
    old = {p: p.read_bytes() for p in tmp_path.iterdir()}

    def full(*args: Any) -> None:
        raise OSError(28, "No space left on device", "libmlp.h")

    monkeypatch.setattr(exporter.os, "chmod", full)
    with pytest.raises(fm.ExportError, match="No space left"):
        fm.export(shipped.module, path, kinds=("so", "a"))
    assert {p: p.read_bytes() for p in tmp_path.iterdir()} == old


def test_exports_are_reproducible(tmp_path: Path) -> None:
    files = []
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        made = fm.export(network(), tmp_path / folder / "libmlp.so", kinds=("so", "a"))
        files.append({p.name: p.read_bytes() for p in made})
    assert files[0] == files[1]


@pytest.mark.parametrize("bad", [{"weights": "inside"}, {"linker": "ld"}, {"kinds": ("dll",)},
                                 {"kinds": ()}, {"target": "pdp11"}])  # fmt: skip
def test_unknown_options(shipped: Shipped, tmp_path: Path, bad: dict[str, Any]) -> None:
    with pytest.raises(fm.ConfigError):
        fm.export(shipped.module, tmp_path / "libx.so", **bad)
    assert not list(tmp_path.iterdir())


def test_variables_that_do_not_fit(shipped: Shipped, tmp_path: Path) -> None:
    with pytest.raises(fm.ExportError, match="has no value") as e:
        fm.export(shipped.module, tmp_path / "libx.so", variables={"out/b": np.ones(5, "f")})
    assert "float32[5]" in str(e.value) and "hidden/w" in str(e.value)


def test_names_of_functions(shipped: Shipped, tmp_path: Path) -> None:
    graph = shipped.module.graph
    with pytest.raises(fm.ExportError, match="'init'"):
        fm.export(fm.Module(graph, init="pred"), tmp_path / "libx.so")
    with pytest.raises(fm.ExportError, match="collides"):
        fm.export(fm.Module(graph, step="pred", Step="pred"), tmp_path / "libx.so")
    with pytest.raises(fm.GraphError):
        fm.Module(graph)
    with pytest.raises(fm.FetchError):
        fm.Module(graph, infer="nothing")


def test_names_that_would_break_c(cc: str, tmp_path: Path) -> None:
    with fm.Graph() as g:
        x = fm.input("int", ("short", 2))
        y = x + fm.variable("COUNT", np.ones(2, "f")) + fm.variable("a*/b", np.ones(2, "f"))
        fm.named(y, "int/")
    fm.export(fm.Module(g, run="int/", parse=y, map=y), tmp_path / "libodd.so")
    (tmp_path / "odd.c").write_text('#include "libodd.h"\nint main(void) { return 0; }\n')
    run(cc, *FLAGS, "-c", str(tmp_path / "odd.c"), "-o", str(tmp_path / "odd.o"))
    with fm.load(tmp_path / "libodd.so") as lib:
        for name in ("run", "parse", "map"):
            assert same(lib.call(name, np.ones((3, 2), "f")), np.full((3, 2), 3, "f"))


def test_what_is_no_library(shipped: Shipped, tmp_path: Path) -> None:
    junk = tmp_path / "libjunk.so"
    junk.write_bytes(b"not ELF")
    with pytest.raises(fm.ExportError):
        fm.load(junk)
    with pytest.raises(fm.ExportError):
        fm.load(tmp_path / "libmissing.so")
    renamed = tmp_path / "libother.so"
    renamed.write_bytes(shipped.library.read_bytes())
    with pytest.raises(fm.ExportError, match="renamed"):
        fm.load(renamed)


# --- what is inside -------------------------------------------------------------------------------


def test_only_the_interface_is_visible(shipped: Shipped) -> None:
    with shipped.library.open("rb") as f:
        elf = ELFFile(f)
        symbols = list(elf.get_section_by_name(".dynsym").iter_symbols())
        shown = {s.name for s in symbols if s["st_shndx"] != "SHN_UNDEF"}
        assert shown and all(n.startswith("mlp_") for n in shown) and "mlp_manifest" in shown
        needed = {t.needed for t in elf.get_section_by_name(".dynamic").iter_tags("DT_NEEDED")}
        assert needed == {"libc.so.6"}
    with (shipped.folder / "mlp.o").open("rb") as f:
        symbols = list(ELFFile(f).get_section_by_name(".symtab").iter_symbols())
        bound = {s.name for s in symbols
                 if s["st_info"]["bind"] == "STB_GLOBAL" and s["st_shndx"] != "SHN_UNDEF"}  # fmt: skip
        assert bound and all(n.startswith("mlp_") for n in bound)


def test_a_cpu_without_the_features_is_refused(tmp_path: Path,
                                               monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    if host().triple.split("-")[0] != "x86_64":
        pytest.skip("AArch64 code runs on every AArch64 CPU")
    # leaf 1, EDX bit 20 is reserved: no CPU sets it
    monkeypatch.setitem(cpu_check._LEVELS, "x86-64-v2", (((1, 0, cpu_check.EDX, (20,)),), 0))
    with fm.Graph() as g:
        fm.output("y", fm.input("x", (4,)) + 1)
    fm.export(g, tmp_path / "libnever.so", target="x86-64-v2")
    with pytest.raises(fm.ExportError, match="newer CPU"):
        fm.load(tmp_path / "libnever.so")


@pytest.mark.parametrize("name", ["x86-64-v2", "x86-64-v3", "aarch64"])
def test_other_targets(shipped: Shipped, tmp_path: Path, name: str) -> None:
    path = tmp_path / "libmlp.so"
    fm.export(shipped.module, path, target=name)
    with path.open("rb") as f:
        machine = ELFFile(f)["e_machine"]
    assert machine == ("EM_AARCH64" if name == "aarch64" else "EM_X86_64")
    if machine == ("EM_X86_64" if host().triple.startswith("x86") else "EM_AARCH64"):
        with fm.load(path) as lib:
            wanted = shipped.new_session().run("pred", {"x": X})
            assert np.allclose(lib.infer(X), wanted, rtol=1e-5, atol=1e-5)


def test_requirements_follow_the_target() -> None:
    v3, v4 = (cpu_check.requirements(named(f"x86-64-v{k}")) for k in (3, 4))
    assert set(v3[0]) < set(v4[0]) and (v3[1], v4[1]) == (0x6, 0xE6)
    extra = replace(named("x86-64-v4"), features="+avx512vnni")
    assert len(cpu_check.requirements(extra)[0]) == len(v4[0]) + 1
