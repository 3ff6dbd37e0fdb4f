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
    assert "relu 1" in out and "sum 1" in out
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
