"""A check is one object in one file; a bug in one is told as ours; what travels keeps to Python 3.9."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import dsrface.doctor.checks as package
from dsrface.cli.doctor_report import render_report
from dsrface.commands import doctor
from dsrface.config.doctor import DoctorConfig
from dsrface.doctor.checks import registry
from dsrface.doctor.checks.check import Check

HERE = Path(__file__).parent
ROOT = Path(package.__file__).parents[3]

MADE_UP = '''
"""A check that a contributor adds."""

from dsrface.doctor.checks.check import Check

LUCK = Check(
    id="env.luck",
    order=15,
    worst="warn",
    title="whether luck is at hand",
    why="Without luck nothing works.",
    how="By looking.",
    fix="Try again.",
    errors=("LuckError: none left",),
    runs={"machine": lambda check, machine: check.finding("warn", "there is no luck here")},
)
'''


@pytest.fixture
def made_up(tmp_path, monkeypatch):
    (tmp_path / "luck.py").write_text(MADE_UP)
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path)])
    registry.all_checks.cache_clear()
    yield
    monkeypatch.undo()
    registry.all_checks.cache_clear()
    sys.modules.pop("dsrface.doctor.checks.luck", None)


@pytest.mark.usefixtures("made_up")
def test_a_new_check_is_one_file_and_arrives_everywhere(capsys):
    from rich.console import Console

    ids = list(registry.all_checks())
    assert ids.index("env.python") < ids.index("env.luck") < ids.index("env.cpu")
    result = doctor.run(DoctorConfig(only=("env.luck",)), emit=lambda event: None)
    [entry] = result.to_dict()["checks"]
    assert (entry["id"], entry["status"], entry["severity"]) == ("env.luck", "warn", "warn")
    render_report(result.report, Console(width=80))
    assert "there is no luck here" in capsys.readouterr().out
    explained = doctor.run(DoctorConfig(explain="env.luck"), emit=lambda event: None)
    assert "LuckError: none left" in explained.summary
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    assert "LuckError: none left" in generate.checks_page()


def test_whose_line_raised_decides_who_is_to_blame():
    def users_code(check, context):
        raise ZeroDivisionError("a line of this test's, which stands for the user's")

    check = Check("env.bug", 1, "warn", "t", "w", "h", "f", runs={"machine": users_code})
    found = check.run("machine", None)
    assert (found.status, "could not be checked" in found.summary) == ("error", True)
    assert "test_registry.py" in found.where
    ours = check.guarded(lambda: registry.run_stage("machine", None, wanted=3).__next__())
    assert (ours.status, "this check broke" in ours.summary) == ("error", True)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "line", "id"),
    [
        ("checks/output.py", "    found = seen.batch_trace\n", "ds.output"),
        ("checks/items.py", "    data = {", "ds.items"),
        ("checks/consistency.py", "    if found is None:\n", "worker.consistency"),
        ("checks/members.py", "    size = trace.pickle_bytes\n", "ds.pickle_size"),
        ("proof/compare.py", "    found = Comparison()\n", "worker.fork"),
        ("survey/loading.py", "        before = read_state(self.roots)\n", "ds.items"),
        ("survey/passes.py", "    changed = [*changed_scalars", "ds.items"),
        ("sizing/measure.py", "    walls: list[float]", "perf.recommend"),
        ("sizing/sweep.py", "        begin = time.perf_counter()\n", "perf.recommend"),
        ("examination/number.py", "        facts = self._loader_facts(found, cost)\n", "perf.recommend"),
    ],
)
def test_a_planted_bug_never_blames_the_data(tmp_path, file, line, id):
    copy = tmp_path / "dsrface"
    shutil.copytree(ROOT / "dsrface", copy, ignore=shutil.ignore_patterns("__pycache__"))
    path = copy / "doctor" / file
    text = path.read_text(encoding="utf-8")
    assert text.count(line) >= 1
    indent = line[: len(line) - len(line.lstrip())]
    path.write_text(text.replace(line, f'{indent}raise ZeroDivisionError("bug of dsrface")\n{line}', 1))
    (tmp_path / "sound.py").write_text(
        "import torch\nfrom torch.utils.data import Dataset\n"
        "class D(Dataset):\n    def __len__(self): return 64\n"
        "    def __getitem__(self, index): return torch.tensor([index])\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "dsrface", "doctor", "--dataset", "sound.py:D", "--json", "--budget", "90"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    report = json.loads(done.stdout)
    statuses = {check["id"]: check["status"] for check in report["checks"]}
    assert "fail" not in statuses.values(), statuses
    broken = [check for check in report["checks"] if check["status"] == "error"]
    assert [check["id"] for check in broken] == [id]
    assert "this check broke" in broken[0]["summary"]
    assert "report it" in broken[0]["fix"]
    assert "confidence high" not in str(report["recommendation"])


def reached_from(module: str) -> dict[str, Path]:
    """Return every module of this package that importing one loads, read from its source."""
    todo, found = [module], {}
    while todo:
        name = todo.pop()
        base = ROOT / Path(*name.split("."))
        path = base.with_suffix(".py") if base.with_suffix(".py").is_file() else base / "__init__.py"
        if name in found or not path.is_file():
            continue
        found[name] = path
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("dsrface"):
                todo += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return found


def examined_modules() -> dict[str, Path]:
    found = reached_from("dsrface.doctor.process.child")
    for path in Path(package.__file__).parent.glob("*.py"):  # the registry imports them by name
        found.update(reached_from(f"dsrface.doctor.checks.{path.stem}"))
    for name in ("install", "service", "trial"):  # the hook of a launch does
        found.update(reached_from(f"dsrface.doctor.launch.{name}"))
    return found


def unions_of_types(tree: ast.AST) -> list[ast.BinOp]:
    """Return where `A | B` is evaluated: annotations are not."""
    for node in ast.walk(tree):
        for name in ("annotation", "returns"):
            if hasattr(node, name):
                setattr(node, name, None)
    names = {"int", "str", "float", "bytes", "list", "dict", "tuple", "set", "bool"}
    return [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.BinOp)
        and isinstance(node.op, ast.BitOr)
        and any(
            (name := getattr(side, "attr", getattr(side, "id", ""))) in names or name[:1].isupper()
            for side in (node.left, node.right)
            if not getattr(side, "attr", getattr(side, "id", "")).isupper()
        )
    ]


def test_what_runs_in_the_examined_process_keeps_to_python_3_9():
    for name, path in examined_modules().items():
        source = path.read_text(encoding="utf-8")
        tree = ast.parse(source, feature_version=(3, 9))
        assert "from __future__ import annotations" in source or not source.strip().count("\n"), name
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "zip":
                assert not any(keyword.arg == "strict" for keyword in node.keywords), name
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "dataclass":
                assert not any(keyword.arg in ("slots", "kw_only") for keyword in node.keywords), name
        assert not unions_of_types(tree), name


def test_what_runs_in_the_examined_process_needs_no_library_newer_than_python_3_9():
    pytest.importorskip("vermin")
    vermin = [sys.executable, "-c", "from vermin import main; main()", "-t=3.9-", "--no-tips", "--violations"]
    files = [str(path) for path in examined_modules().values()]
    done = subprocess.run([*vermin, *files], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_runs_in_the_examined_process_needs_only_torch():
    allowed = {*sys.stdlib_module_names, "torch", "dsrface"}
    optional = {
        "psutil",
        "PIL",
        "torchvision",
        "numpy",
        "cv2",
    }
    for name, path in examined_modules().items():
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            roots = {part.partition(".")[0] for part in names}
            assert roots <= allowed, (name, roots - allowed - optional)
