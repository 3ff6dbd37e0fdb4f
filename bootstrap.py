#!/usr/bin/env python3
"""Set flowmill up in this checkout and run it: `python3 bootstrap.py demo`, `… test`, `… -h`.

Needs a Python 3.11+ with its standard library and nothing else: no pip, no ensurepip, no compiler,
and an externally managed Python (PEP 668) is fine, because nothing is installed into it. What comes
out is `.env/`, a virtual environment inside the checkout whose `flowmill` is the checkout itself,
with the dependencies that setup.cfg lists. Nothing else is written, apart from pip's own cache.
A second run finds the environment ready and starts the program at once.
"""

from __future__ import annotations

import sys

if sys.version_info < (3, 11):  # noqa: UP036 (this script is what tells the user so)
    sys.exit(f"bootstrap: flowmill needs Python 3.11 or newer, this is {sys.version.split()[0]}")

try:
    import argparse
    import base64
    import configparser
    import contextlib
    import ctypes  # noqa: F401 (flowmill calls compiled code through it)
    import fcntl
    import hashlib
    import html.parser
    import importlib.util
    import os
    import re
    import shutil
    import ssl
    import subprocess
    import sysconfig
    import urllib.parse
    import urllib.request
    import zipfile
    from collections.abc import Callable, Iterator
    from pathlib import Path
except ImportError as error:
    sys.exit(
        f"bootstrap: this Python's standard library is incomplete ({error}).\n"
        "  On Debian or Ubuntu: apt-get install python3   (python3-minimal is not enough)"
    )

ROOT = Path(__file__).resolve().parent
ENV = ROOT / ".env"
PYTHON = ENV / "bin" / "python"
STAMP = ENV / "stamp"
COMMANDS = ("demo", "test", "env", "run")
FORMAT = "1"  # raise it when what this script builds changes; old environments are then rebuilt
DEBIAN_CA = Path("/etc/ssl/certs/ca-certificates.crt")  # where Debian's pip looks


class SetupError(Exception):
    """Set-up cannot go on; the text says what to do."""


class NotThisWayError(Exception):
    """This way of getting pip is not open; the text says why. The next one is tried."""


def say(text: str) -> None:
    print(f"bootstrap: {text}", file=sys.stderr, flush=True)


def last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "no output"


# --- the environment -----------------------------------------------------------------------------


def base_python() -> Path:
    """The interpreter below any virtual environment this script was started from."""
    return Path(getattr(sys, "_base_executable", None) or sys.executable)


def fingerprint() -> str:
    """Changes whenever the environment has to be refreshed: dependencies, Python, this script."""
    identity = (FORMAT, sys.version_info[:2], str(base_python()))
    return hashlib.sha256(repr(identity).encode() + (ROOT / "setup.cfg").read_bytes()).hexdigest()


def requirements() -> dict[str, list[str]]:
    """What setup.cfg asks for: at run time under "", and by extra."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    texts = {"": config["options"]["install_requires"], **config["options.extras_require"]}
    return {extra: text.split() for extra, text in texts.items()}


def stamped() -> tuple[str, set[str]]:
    """Fingerprint and extras of the environment that stands; ("", none) where there is none."""
    try:
        first, *rest = STAMP.read_text().splitlines()
    except (OSError, ValueError):
        return "", set()
    return first, set(rest)


def site_packages() -> Path:
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    return ENV / "lib" / version / "site-packages"


def replace(path: Path, text: str, mode: int = 0o644) -> None:
    """Write a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_text(text)
    part.chmod(mode)
    part.rename(path)


def link(path: Path, target: str) -> None:
    if path.is_symlink() and os.readlink(path) == target:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_symlink() or path.exists():
        path.unlink()
    path.symlink_to(target)


