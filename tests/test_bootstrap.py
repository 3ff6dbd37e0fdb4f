"""The set-up script, without a network: a pip of our own making stands in for the real one."""

from __future__ import annotations

import hashlib
import http.server
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import threading
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent

FAKE_PIP = """
import json, os, sys
if sys.argv[1:] == ["--version"]:
    print("pip 99.1 from somewhere (python 3)")
else:
    with open(os.environ["FAKE_PIP_LOG"], "a") as log:
        log.write(json.dumps([sys.prefix, *sys.argv[1:]]) + "\\n")
    sys.exit(int(os.environ.get("FAKE_PIP_CODE", "0")))
"""
DRIVER = "import bootstrap as b; b.WAYS = tuple(b.WAYS[i] for i in (0, -1)); b.run()"
"""The script as a user starts it, with pip from an earlier run or from pip's configuration only."""


def load_bootstrap(path: Path = ROOT / "bootstrap.py") -> ModuleType:
    spec = importlib.util.spec_from_file_location("bootstrap_under_test", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write_pip_wheel(folder: Path, version: str = "99.1", main: str = FAKE_PIP) -> Path:
    wheel = folder / f"pip-{version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as file:
        file.writestr("pip/__main__.py", main)
    return wheel


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout with a space in its name, whose command line prints and ends with code 5."""
    root = tmp_path / "a checkout"
    (root / "tests").mkdir(parents=True)
    shutil.copy(ROOT / "bootstrap.py", root)
    shutil.copy(ROOT / "setup.cfg", root)
    (root / "__init__.py").write_text("")
    program = "import json, sys\nprint(json.dumps([sys.prefix, __file__, *sys.argv[1:]]))\n"
    (root / "__main__.py").write_text(program + "sys.exit(5)\n")
    (root / "tests" / "run.py").write_text("import flowmill\n" + program + "sys.exit(6)\n")
    return root


def start(checkout: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    wheels = checkout.parent / "wheels"
    if not wheels.exists():
        wheels.mkdir()
        write_pip_wheel(wheels)
    env = {k: v for k, v in os.environ.items() if not k.startswith(("PIP_", "PYTHON"))}
    env |= {
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_FIND_LINKS": str(wheels),
        "FAKE_PIP_LOG": str(checkout.parent / "log"),
        "PYTHONPATH": str(checkout),
        **variables,
    }
    return subprocess.run(
        [sys.executable, "-c", DRIVER, *arguments],
        cwd=checkout.parent,
        env=env,
        capture_output=True,
        text=True,
    )


def installs(checkout: Path) -> list[list[str]]:
    log = checkout.parent / "log"
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


def test_it_sets_up_once_and_becomes_the_program(checkout: Path) -> None:
    for _ in range(2):
        done = start(checkout, "demo", "--seed", "3")
        assert done.returncode == 5, done.stderr
        prefix, file, *arguments = json.loads(done.stdout)
        assert Path(prefix) == checkout / ".env"
        assert Path(file).resolve() == checkout / "__main__.py"
        assert arguments == ["demo", "--seed", "3"]
    ((prefix, command, *rest),) = installs(checkout)
    assert Path(prefix) == checkout / ".env" and command == "install"
    names = {word.partition(">")[0] for word in rest if not word.startswith("-")}
    assert {"numpy", "llvmlite"} <= names and "pytest" not in names


def test_tests_bring_their_extra(checkout: Path) -> None:
    assert start(checkout, "demo").returncode == 5
    done = start(checkout, "test", "--quick", "-h")
    assert done.returncode == 6, done.stderr
    assert json.loads(done.stdout)[2:] == ["--quick", "-h"]
    assert start(checkout, "demo").returncode == 5
    first, second = installs(checkout)
    assert not any(word.startswith("pytest>") for word in first)
    for name in ("pytest>", "numpy>"):
        assert any(word.startswith(name) for word in second)


def test_a_changed_setup_cfg_refreshes(checkout: Path) -> None:
    start(checkout, "demo")
    config = checkout / "setup.cfg"
    config.write_text(config.read_text().replace("rich>=13", "rich>=13\n    another>=1"))
    assert start(checkout, "demo").returncode == 5
    assert len(installs(checkout)) == 2 and "another>=1" in installs(checkout)[1]


def test_a_failed_installation_is_tried_again(checkout: Path) -> None:
    failed = start(checkout, "demo", FAKE_PIP_CODE="9")
    assert failed.returncode == 1 and not failed.stdout
    assert "pip ended with code 9" in failed.stderr and "PIP_INDEX_URL" in failed.stderr
    assert start(checkout, "demo").returncode == 5
    assert len(installs(checkout)) == 2


def test_a_moved_checkout_works(checkout: Path) -> None:
    start(checkout, "demo")
    moved = checkout.rename(checkout.parent / "moved")
    done = start(moved, "run", "x")
    assert done.returncode == 5, done.stderr
    assert Path(json.loads(done.stdout)[0]) == moved / ".env"
    assert len(installs(moved)) == 1
    env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    launcher = moved / ".env" / "bin" / "flowmill"
    launched = subprocess.run([launcher, "y z"], env=env, capture_output=True, text=True)
    assert launched.returncode == 5 and json.loads(launched.stdout)[2:] == ["y z"]


def test_nothing_is_written_outside(checkout: Path) -> None:
    start(checkout, "demo")
    beside = {path.name for path in checkout.parent.iterdir()}
    assert beside == {"a checkout", "wheels", "log"}
    assert {p.name for p in checkout.iterdir() if p.name.startswith(".")} == {".env", ".view"}


def test_wrong_arguments_and_missing_pip_are_told(checkout: Path, tmp_path: Path) -> None:
    assert start(checkout, "dmeo").returncode == 2
    wrong = start(checkout, "env", "tset")
    assert wrong.returncode == 2 and "no such extra: tset; there are: test" in wrong.stderr
    helped = start(checkout, "-h")
    assert helped.returncode == 0 and "demo" in helped.stdout
    none = start(checkout, "demo", PIP_FIND_LINKS=str(tmp_path))
    assert none.returncode == 1
    assert "names no index" in none.stderr and "apt-get install python3-pip-whl" in none.stderr
    (checkout / "setup.cfg").unlink()
    assert "is no checkout of flowmill" in start(checkout, "demo").stderr


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_checkout_is_told(checkout: Path) -> None:
    checkout.chmod(0o555)
    done = start(checkout, "demo")
    checkout.chmod(0o755)
    assert done.returncode == 1 and "make" in done.stderr and "writable" in done.stderr


# --- the index -----------------------------------------------------------------------------------


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script as a module, with its environment laid out in a temporary folder."""
    shutil.copy(ROOT / "bootstrap.py", tmp_path)
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    module = load_bootstrap(tmp_path / "bootstrap.py")
    module.lay_out()
    return module


def index_page(folder: Path, versions: dict[str, str], digest: str = "") -> None:
    """A file index of pip: each version with attributes of its link."""
    page = folder / "pip"
    page.mkdir(parents=True)
    rows = []
    for version, attributes in versions.items():
        wheel = write_pip_wheel(page, version, FAKE_PIP.replace("99.1", version))
        told = digest or hashlib.sha256(wheel.read_bytes()).hexdigest()
        rows.append(f'<a href="{wheel.name}#sha256={told}" {attributes}>{wheel.name}</a>')
    rows.append('<a href="pip-100.tar.gz#sha256=' + 64 * "0" + '">a source archive</a>')
    rows.append('<a href="pip-101-py3-none-any.whl">one without a digest</a>')
    (page / "index.html").write_text("<html><body>" + "\n".join(rows) + "</body></html>")


VERSIONS = {
    "22.3": "",
    "23.10": 'data-requires-python="&gt;=3.7"',
    "23.9.1": 'data-requires-python="&gt;=3.7"',
    "24.0": 'data-requires-python="&gt;=3.99"',
    "25.0": 'data-yanked="broken"',
    "26.0b1": "",
}


def test_the_newest_fitting_pip_of_a_file_index(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    index_page(tmp_path / "simple", VERSIONS)
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", f"file://{tmp_path}/none file://{tmp_path}/simple")
    command = script.pip_of_index()
    assert command == [str(script.PYTHON), str(script.ENV / "pip" / "pip")]
    assert "pip 23.10" in capsys.readouterr().err
    assert script.pip_kept() == command


def test_a_wrong_digest_is_refused(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index_page(tmp_path / "simple", {"23.0": ""}, digest=64 * "a")
    monkeypatch.setenv("PIP_INDEX_URL", f"file://{tmp_path}/simple/")
    with pytest.raises(script.NotThisWayError, match="sha256 is not the one"):
        script.pip_of_index()
    assert not (script.ENV / "pip").exists()


def test_configuration_files_and_passwords(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index_page(tmp_path / "simple", VERSIONS)
    seen = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments: object) -> None:
            super().__init__(*arguments, directory=str(tmp_path))  # type: ignore[arg-type]

        def do_GET(self) -> None:
            seen.append(self.headers["Authorization"])
            super().do_GET()

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    config = tmp_path / "pip.conf"
    config.write_text(
        f"[global]\nindex_url = http://me:a%40b@127.0.0.1:{server.server_port}/simple\n"
        "[install]\ntimeout = 3\n[other]\ncert = no\n"
    )
    monkeypatch.setenv("PIP_CONFIG_FILE", str(config))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("PIP_TIMEOUT", "4")
    try:
        settings = script.pip_settings()
        assert settings["timeout"] == "4" and settings.get("cert") != "no"
        script.pip_of_index()
    finally:
        server.shutdown()
    assert seen == 2 * ["Basic bWU6YUBi"]


def test_a_pip_that_does_not_run_is_passed_over(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    write_pip_wheel(wheels, main="raise SystemExit('broken inside')")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    with pytest.raises(script.NotThisWayError, match="names no index"):
        script.pip_of_index()
    (wheels / "pip-100.0-py3-none-any.whl").write_bytes(b"no zip file")
    with pytest.raises(script.NotThisWayError, match="not a zip file"):
        script.unpack(script.newest_wheel([wheels]))
