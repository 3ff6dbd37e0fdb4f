"""The command line as users meet it: exit codes, messages, help, every command."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from flowmill.tools import cli

COMMANDS = tuple(cli.COMMANDS)


def flowmill(*argv: str) -> tuple[int, str, str]:
    done = subprocess.run([sys.executable, "-m", "flowmill", *argv], capture_output=True, text=True,
                          check=False, env=_environ())  # fmt: skip
    return done.returncode, done.stdout, done.stderr


def _environ() -> dict[str, str]:
    import os

    root = next(p for p in sys.path if (Path(p) / "flowmill").exists())
    return {**os.environ, "PYTHONPATH": root}


def test_a_command_in_a_process_of_its_own(model: Path) -> None:
    code, out, err = flowmill("run", f"{model}:net", "--feed", "x=[[1, 2, 3], [-1, 0, 0]]")
    assert code == 0, err
    assert "y: float32[2,2]" in out
    assert "[[4. 4.]\n [1. 1.]]" in out


def test_importing_the_command_line_is_light() -> None:
    code = ("import sys, flowmill.tools.cli; "
            "print([m for m in ('llvmlite', 'networkx', 'rich', 'graphviz') if m in sys.modules])")  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                          env=_environ())  # fmt: skip
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_examples(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([command, "-h"]) == 0
    out = capsys.readouterr().out
    assert "examples:" in out
    assert f"flowmill {command}" in out.partition("examples:")[2]


def test_the_overview_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(f"    {name} " in out for name in cli.COMMANDS)
    assert cli.main([]) == 2


@pytest.mark.parametrize("argv", [["nonsense"], ["dump"], ["dump", "x.fm", "--format", "gif"],
                                  ["run", "x.fm", "--threads", "many"],
                                  ["run", "x.fm", "--seed", "-1"], ["demo", "--epochs", "0"],
                                  ["profile", "x.fm", "--top", "-3"]])  # fmt: skip
def test_wrong_usage_is_2(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(argv) == 2
    assert "usage:" in capsys.readouterr().err


MISTAKES = {
    "no file": (["dump", "nowhere.py:net"], "there is no file nowhere.py"),
    "no name": (["dump", "{model}:nte"], "defines nothing called nte"),
    "no graph": (["dump", "{model}:number"], "number is of type int, no graph"),
    "no value": (["run", "{model}:net", "--random", "--fetch", "z"], '"z"'),
    "no feed": (["run", "{model}:net"], '"x": f32[batch,3]'),
    "no input": (["run", "{model}:net", "--feed", "q=1"], "there is no input 'q' to feed"),
    "no stage": (["dump", "{model}:net", "--stage", "fold_up"], "there is no stage 'fold_up'"),
    "no picture": (["dump", "{model}:net", "--stage", "llvm", "--format", "svg"], "no picture"),
    "no dimension": (["compile", "{model}:net", "--dim", "b=3"], "no dimension 'b'"),
    "bad dimension": (["compile", "{model}:net", "--dim", "batch=0"], "batch is 1 or more"),
    "bad threads": (["run", "{model}:net", "--random", "--threads", "0"], "threads"),
    "bad target": (["compile", "{model}:net", "--target", "z80"], "unknown target"),
    "bad feed": (["run", "{model}:net", "--feed", "x=what"], "neither a file nor a number"),
    "bad shape": (["run", "{model}:net", "--feed", "x=[[1, 2]]"], '"x" has shape [batch,3]'),
    "no equals sign": (["run", "{model}:net", "--feed", "x"], "write --feed NAME=VALUE"),
    "not an array": (["run", "{model}:net", "--feed", "x={model}"], "damaged, or holds something"),
    "no library": (["compile", "{model}:net", "-o", "net.txt"], "call it lib<name>.so"),
    "no folder": (["compile", "{model}:net", "-o", "nowhere/libnet.so"], "there is no folder"),
    "bad size": (["cache", "limit", "much"], "is no size"),
}  # fmt: skip


@pytest.mark.parametrize("case", MISTAKES)
def test_mistakes_are_1_with_a_message(
    case: str, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv, message = MISTAKES[case]
    assert cli.main([a.replace("{model}", str(model)) for a in argv]) == 1
    err = capsys.readouterr().err
    assert message in err
    assert "Traceback" not in err


def test_errors_in_the_users_file_name_their_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for text, message in (("x = 1\ny = x / 0\n", "bad.py:2: ZeroDivisionError"),
                          ("def f(:\n", "bad.py:1: SyntaxError"),
                          ("import flowmill as fm\nwith fm.Graph() as g:\n"
                           "    a = fm.input('a', (2, 3))\n    b = a @ a\n", "bad.py:4")):  # fmt: skip
        (tmp_path / "bad.py").write_text(text)
        assert cli.main(["dump", str(tmp_path / "bad.py")]) == 1
        err = capsys.readouterr().err
        assert message in err
        assert "Traceback" not in err


def test_failures_of_flowmill_are_3_with_a_traceback(
    model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import flowmill.compiler

    def broken(*_: object) -> None:
        raise KeyError("lost")

    monkeypatch.setattr(flowmill.compiler, "make_block", broken)
    assert cli.main(["compile", f"{model}:net", "--dim", "batch=2"]) == 3
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert "internal error: KeyError: 'lost'" in err
    replay = next(line for line in err.splitlines() if "python -m flowmill replay" in line)
    saved = replay.rpartition("replay ")[2].strip()
    assert cli.main(["replay", saved]) == 3
    monkeypatch.undo()
    capsys.readouterr()
    assert cli.main(["replay", saved]) == 0
    assert "this flowmill compiles it" in capsys.readouterr().out
    assert cli.main(["replay", saved, "--text"]) == 0
    assert capsys.readouterr().out.startswith("dims batch in 1..\ngraph run(x: f32[batch,3])")


def test_a_function_a_lone_graph_and_a_saved_file_all_work(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import flowmill as fm
    from flowmill.tools.source import load_source

    graph = load_source(f"{model}:net").needed()
    fm.save(graph, tmp_path / "tiny.fm")
    texts = []
    for spec in (f"{model}:net", f"{model}:build", str(model), str(tmp_path / "tiny.fm")):
        assert cli.main(["dump", spec]) == 0
        texts.append(capsys.readouterr().out)
    assert len(set(texts)) == 1
    (tmp_path / "dumped.fm").write_text(texts[0])
    assert cli.main(["dump", str(tmp_path / "dumped.fm")]) == 0
    assert capsys.readouterr().out == texts[0]
    assert cli.main(["run", str(tmp_path / "dumped.fm"), "--random"]) == 1
    assert "can be dumped only" in capsys.readouterr().err


def test_run_saves_what_it_computes(model: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.array([[1, 2, 3]], np.float32))
    out = tmp_path / "out"
    argv = ["run", f"{model}:net", "--feed", f"x={tmp_path / 'x.npy'}", "--fetch", "y",
            "--fetch", "loss", "-o", str(out)]  # fmt: skip
    assert cli.main(argv) == 0
    np.testing.assert_array_equal(np.load(out / "y.npy"), np.full((1, 2), 4, np.float32))
    assert np.load(out / "loss.npy") == 16
    assert sorted(p.name for p in out.iterdir()) == ["loss.npy", "y.npy"]


def test_random_feeds_depend_on_the_seed_alone(
    model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outs = []
    for seed in ("1", "1", "2"):
        argv = ["run", f"{model}:net", "--random", "--dim", "batch=2", "--seed", seed]
        assert cli.main(argv) == 0
        outs.append(capsys.readouterr().out)
    assert outs[0] == outs[1] != outs[2]


def test_compile_fills_the_cache_and_compares(
    model: Path, cache_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["compile", f"{model}:net", "--dim", "batch=8"]) == 0
    out = capsys.readouterr().out
    rows = {line.split("  ")[0]: line.split()[-2:] for line in out.splitlines()[2:]}
    before, after = (int(text) for text in rows["launches"])
    assert after < before
    assert {"phases", "kernels", "bytes moved", "arena", "live peak"} <= rows.keys()
    assert len(list(cache_folder.glob("*.fmc"))) == 1
    assert cli.main(["compile", f"{model}:net", "--dim", "batch=8", "--brief"]) == 0
    assert "it was in the cache" in capsys.readouterr().out
    import flowmill as fm
    from flowmill.tools.source import load_source

    session = fm.Session(load_source(f"{model}:net").needed())
    session.run(None, {"x": np.ones((8, 3), np.float32)})
    programs = [p for p in cache_folder.glob("*.fmc") if b'"y0"' in p.read_bytes()]
    assert len(programs) == 1  # the session found what `compile` had made


def test_cache_lists_limits_and_clears(
    model: Path, cache_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for fetch in ("y", "loss"):
        assert cli.main(["compile", f"{model}:net", "--fetch", fetch, "--dim", "batch=1"]) == 0
    capsys.readouterr()
    assert cli.main(["cache"]) == 0
    assert "2 programs" in capsys.readouterr().out
    assert cli.main(["cache", "path"]) == 0
    assert capsys.readouterr().out.strip() == str(cache_folder)
    biggest = max(p.stat().st_size for p in cache_folder.glob("*.fmc"))
    assert cli.main(["cache", "limit", str(biggest)]) == 0
    assert len(list(cache_folder.glob("*.fmc"))) == 1
    assert cli.main(["cache", "clear"]) == 0
    assert not list(cache_folder.glob("*.fmc"))


def test_profile_names_kernels_and_lines(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["profile", f"{model}:net", "--random", "--dim", "batch=16", "--steps", "3"]
    assert cli.main(argv) == 0
    out = capsys.readouterr().out
    assert "median of 3" in out
    assert "batch = 16" in out
    row = next(line for line in out.splitlines() if "matmul" in line)
    assert "dense" in row
    assert "tiny.py:9  h = fm.maximum(x @ w, 0)" in row
    assert cli.main([*argv, "--sort", "layer", "--top", "1"]) == 0
    assert capsys.readouterr().out.count("\n") == 4  # title, head, a layer, the sum
    assert cli.main([*argv[:-1], "0"]) == 2


def test_info_tells_versions_and_settings(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["info"]) == 0
    out = capsys.readouterr().out
    assert "flowmill" in out
    assert "FLOWMILL_CACHE" in out
    assert "LLVM" in out


def test_check_compares_passes_and_native_code(
    model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["check", f"{model}:net", "--fetch", "loss", "--fetch", "step"]
    assert cli.main(argv) == 0
    assert "all results agree" in capsys.readouterr().out
    assert cli.main([*argv, "--dim", "batch=1"]) == 0


def test_compile_writes_a_library(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["compile", f"{model}:net", "--dim", "batch=2", "-o"]
    assert cli.main([*argv, str(tmp_path / "libtiny.so")]) == 0
    assert {"libtiny.so", "libtiny.h"} <= {p.name for p in tmp_path.iterdir()}
    capsys.readouterr()
    assert cli.main([*argv, str(tmp_path / "liblosses.so"), "--fetch", "loss", "--brief"]) == 0
    assert "float *loss" in (tmp_path / "liblosses.h").read_text()
    assert "float *y" not in (tmp_path / "liblosses.h").read_text()