def lay_out() -> None:
    """Write the virtual environment by hand: three files do what the `venv` module does, on
    machines that lack it too. The checkout is the package, seen through `.view/flowmill`."""
    base = base_python()
    replace(
        ENV / "pyvenv.cfg",
        f"home = {base.parent}\ninclude-system-site-packages = false\n"
        f"version = {sys.version.split()[0]}\n",
    )
    link(PYTHON, str(base))
    link(ENV / "bin" / "python3", "python")
    link(ROOT / ".view" / "flowmill", "..")
    # Relative, so that a checkout that is moved still works.
    view = os.path.relpath(ROOT / ".view", site_packages())
    replace(site_packages() / "flowmill-checkout.pth", view + "\n")
    replace(
        ENV / "bin" / "flowmill",
        "#!/bin/sh\n"
        'here=$(dirname "$(readlink -f "$0")")\n'
        'PYTHONNOUSERSITE=1 exec "$here/python" -P -m flowmill "$@"\n',
        0o755,
    )


def clean_environ() -> dict[str, str]:
    """The caller's variables without those that would let other packages in."""
    env = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME")}
    env["PYTHONNOUSERSITE"] = "1"
    return env


def pip_environ() -> dict[str, str]:
    """The caller's pip configuration without what would move the installation elsewhere."""
    env = clean_environ()
    for name in ("PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_PYTHON", "PIP_REQUIRE_VIRTUALENV"):
        env.pop(name, None)
    env["PIP_USER"] = "0"
    if "cert" not in pip_settings() and not DEBIAN_CA.exists() and own_ca().exists():
        env["PIP_CERT"] = str(own_ca())
    return env


