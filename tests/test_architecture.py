"""The laws of the house, read off the source: imports run one way, references share nothing with
what they judge, and files can be read in one sitting. docs and DESIGN name the same order."""

from __future__ import annotations

import ast
import configparser
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
OUTSIDE = {"tests", "examples", "benchmarks", "docs", "build", "dist"}  # use the package only
LINES = 600

GROUND = (
    "errors", "dtypes", "dims", "dims_limits", "dims_text", "algorithm", "config", "target",
    "mapping",
)  # fmt: skip
COMPILER = (*GROUND, "graph", "codegen.kernel", "codegen", "passes", "compiler")
MAY_IMPORT: dict[str, tuple[str, ...]] = {
    **{name: GROUND for name in GROUND},
    "data": (*GROUND, "data"),
    "graph": (*GROUND, "graph"),
    "codegen.kernel": (*GROUND, "codegen.kernel"),
    "codegen": (*GROUND, "codegen.kernel", "codegen"),
    "passes": (*GROUND, "graph", "codegen.kernel", "passes"),
    "compiler": COMPILER,
    "runtime": (*COMPILER, "data", "runtime"),
    "exporter": (*COMPILER, "runtime", "exporter"),
    "tools": ("",),
    "": (*COMPILER, "data", "runtime", "exporter"),
    "__main__": ("tools",),
    "bootstrap": (),
}
"""Which parts of the package each part may import. A part is a dotted prefix of module names; the
longest that fits counts. "" as a part is the package's face, as a target it is everything."""

ORACLE_MAY_USE = ("numpy", "math", "itertools", "dtypes", "dims", "errors")
"""What a reference may reach: NumPy, and the facts of the ground floor. Not `algorithm`, in which
the meaning it judges is written, and nothing of the graph."""
JUDGED = {"compute", "expand", "scalar", "grad", "infer", "result_dtype"}


def test_the_file_names_the_whole_package() -> None:
    """The walk below sees every sub-package, and setup.cfg ships every one."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    listed = config["options"]["packages"].split()
    found = {"flowmill"} | {
        "flowmill." + ".".join(path.parent.relative_to(ROOT).parts)
        for path in sources()
        if path.parent != ROOT
    }
    assert sorted(listed) == sorted(found)
    for path in sources():
        assert (path.parent / "__init__.py").exists(), f"{path.parent} lacks __init__.py"


def sources(root: Path = ROOT) -> list[Path]:
    """Every file of the package itself."""
    found = []
    for path in sorted(root.rglob("*.py")):
        top = path.relative_to(root).parts[0]
        if not top.startswith(".") and top not in OUTSIDE and not top.endswith(".egg-info"):
            found.append(path)
    return found


def module_of(path: Path, root: Path) -> str:
    """Dotted name below `flowmill`: "graph.ir", "" for the root's own __init__."""
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def part_of(module: str) -> str:
    """The longest part that holds `module`; the module itself where none does."""
    fits = [p for p in MAY_IMPORT if module == p or (p and module.startswith(p + "."))]
    return max(fits, key=len, default=module)


@dataclass(frozen=True)
class Import:
    """One import statement of `module`, of the absolute `target`; `own`: within the package."""

    line: int
    target: str
    own: bool


def imports(path: Path, root: Path, modules: set[str]) -> Iterator[Import]:
    """Every import in a file: at the top, inside functions, under TYPE_CHECKING, or by name."""
    parts = module_of(path, root).split(".") if path.parent != root else []
    package = parts if path.name == "__init__.py" else parts[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        if isinstance(node, ast.Import):
            for name in node.names:
                yield Import(node.lineno, name.name, False)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield Import(node.lineno, node.module or "", False)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1]
            base = base + (node.module.split(".") if node.module else [])
            for name in node.names:  # `from ..graph import ir` imports a module, not a name
                whole = ".".join([*base, name.name])
                yield Import(node.lineno, whole if whole in modules else ".".join(base), True)
        elif (
            isinstance(node, ast.Call)
            and (getattr(node.func, "attr", "") or getattr(node.func, "id", ""))
            in ("import_module", "__import__")
            and node.args
            and isinstance(node.args[0], ast.Constant)
        ):
            target = str(node.args[0].value)
            own = target.startswith(("flowmill.", "."))
            yield Import(node.lineno, target.removeprefix("flowmill").lstrip("."), own)


def wrong_imports(root: Path) -> list[str]:
    files = sources(root)
    modules = {module_of(path, root) for path in files}
    tops = {module.split(".")[0] for module in modules if module} | {"flowmill"}
    wrong = []
    for path in files:
        module = module_of(path, root)
        if part_of(module) not in MAY_IMPORT:
            wrong.append(
                f"{path.relative_to(root)}: a new part of the house: give it a place above"
            )
            continue
        allowed = MAY_IMPORT[part_of(module)]
        for found in imports(path, root, modules):
            where = f"{path.relative_to(root)}:{found.line}"
            if not found.own:
                face = found.target == "flowmill" and "" in allowed  # tools stand on it
                if found.target.split(".")[0] in tops and not face:
                    wrong.append(f"{where}: {found.target} must be imported relatively")
            elif path.name == "__init__.py" and path.parent != root:
                wrong.append(f"{where}: a sub-package's __init__ imports nothing")
            elif "" not in allowed:
                target = part_of(found.target)
                if target not in allowed:
                    wrong.append(f"{where}: {module or 'flowmill'} imports {found.target or '.'}")
    return wrong


