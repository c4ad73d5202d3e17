"""The rules of the code that no other tool holds: sizes, homes of heavy libraries, documents, the base install."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MAX_FILE = 300  # lines
MAX_FUNCTION = 50  # lines
MAX_NESTING = 3  # blocks inside each other
MAX_UNDOCUMENTED = 12  # lines: what is shorter is read whole, and mypy has its types written out
MAX_TRACKED = 2 * 2**20  # bytes
TOP = {
    *("pyproject.toml", "README.md", "pipeline", "jobs", "schemas", "deploy", "tests"),
    *("Makefile", "constraints.txt", "LICENSE", "CITATION.cff"),
}
RAY_HOME = "pipeline/executors/ray/"
BLOCKS = (ast.If, ast.For, ast.While, ast.With, ast.Try, ast.Match, ast.AsyncFor, ast.AsyncWith)
Function = ast.FunctionDef | ast.AsyncFunctionDef
Rule = Callable[[str, str], Iterator[str]]  # path from the root, source -> what is wrong


def files_are_short(path: str, source: str) -> Iterator[str]:
    lines = len(source.splitlines())
    if lines > MAX_FILE:
        yield f"{lines} lines"


def functions_are_short(path: str, source: str) -> Iterator[str]:
    for function in _functions(source):
        lines = _lines(function)
        if lines > MAX_FUNCTION:
            yield f"{function.name} has {lines} lines"


def functions_are_flat(path: str, source: str) -> Iterator[str]:
    for function in _functions(source):
        depth = _depth(function.body)
        if depth > MAX_NESTING:
            yield f"{function.name} nests {depth} deep"


def ray_has_one_home(path: str, source: str) -> Iterator[str]:
    """Wherever the import stands, and for modules that no import contract lists."""
    if path.startswith("pipeline/") and not path.startswith(RAY_HOME):
        yield from (f"line {line} imports {name}" for name, line in _imports(source) if name.split(".")[0] == "ray")


def modules_have_plain_names(path: str, source: str) -> Iterator[str]:
    if Path(path).stem in {"utils", "util", "helpers", "helper", "common", "manager", "misc"}:
        yield "says nothing of what is in it"


def asserts_stay_in_tests(path: str, source: str) -> Iterator[str]:
    if path.startswith("pipeline/"):
        yield from (f"line {node.lineno}" for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Assert))


def faults_are_caught_by_name(path: str, source: str) -> Iterator[str]:
    """Except at the executor's edge, where whatever a task raised becomes data."""
    if path.startswith(("pipeline/executors/ray/", "tests/")):
        return
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ExceptHandler) and (node.type is None or "Exception" in _names(node.type)):
            yield f"line {node.lineno} catches everything"


def public_things_say_what_they_are_for(path: str, source: str) -> Iterator[str]:
    """Modules always; functions, methods and classes from MAX_UNDOCUMENTED lines on."""
    if not path.startswith("pipeline/"):
        return
    module = ast.parse(source)
    if module.body and not ast.get_docstring(module):
        yield "the module has no docstring"
    for node in _public(module.body):
        if _lines(node) > MAX_UNDOCUMENTED and not ast.get_docstring(node):
            yield f"{node.name} has {_lines(node)} lines and no docstring"


def nothing_is_left_to_do(path: str, source: str) -> Iterator[str]:
    for number, line in enumerate(source.splitlines(), 1):
        if any(mark in line.partition("#")[2] for mark in ("TO" + "DO", "FIX" + "ME", "XX" + "X")):
            yield f"line {number}"


BREACHES: dict[Rule, tuple[str, str]] = {
    files_are_short: ("pipeline/a.py", "x = 1\n" * 301),
    functions_are_short: ("tests/a.py", "async def f():\n" + "    x = 1\n" * 50),
    functions_are_flat: ("pipeline/a.py", "def f():\n for a in b:\n  with c:\n   if d:\n    while e: pass"),
    ray_has_one_home: ("pipeline/executors/local.py", "def f():\n    from ray.util import state"),
    modules_have_plain_names: ("pipeline/catalogue/utils.py", ""),
    asserts_stay_in_tests: ("pipeline/a.py", "assert True"),
    faults_are_caught_by_name: ("pipeline/a.py", "try:\n    f()\nexcept (OSError, Exception):\n    pass"),
    public_things_say_what_they_are_for: ("pipeline/a.py", '"""A."""\nclass C:\n' + "    x = 1\n" * 12),
    nothing_is_left_to_do: ("pipeline/a.py", "x = 1  # TO" + "DO"),
}