@contextlib.contextmanager
def locked() -> Iterator[None]:
    """One set-up at a time."""
    ENV.mkdir(exist_ok=True)
    with (ENV / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another set-up of this checkout is running; waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def ready(extras: set[str]) -> bool:
    have, installed = stamped()
    return have == fingerprint() and extras <= installed and PYTHON.exists()


def ensure(extras: set[str]) -> None:
    """Make the environment hold the run-time dependencies and `extras`."""
    if ready(extras):
        return
    with locked():
        if ready(extras):
            return
        have, installed = stamped()
        STAMP.unlink(missing_ok=True)
        if have != fingerprint():
            shutil.rmtree(ENV / "lib", ignore_errors=True)
            shutil.rmtree(ENV / "bin", ignore_errors=True)
        lay_out()
        wanted = extras | installed
        needed = [line for extra in ("", *sorted(wanted)) for line in requirements()[extra]]
        say(f"setting up {ENV} (once)")
        pip = find_pip()
        options = ["--no-input", "--disable-pip-version-check", "--prefer-binary"]
        command = [*pip, "install", *options, "--no-warn-script-location", *needed]
        code = subprocess.run(command, env=pip_environ(), check=False).returncode
        if code:
            raise SetupError(
                f"pip ended with code {code} while installing the dependencies (see above).\n"
                "  Check the network, the index pip is told to use (PIP_INDEX_URL, pip.conf), and\n"
                "  behind a proxy with its own certificate, PIP_CERT=FILE.\n"
                "  Then run the same command again; what is installed already is kept."
            )
        replace(STAMP, "\n".join((fingerprint(), *sorted(wanted))) + "\n")


# --- pip, from wherever there is one -------------------------------------------------------------


def unpack(wheel: Path) -> list[str]:
    """A pip wheel needs no installation: unpacked, it runs."""
    home = ENV / "pip"
    shutil.rmtree(home, ignore_errors=True)
    try:
        with zipfile.ZipFile(wheel) as file:
            file.extractall(home)
    except (OSError, zipfile.BadZipFile) as error:
        raise NotThisWayError(f"{wheel}: {error}") from None
    return runs([str(PYTHON), str(home / "pip")])


def runs(command: list[str]) -> list[str]:
    """`command`, after it has shown that it is a working pip."""
    done = subprocess.run(
        [*command, "--version"], env=pip_environ(), capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise NotThisWayError(f"{' '.join(command)}: {last_line(done.stderr)}")
    say("using " + " from ".join(done.stdout.split(" from ")[:2]).strip())
    return command


def version_of(name: str) -> tuple[int, ...]:
    """Sort key of a pip wheel's file name; () where it is no final release of pip."""
    found = re.fullmatch(r"pip-(\d+(?:\.\d+)*)-py\d.*-none-any\.whl", name)
    return tuple(map(int, found[1].split("."))) if found else ()


def newest_wheel(folders: list[Path]) -> Path:
    found = [path for folder in folders for path in folder.glob("pip-*.whl")]
    best = max(
        (p for p in found if version_of(p.name)), key=lambda p: version_of(p.name), default=None
    )
    if best is None:
        raise NotThisWayError("no pip wheel in " + (", ".join(map(str, folders)) or "any folder"))
    return best


def pip_kept() -> list[str]:
    """The one an earlier run unpacked."""
    if not (ENV / "pip" / "pip" / "__main__.py").exists():
        raise NotThisWayError("this is the first run")
    return runs([str(PYTHON), str(ENV / "pip" / "pip")])


def pip_of_ensurepip() -> list[str]:
    """The wheel that the `venv` module would install, or the distribution's folder of wheels."""
    folders = []
    spec = importlib.util.find_spec("ensurepip")
    if spec and spec.origin:
        folders.append(Path(spec.origin).parent / "_bundled")
    configured = sysconfig.get_config_var("WHEEL_PKG_DIR")
    folders += [Path(configured)] if configured else []
    folders.append(Path("/usr/share/python-wheels"))
    return unpack(newest_wheel(list(dict.fromkeys(folders))))


def pip_importable() -> list[str]:
    """The pip of this Python, told to install into the environment instead (pip >= 22.3)."""
    if importlib.util.find_spec("pip") is None:
        raise NotThisWayError("this Python has none")
    return runs([sys.executable, "-m", "pip", "--python", str(PYTHON)])


def own_ca() -> Path:
    return ENV / "apt" / "ca-certificates.crt"


def pip_of_debian() -> list[str]:
    """Debian's package of pip's wheel, downloaded and unpacked here: no root, no installation."""
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        raise NotThisWayError("this is not a Debian-like system")
    home = ENV / "apt"
    shutil.rmtree(home, ignore_errors=True)
    packages = ["python3-pip-whl"]
    if not DEBIAN_CA.exists():
        packages.append("ca-certificates")
    reason = ""
    for private in (False, True):  # the system's package lists, else fresh ones of our own
        if private:
            say("fetching Debian's package lists into .env/apt (about 10 MB)")
        reason = apt_download(home, packages, private)
        if not reason:
            break
    else:
        raise NotThisWayError(reason)
    for package in home.glob("*.deb"):
        subprocess.run(["dpkg-deb", "-x", str(package), str(home / "root")], check=True)
    certificates = sorted((home / "root/usr/share/ca-certificates").glob("**/*.crt"))
    if certificates:
        replace(own_ca(), "\n".join(path.read_text() for path in certificates))
    command = unpack(newest_wheel([home / "root/usr/share/python-wheels"]))
    for folder in ("root", "lists", "cache"):
        shutil.rmtree(home / folder, ignore_errors=True)
    return command


def apt_download(home: Path, packages: list[str], private: bool) -> str:
    """Download Debian packages into `home`; "" or why it failed. Writes in `home` only."""
    settings = [
        "#clear APT::Update::Post-Invoke;",
        "#clear APT::Update::Post-Invoke-Success;",
        f'Dir::Cache "{home}/cache";',
        'APT::Sandbox::User "root";',  # _apt may not be allowed to enter the checkout
        'Acquire::Languages "none";',
        'Acquire::Retries "1";',
        'Acquire::http::Timeout "20";',
        'Acquire::https::Timeout "20";',
    ]
    if private:
        settings.append(f'Dir::State::lists "{home}/lists";')
    for folder in ("cache/archives/partial", "lists/partial"):
        (home / folder).mkdir(parents=True, exist_ok=True)
    replace(home / "apt.conf", "\n".join(settings) + "\n")
    apt = ["apt-get", "-q", "-c", str(home / "apt.conf")]
    complaints = []
    for step in (["update"] if private else [], ["download", *packages]):
        if step:
            command = [*apt, *step]
            done = subprocess.run(command, cwd=home, capture_output=True, text=True, check=False)
            if done.stderr:  # a failed update is a mere warning to apt-get
                complaints.append(f"apt-get {step[0]}: {done.stderr.splitlines()[0]}")
    return "; ".join(complaints) if done.returncode else ""


def pip_settings() -> dict[str, str]:
    """What pip's configuration files and variables say, later ones winning, as pip reads them."""
    home = Path.home()
    machine = os.environ.get("XDG_CONFIG_DIRS") or "/etc/xdg"
    user = Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config")
    files = [Path(folder) / "pip" / "pip.conf" for folder in machine.split(os.pathsep)]
    files += [Path("/etc/pip.conf"), home / ".pip" / "pip.conf", user / "pip" / "pip.conf"]
    given = os.environ.get("PIP_CONFIG_FILE")
    if given == os.devnull:
        files = []
    elif given:
        files.append(Path(given))
    found: dict[str, str] = {}
    for file in files:
        config = configparser.RawConfigParser()
        try:
            config.read(file, encoding="utf-8")
        except (configparser.Error, UnicodeDecodeError) as error:
            say(f"{file} is skipped: {error}")
            continue
        for section in ("global", "install"):
            if config.has_section(section):
                found |= {key.replace("_", "-"): value for key, value in config.items(section)}
    for name, value in os.environ.items():
        if name.startswith("PIP_") and value:
            found[name[4:].lower().replace("_", "-")] = value
    return found


class Links(html.parser.HTMLParser):
    """The pip wheels of an index page (PEP 503): (version, address, sha256). Yanked ones, ones for
    newer Pythons and ones without a sha256 are left out."""

    def __init__(self, page: str, text: str) -> None:
        super().__init__()
        self.page = page
        self.wheels: list[tuple[tuple[int, ...], str, str]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {key: value or "" for key, value in attrs}
        if tag != "a" or "href" not in values or "data-yanked" in values:
            return
        address, mark = urllib.parse.urldefrag(urllib.parse.urljoin(self.page, values["href"]))
        version = version_of(urllib.parse.unquote(address.rpartition("/")[2]))
        digest = re.fullmatch(r"sha256=([0-9a-f]{64})", mark)
        least = re.match(r">=\s*(\d+)\.(\d+)", values.get("data-requires-python", ""))
        if version and digest and (not least or (int(least[1]), int(least[2])) <= sys.version_info):
            self.wheels.append((version, address, digest[1]))


def download(address: str, settings: dict[str, str]) -> tuple[bytes, str]:
    """Body and final address of a file:, http: or https: address; the address may hold a user name
    and password, and then the final one does too, while it is of the same host."""
    parts = whole = urllib.parse.urlsplit(address)
    if parts.scheme not in ("file", "http", "https"):
        raise NotThisWayError(f"{parts.scheme}: addresses are not supported")
    headers = {"Accept": "text/html, */*;q=0.1", "User-Agent": "flowmill-bootstrap"}
    if parts.username is not None:
        secret = urllib.parse.unquote(f"{parts.username}:{parts.password or ''}").encode()
        headers["Authorization"] = "Basic " + base64.b64encode(secret).decode()
        parts = parts._replace(netloc=parts.netloc.rpartition("@")[2])
    ca = settings.get("cert") or (str(own_ca()) if own_ca().exists() else None)
    try:
        context = ssl.create_default_context(cafile=ca)
        request = urllib.request.Request(parts.geturl(), headers=headers)
        with urllib.request.urlopen(request, timeout=30, context=context) as answer:
            final = urllib.parse.urlsplit(answer.url)
            if final[:2] == parts[:2]:
                final = final._replace(netloc=whole.netloc)
            return answer.read(), final.geturl()
    except (OSError, ValueError) as error:
        raise NotThisWayError(f"{parts.geturl()}: {error}") from None


def pip_of_index() -> list[str]:
    """A pip wheel from the folders and indexes that pip's configuration names."""
    settings = pip_settings()
    places = settings.get("find-links", "").split()
    folders = [Path(p.removeprefix("file://")) for p in places if not p.startswith("http")]
    with contextlib.suppress(NotThisWayError):
        return unpack(newest_wheel([folder for folder in folders if folder.is_dir()]))
    indexes = f"{settings.get('index-url', '')} {settings.get('extra-index-url', '')}".split()
    reasons = []
    for index in indexes:
        page = index.rstrip("/") + "/pip/"
        if page.startswith("file:") and Path(urllib.request.url2pathname(page[7:])).is_dir():
            page += "index.html"
        try:
            body, final = download(page, settings)
            wheels = Links(final, body.decode(errors="replace")).wheels
            if not wheels:
                raise NotThisWayError(f"{page}: lists no pip wheel with a sha256 for this Python")
            _, address, digest = max(wheels)
            wheel = ENV / urllib.parse.unquote(address.rpartition("/")[2])
            data = download(address, settings)[0]
            if hashlib.sha256(data).hexdigest() != digest:
                raise NotThisWayError(f"{address}: its sha256 is not the one the index lists")
        except (NotThisWayError, KeyError, TypeError, ValueError) as error:
            reasons.append(str(error))
            continue
        wheel.write_bytes(data)
        try:
            return unpack(wheel)
        finally:
            wheel.unlink()
    if not indexes:
        reasons.append("pip's configuration names no index (PIP_INDEX_URL, index-url in pip.conf)")
    raise NotThisWayError("; ".join(reasons))


WAYS: tuple[tuple[str, Callable[[], list[str]]], ...] = (
    ("pip of an earlier run", pip_kept),
    ("pip's wheel on this machine", pip_of_ensurepip),
    ("an importable pip", pip_importable),
    ("Debian's package of pip", pip_of_debian),
    ("the index of pip's configuration", pip_of_index),
)


def find_pip() -> list[str]:
    """A command that is pip and installs into the environment."""
    reasons = []
    for name, way in WAYS:
        try:
            return way()
        except (NotThisWayError, OSError, subprocess.CalledProcessError) as error:
            reasons.append(f"{name}: {error}")
    raise SetupError(
        "found no pip and no way to get one:\n    " + "\n    ".join(reasons) + "\n"
        "  Do one of these, then run the same command again:\n"
        "    Debian, Ubuntu, as root:  apt-get update && apt-get install python3-pip-whl\n"
        "    with a package index:     export PIP_INDEX_URL=https://…/simple\n"
        "    without a network:        export PIP_FIND_LINKS=FOLDER  (wheels of pip and of every\n"
        "                              dependency in setup.cfg)"
    )


# --- commands ------------------------------------------------------------------------------------


def start(arguments: list[str]) -> None:
    """Become the program: its output, signals and exit code are the caller's directly."""
    sys.stdout.flush()
    os.execve(PYTHON, [str(PYTHON), "-P", *arguments], clean_environ())


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="bootstrap.py",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Set flowmill up in this checkout (.env/, once) and run it.",
        epilog="""commands:
  demo [OPTION…]   train a network on the digits that ship with flowmill and export it
  test [OPTION…]   everything a contributor runs: formatter, linter, types, tests
                   (--quick: leave the slow ones out; --long: the long sets too)
  env [EXTRA…]     only set up; EXTRA: extras of setup.cfg (test, onnx, export, view, bench)
  run [ARG…]       flowmill's command line: `run dump --help` is `flowmill dump --help`

Remove .env/ to start afresh.""",
    )
    parser.add_argument("command", choices=COMMANDS, metavar="command")
    parser.add_argument("rest", nargs=argparse.REMAINDER, help="passed on", metavar="…")
    args = parser.parse_args()
    if not (ROOT / "setup.cfg").exists():
        raise SetupError(f"{ROOT} is no checkout of flowmill: it has no setup.cfg")
    extras = {"test": {"test"}, "env": set(args.rest)}.get(args.command, set())
    unknown = extras - set(requirements())
    if unknown:
        known = ", ".join(filter(None, requirements()))
        parser.error(f"no such extra: {', '.join(sorted(unknown))}; there are: {known}")
    ensure(extras)
    if args.command == "demo":
        start(["-m", "flowmill", "demo", *args.rest])
    elif args.command == "run":
        start(["-m", "flowmill", *args.rest])
    elif args.command == "test":
        start([str(ROOT / "tests" / "run.py"), *args.rest])
    print(f"ready: {ENV / 'bin' / 'flowmill'} and {PYTHON}")


def run() -> None:
    """`main`, with problems told in words."""
    try:
        main()
    except SetupError as problem:
        sys.exit(f"bootstrap: {problem}")
    except PermissionError as problem:
        sys.exit(
            f"bootstrap: cannot write {problem.filename}: {problem.strerror}.\n"
            f"  The environment is made inside the checkout: make {ROOT} writable."
        )
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    run()