def test_imports_run_one_way() -> None:
    assert not wrong_imports(ROOT)


@pytest.mark.parametrize(
    ("file", "line", "complaint"),
    [
        ("errors.py", "from .graph.ir import Graph", "imports graph.ir"),
        ("attic/old.py", "", "give it a place"),
        ("graph/ir.py", "def f():\n    from ..passes import fold", "imports passes.fold"),
        ("codegen/kernel/ir.py", "from ...graph import ir", "imports graph.ir"),
        ("codegen/jit.py", "import importlib\nimportlib.import_module('flowmill.passes.fold')",
         "imports passes.fold"),
        ("passes/fold.py", "from ..codegen import jit", "imports codegen.jit"),
        ("passes/fold.py", "import graph", "graph must be imported relatively"),
        ("passes/fold.py", "from flowmill.graph import ir", "must be imported relatively"),
        ("graph/__init__.py", "from .ir import Graph", "imports nothing"),
        ("runtime/session.py", "from ..tools import cli", "imports tools.cli"),
        ("runtime/session.py", "from .. import Graph", "imports ."),
        ("__init__.py", "from .tools.cli import main", "imports tools.cli"),
    ],
)  # fmt: skip
def test_a_wrong_import_is_seen(tmp_path: Path, file: str, line: str, complaint: str) -> None:
    names = ["__init__.py", "errors.py", "graph/ir.py", "codegen/kernel/ir.py", "codegen/jit.py",
             "passes/fold.py", "runtime/session.py", "tools/cli.py", "graph/__init__.py", file]  # fmt: skip
    for name in names:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(line + "\n" if name == file else "")
    (found,) = wrong_imports(tmp_path)
    assert found.startswith(file) and complaint in found