def _sources() -> Iterator[tuple[str, str]]:
    for folder in ("pipeline", "tests", "jobs", "schemas"):
        for file in sorted((ROOT / folder).rglob("*.py")):
            yield file.relative_to(ROOT).as_posix(), file.read_text()


@pytest.mark.parametrize("rule", BREACHES, ids=lambda rule: rule.__name__)
def test_the_code_keeps_the_rule(rule: Rule) -> None:
    assert [f"{path}: {fault}" for path, source in _sources() for fault in rule(path, source)] == []


@pytest.mark.parametrize("rule", BREACHES, ids=lambda rule: rule.__name__)
def test_the_rule_sees_a_breach(rule: Rule) -> None:
    assert list(rule(*BREACHES[rule]))


def test_an_else_if_is_no_deeper_than_its_if() -> None:
    chain = "def f():\n if a: pass\n elif b: pass\n elif c: pass\n elif d: pass\n else: pass"
    assert not list(functions_are_flat("pipeline/a.py", chain))


def test_imports_point_one_way() -> None:
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports; raise SystemExit(lint_imports())"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_top_level_holds_what_belongs_there() -> None:
    top = {name.partition("/")[0] for name in _tracked()}
    assert {name for name in top if not name.startswith(".")} == TOP


def test_nothing_large_is_tracked() -> None:
    tracked = [ROOT / name for name in _tracked()]
    weights = ROOT / "pipeline" / "models" / "weights"  # test_shipped.py has a limit for all of them
    large = [file for file in tracked if file.is_file() and file.stat().st_size > MAX_TRACKED]
    assert [str(file) for file in large if file.parent != weights or file.suffix != ".safetensors"] == []


def _tracked() -> list[str]:
    """What git has of this repository, from its root."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    return [name for name in listed.stdout.split("\0") if name]


def test_the_base_install_reads_catalogues_without_torch_ray_or_astropy() -> None:
    script = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"torch", "ray", "astropy", "fitsio", "galsim", "safetensors", "hats", "lsdb"}:
            raise ModuleNotFoundError(f"{name} is not in the base install", name=name)

sys.meta_path.insert(0, Absent())
import pipeline
import pipeline.cli
from pipeline.errors import PipelineError
try:
    pipeline.open_catalogue("/no/such/catalogue")
except PipelineError as error:
    print("refused:", error)
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("refused: ")


def test_help_loads_nothing_heavy() -> None:
    script = "import sys, pipeline.cli; print(*sorted({'torch', 'ray', 'astropy', 'pyarrow'} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def _functions(source: str) -> Iterator[Function]:
    return (node for node in ast.walk(ast.parse(source)) if isinstance(node, Function))


def _lines(node: Function | ast.ClassDef) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def _depth(body: list[ast.stmt]) -> int:
    """How deep blocks nest, an `elif` as deep as its `if`; nested functions and classes count for themselves."""
    return max((_block_depth(node) for node in body if isinstance(node, BLOCKS)), default=0)


def _block_depth(node: ast.stmt) -> int:
    inner: list[ast.stmt] = []
    beside: list[ast.stmt] = []
    for field in ("body", "orelse", "finalbody", "handlers", "cases"):
        for part in getattr(node, field, []):
            inner += part.body if isinstance(part, ast.ExceptHandler | ast.match_case) else [part]
    if isinstance(node, ast.If) and len(node.orelse) == 1 and isinstance(node.orelse[0], ast.If):
        beside = node.orelse
        inner = node.body
    return max(1 + _depth(inner), _depth(beside))


def _imports(source: str) -> Iterator[tuple[str, int]]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module or "", node.lineno


def _names(node: ast.AST) -> set[str]:
    found = {child.id for child in ast.walk(node) if isinstance(child, ast.Name)}
    return {"Exception"} if found & {"Exception", "BaseException"} else found


def _public(body: list[ast.stmt]) -> Iterator[Function | ast.ClassDef]:
    for node in body:
        if isinstance(node, Function | ast.ClassDef) and not node.name.startswith("_"):
            yield node
            if isinstance(node, ast.ClassDef):
                yield from _public(node.body)
