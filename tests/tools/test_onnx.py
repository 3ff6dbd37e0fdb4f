"""Commands on ONNX models."""

from __future__ import annotations

from pathlib import Path

import pytest
from flowmill.tools import cli

from tests.onnx.models import info, node, raw


@pytest.fixture
def onnx_file(tmp_path: Path) -> Path:
    path = tmp_path / "sums.onnx"
    path.write_bytes(raw([node("Relu", "x", "h", "first"), node("ReduceSum", "h axes", "y", "second")],
                         [info("x", "f", ["n", 4]), info("axes", "i", [1])], ["y"]))  # fmt: skip
    return path


def test_info(onnx_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["info", str(onnx_file), "--value", "axes=[1]", "--dim", "n=3"]) == 0
    out = capsys.readouterr().out
    assert "f32[n,4]" in out and "f32[n,1]" in out
    assert "operators of the model: Relu 1, ReduceSum 1" in out
    assert "relu 1" in out and "sum 1" in out
    assert "2.4e-05 MFLOP" in out
    assert "memory needed" in out and "parameters" in out


def test_run_and_profile(onnx_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fed = ["--value", "axes=[1]", "--feed", "x=[[1, 2, -3, 4]]"]
    assert cli.main(["run", str(onnx_file), *fed]) == 0
    assert "y: float32[1,1]\n[[7.]]" in capsys.readouterr().out
    assert cli.main(["profile", str(onnx_file), *fed, "--steps", "1"]) == 0
    assert "first  sums.onnx:1" in capsys.readouterr().out


def test_a_missing_value(onnx_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["dump", str(onnx_file)]) == 1
    assert "give each: --value axes=VALUE" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "options", "words"),
    [
        ("dump", ["--stage", "plan"], "memory plan"),
        ("compile", ["--dim", "n=8"], "arena"),
        ("check", ["--random", "--dim", "n=3"], "native"),
    ],
)
def test_other_commands(command: str, options: list[str], words: str, onnx_file: Path,
                        capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    assert cli.main([command, str(onnx_file), "--value", "axes=[1]", *options]) == 0
    assert words in capsys.readouterr().out


def test_a_library(onnx_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "libsums.so"
    assert cli.main(["compile", str(onnx_file), "--value", "axes=[1]", "-o", str(out)]) == 0
    assert out.exists() and out.with_suffix(".h").exists()


def test_sizes_that_nobody_gave(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Those at which a window does not fit would make nonsense of work and memory."""
    path = tmp_path / "window.onnx"
    path.write_bytes(raw([node("MaxPool", "x", "y", kernel_shape=[5, 5])],
                         [info("x", "f", ["n", 3, "h", "h"])], ["y"]))  # fmt: skip
    assert cli.main(["info", str(path)]) == 0
    assert "h = 4" in capsys.readouterr().err
    assert cli.main(["info", str(path), "--dim", "h=2"]) == 1
    assert "sizes below 0 at h = 2" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["info", "run", "compile", "dump", "check", "profile"])
def test_a_damaged_model(command: str, onnx_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    onnx_file.write_bytes(onnx_file.read_bytes()[:-20])
    assert cli.main([command, str(onnx_file)]) == 1
    assert "ModelError" in capsys.readouterr().err
