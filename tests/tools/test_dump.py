"""Dumps: golden text, texts that parse back, pictures, files, settings that dump."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path

import pytest
from flowmill.codegen.kernel import program_text, text
from flowmill.errors import ConfigError
from flowmill.graph.text import parse, show
from flowmill.target import named
from flowmill.tools import cli, dump
from flowmill.tools.source import load_source
from flowmill.tools.stages import Stages, collect, names, pass_names

from .conftest import GOLDEN

SVG = "{http://www.w3.org/2000/svg}"


def stages(model: Path, *fetches: str) -> Stages:
    function = load_source(f"{model}:net").function(fetches or ("y", "step"))
    return collect(function, named("x86-64-v3"), dims={"batch": 4})


def test_the_graph_as_defined(
    golden: Callable[[Path, Callable[[str], str]], None], tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    def make(source: str) -> str:
        (tmp_path / "tiny.py").write_text(source)
        assert cli.main(["dump", f"{tmp_path / 'tiny.py'}:net", "--fetch", "y", "--fetch",
                         "step"]) == 0  # fmt: skip
        return capsys.readouterr().out

    golden(GOLDEN / "dump.txt", make)


def test_every_text_parses_back(model: Path) -> None:
    s = stages(model)
    for stage in pass_names():
        assert show(parse(s.text(stage))) == s.text(stage)
    program = program_text.parse(s.text("program"))
    assert program_text.show(program) == s.text("program")
    assert program.kernels == s.compiled.program.kernels
    for part in s.text("kernels").split("\n\n"):
        assert text.show(text.parse(part)).rstrip() == part.rstrip()
    from llvmlite.binding import parse_assembly

    parse_assembly(s.text("llvm")).verify()
    assert ".text" in s.text("asm")
    assert s.text("notes").count("fuse:") >= 1


def test_only_as_much_is_compiled_as_is_shown(model: Path) -> None:
    function = load_source(f"{model}:net").function()
    seen: list[str] = []

    def watch(stage: str, made: object) -> None:
        seen.append(stage)

    only_graph = collect(function, named("x86-64-v3"), wanted=("graph",), watch=watch)
    assert (seen, list(only_graph.functions)) == ([], ["graph"])
    collect(function, named("x86-64-v3"), wanted=("fuse",), watch=watch)
    assert "fuse" in seen
    assert "program" not in seen


def test_a_pass_without_effect_shows_what_came_before(model: Path) -> None:
    function = load_source(f"{model}:net").function()
    s = Stages({"graph": function}, named("x86-64-v3"))
    assert s.after("fuse") is function


def test_all_stages_into_a_folder(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    argv = ["dump", f"{model}:net", "--stage", "all", "--dim", "batch=4", "-o", str(out)]
    assert cli.main(argv) == 0
    files = sorted(p.name for p in out.iterdir())
    assert len(files) == len(names())
    assert files[0] == "00-graph.fm"
    assert files[-6:] == ["90-kernels.fm", "91-program.fm", "92-llvm.ll", "93-asm.s",
                          "94-plan.txt", "95-notes.txt"]  # fmt: skip
    assert cli.main([*argv, "--format", "svg"]) == 0
    for path in out.glob("*.svg"):
        ElementTree.parse(path)
    assert (out / "94-plan.svg").exists()


def test_pictures_show_layers_ops_shapes_and_updates(model: Path) -> None:
    root = ElementTree.fromstring(dump.graph_picture(stages(model).functions["graph"]))
    words = [e.text for e in root.iter(f"{SVG}text")]
    assert {"x", "matmul", "w f32[3,2]".replace("w", "dense/w"), "f32[batch,2]", "y"} <= set(words)
    assert "→ dense/w" in words
    frames = [g for g in root.iter(f"{SVG}g") if g.get("class") == "frame"]
    assert {f.findtext(f"{SVG}text") for f in frames} >= {"dense", "head"}


def test_a_fused_group_is_one_box_that_names_its_ops(model: Path) -> None:
    picture = dump.graph_picture(stages(model, "y").after("fuse"))
    root = ElementTree.fromstring(picture)
    boxes = [g for g in root.iter(f"{SVG}g") if "contraction" in (g.get("class") or "")]
    assert len(boxes) == 1
    words = [e.text or "" for e in boxes[0].iter(f"{SVG}text")]
    assert any(w.startswith("matmul") for w in words)
    assert any(w.startswith(("maximum", "relu")) for w in words)


def test_dot_holds_clusters_and_labels(model: Path) -> None:
    made = dump.graph_picture(stages(model).functions["graph"], format="dot")
    assert made.count("subgraph cluster") >= 2
    assert "label=dense" in made
    assert '[label="f32[batch,2]"]' in made
    assert made.count("{") == made.count("}")


def test_graphviz_is_asked_for_only_where_it_is(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ConfigError, match="dot"):
        dump.graph_picture(stages(model).functions["graph"], engine="dot")


def test_one_page_with_everything(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "net.html"
    assert cli.main(["dump", f"{model}:net", "--stage", "all", "--format", "html", "--dim",
                     "batch=4", "-o", str(out)]) == 0  # fmt: skip
    page = out.read_text()
    assert page.count("<svg") >= 3
    assert page.count("<section") == page.count("</section>")
    for word in ("As defined", "After fuse", "Memory", "graph tiny(", "<summary>dense"):
        assert word in page
    assert "http-equiv" not in page
    assert "src=" not in page


def test_settings_show_kernels_and_code(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    run = ["run", f"{model}:net", "--feed", "x=[[1, 2, 3]]"]
    monkeypatch.setenv("FLOWMILL_DEBUG", "6")
    monkeypatch.setenv("FLOWMILL_DUMP", str(tmp_path / "dump"))
    assert cli.main(run) == 0
    err = capsys.readouterr().err
    for word in ("kernel matmul", "program run(", " i32 @run(ptr %frame)", ".globl\trun"):
        assert word in err
    for name, start in (("90-kernels.fm", "kernel "), ("91-program.fm", "program "),
                        ("92-llvm.ll", "target triple"), ("93-asm.s", "\t")):  # fmt: skip
        assert (tmp_path / "dump" / name).read_text().startswith(start)
    monkeypatch.setenv("FLOWMILL_DEBUG", "2")
    monkeypatch.setenv("FLOWMILL_DUMP", f"{tmp_path / 'some'}:llvm")
    assert cli.main(run) == 0
    err = capsys.readouterr().err
    assert "# run of run:" in err
    assert "GFLOP/s" in err
    assert "kernel matmul" not in err
    assert [p.name for p in (tmp_path / "some").iterdir() if p.name[0] == "9"] == ["92-llvm.ll"]


def test_a_file_that_cannot_be_written_is_the_users_matter(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert cli.main(["dump", f"{model}:net", "-o", str(tmp_path / "file" / "x.fm")]) == 1
    assert "Traceback" not in capsys.readouterr().err