def test_light_import() -> None:
    """`import flowmill` loads NumPy and nothing else from outside the standard library."""
    code = (
        "import sys; before = set(sys.modules); import numpy; import flowmill\n"
        "names = {n.partition('.')[0] for n in set(sys.modules) - before}\n"
        "print(*sorted(n for n in names if n not in sys.stdlib_module_names))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT / ".view", capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.split()) == {"flowmill", "numpy"}


Definitions = dict[str, ast.AST | str]


def definitions(tree: ast.Module) -> Definitions:
    """What each name of a module is: a definition, or "module" or "module:name" imported."""
    names: Definitions = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for name in node.names:
                names[name.asname or name.name.partition(".")[0]] = name.name
        elif isinstance(node, ast.ImportFrom):
            for name in node.names:
                module = node.module or ("" if node.level else "?")
                whole = f"{module}:{name.name}" if module else name.name
                names[name.asname or name.name] = whole
    for statement in tree.body:
        if isinstance(statement, ast.FunctionDef | ast.ClassDef):
            names[statement.name] = statement
        elif isinstance(statement, ast.Assign):
            for target in statement.targets:
                if isinstance(target, ast.Name):
                    names[target.id] = statement.value
    return names


def shared_with_judged(modules: dict[str, ast.Module]) -> list[str]:
    """Uses, in `ref` methods and in all that they reach in these modules, of what they judge."""
    known = {name: definitions(tree) for name, tree in modules.items()}
    wrong = []
    for home, tree in modules.items():
        for owner in (node for node in tree.body if isinstance(node, ast.ClassDef)):
            methods = {m.name: m for m in owner.body if isinstance(m, ast.FunctionDef)}
            waiting: list[tuple[str, ast.AST]] = (
                [(home, methods["ref"])] if "ref" in methods else []
            )
            seen: set[ast.AST] = set()
            while waiting:
                module, piece = waiting.pop()
                if piece in seen:
                    continue
                seen.add(piece)
                for node in run_by(piece):
                    fault = ""
                    if isinstance(node, ast.Attribute) and getattr(node.value, "id", "") == "self":
                        if node.attr in JUDGED:
                            fault = f"self.{node.attr}"
                        elif node.attr in methods:
                            waiting.append((module, methods[node.attr]))
                    elif isinstance(node, ast.Name) and node.id in known[module]:
                        meaning = known[module][node.id]
                        source, _, name = (
                            meaning.partition(":") if isinstance(meaning, str) else ("",) * 3
                        )
                        if isinstance(meaning, ast.AST):
                            waiting.append((module, meaning))
                        elif isinstance(known.get(source, {}).get(name), ast.AST):
                            waiting.append((source, known[source][name]))  # type: ignore[arg-type]
                        elif source.rpartition(".")[2] not in ORACLE_MAY_USE:
                            fault = meaning
                    if fault:
                        line = getattr(node, "lineno", 0)
                        wrong.append(f"{owner.name}.ref uses {fault} at {module}:{line}")
    return wrong


def run_by(piece: ast.AST) -> Iterator[ast.AST]:
    """What a definition runs, without annotations, decorators and names of its own."""
    if isinstance(piece, ast.ClassDef):
        return  # a class named in a reference is a fact about attributes
    own: set[str] = set()
    waiting: list[ast.AST] = [piece]
    if isinstance(piece, ast.FunctionDef):
        own = {node.arg for node in ast.walk(piece.args) if isinstance(node, ast.arg)}
        waiting = [*piece.body, *piece.args.defaults]
    for node in (n for start in waiting for n in ast.walk(start)):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            own.add(node.id)
    while waiting:
        node = waiting.pop()
        if not (isinstance(node, ast.Name) and node.id in own):
            yield node
        for field, value in ast.iter_fields(node):
            if field not in ("annotation", "returns"):
                children = value if isinstance(value, list) else [value]
                waiting += [child for child in children if isinstance(child, ast.AST)]


def test_references_share_nothing_with_what_they_judge() -> None:
    modules = {
        path.stem: ast.parse(path.read_text(encoding="utf-8"))
        for path in sorted((ROOT / "graph" / "ops").glob("*.py"))
    }
    nodes = (node for tree in modules.values() for node in ast.walk(tree))
    assert sum(isinstance(n, ast.FunctionDef) and n.name == "ref" for n in nodes) > 10
    assert not shared_with_judged(modules)


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ("return alg.evaluate(self, xs)", "uses algorithm at op"),
        ("return self.compute(*xs)", "uses self.compute at op"),
        ("return helper(xs)", "uses ir:as_value at op"),
        ("return TABLE[0](xs)", "uses ir:as_value at op"),
        ("return self.again(xs)", "uses self.expand at op"),
        ("return other(xs)", "uses algorithm:evaluate at sibling"),
        ("from ..interpret import run\n        return run(xs)", "uses interpret:run at op"),
        ("alg = np.exp(*xs)\n        return alg", ""),
    ],
)
def test_a_reference_that_shares_is_seen(body: str, complaint: str) -> None:
    op = (
        "import numpy as np\nfrom ... import algorithm as alg\nfrom ..ir import as_value\n"
        "from .sibling import other\n"
        "TABLE = (as_value,)\ndef helper(xs: as_value):\n    return as_value(xs)\n"
        "class Op:\n    def again(self, xs):\n        return self.expand(xs)\n"
        f"    def ref(self, *xs):\n        {body}\n"
    )
    sibling = "from ...algorithm import evaluate\ndef other(xs):\n    return evaluate(xs)\n"
    found = shared_with_judged({"op": ast.parse(op), "sibling": ast.parse(sibling)})
    assert len(found) == bool(complaint) and all(complaint in line for line in found)


def narrows(test: ast.expr) -> bool:
    """Whether an assertion only tells the type checker what a type already is."""
    if isinstance(test, ast.BoolOp) and isinstance(test.op, ast.And):
        return all(narrows(value) for value in test.values)
    if isinstance(test, ast.Compare):
        last = test.comparators[-1]
        return isinstance(test.ops[-1], ast.IsNot) and getattr(last, "value", ...) is None
    return isinstance(test, ast.Call) and getattr(test.func, "id", "") == "isinstance"


def is_bare_assert(node: ast.AST) -> bool:
    return isinstance(node, ast.Assert) and not narrows(node.test)


def places(wanted: Callable[[ast.AST], bool]) -> list[str]:
    return [
        f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}"
        for path in sources()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if wanted(node)
    ]


def test_no_assert_checks_anything() -> None:
    """`python -O` drops them; errors.py has the classes for a user's fault and for our own."""
    assert not places(is_bare_assert)
    assert is_bare_assert(ast.parse("assert x > 0").body[0])
    assert not is_bare_assert(ast.parse("assert x is not None and isinstance(y, int)").body[0])


def test_files_are_read_in_one_sitting() -> None:
    long = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in sources()}
    assert not {name: lines for name, lines in long.items() if lines > LINES}


def test_no_module_is_a_drawer() -> None:
    drawers = {"utils", "util", "helpers", "misc", "common"}
    assert not [path for path in sources() if path.stem in drawers or path.parent.name in drawers]


def test_no_pickle() -> None:
    banned = {"pickle", "marshal", "shelve", "dill", "cloudpickle"}
    modules = {module_of(path, ROOT) for path in sources()}
    assert not [
        f"{path.relative_to(ROOT)}:{found.line}"
        for path in sources()
        for found in imports(path, ROOT, modules)
        if not found.own and found.target.partition(".")[0] in banned
    ]
