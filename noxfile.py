#!/usr/bin/env -S uv run --script
# /// script
# dependencies = ["nox>=2025.2.9"]
# ///
"""Everything that is checked, one session each; plain `nox` is what continuous integration runs.

The default sessions share one virtual environment, because torch alone fills gigabytes and minutes.
"""

from __future__ import annotations

import functools
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

import nox

nox.needs_version = ">=2025.2.9"
nox.options.reuse_venv = "yes"
nox.options.stop_on_first_error = False

ROOT = Path(__file__).parent
PROJECT = nox.project.load_toml(ROOT / "pyproject.toml")
PYTHON = ROOT / ".nox" / "environment" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")

# What says most about Windows: it takes hours, most of them the doctor's, which starts processes.
WINE_PARTS = [
    "tests/runtime",
    "tests/config",
    "tests/metrics",
    "tests/models",
    "tests/data",
    "tests/engine",
    "tests/cli",
    "tests/fuzz",
    "tests/faults",
    "tests/doctor",
    "tests/commands/test_prepare_names.py",
]

# A session in the shared environment: it has none of its own, and runs after `environment`.
shared = functools.partial(nox.session, venv_backend="none", requires=["environment"])


@nox.session(default=False)
def environment(session: nox.Session) -> None:
    """Install the package and every tool of the sessions below, at the tested versions."""
    tools = nox.project.dependency_groups(PROJECT, "test", "lint", "types", "site")
    session.install("-c", "constraints.txt", "-e", ".[faces,onnx,spandrel,tensorboard]", *tools)


@shared()
def lint(session: nox.Session) -> None:
    """Check style, formatting, which room imports which, and the repository's own files."""
    run(session, "-m", "ruff", "check", ".")
    run(session, "-m", "ruff", "format", "--check", ".")
    run(session, "-c", "from importlinter.cli import lint_imports_command as main; main()")
    run(session, "-m", "repo_review", ".")


@shared()
def types(session: nox.Session) -> None:
    """Check the types: the package strictly, the tests by `tests/mypy.ini`."""
    run(session, "-m", "mypy")
    run(session, "-m", "mypy", "--config-file", "tests/mypy.ini")


@shared()
def docs(session: nox.Session) -> None:
    """Check that the generated pages are what the program says."""
    run(session, "docs/generate.py", "--check")


@shared()
def site(session: nox.Session) -> None:
    """Build the site of the pages, strictly and without a network; arguments after -- go to mkdocs."""
    run(session, "-m", "mkdocs", "build", "-q", *session.posargs, env={"NO_MKDOCS_2_WARNING": "1"})


@shared(default=False)
def images(session: nox.Session) -> None:
    """Draw the README's first image again, from the program's own output; `-- --check` compares."""
    run(session, "docs/images/make.py", *session.posargs)


@shared()
def tests(session: nox.Session) -> None:
    """Run every test, the slow ones too; arguments after -- go to pytest."""
    arguments = session.posargs or ["-n", "logical", "--maxprocesses", "8", "--dist", "worksteal"]
    run(session, "-m", "pytest", *arguments)


@shared()
def browser(session: nox.Session) -> None:
    """Check the HTML pages with axe-core in a headless Chromium, where there are npm and chromium."""
    missing = [name for name in ("npm", "chromium") if shutil.which(name) is None]
    if missing:
        session.skip(f"without {' and '.join(missing)} no page can be looked at")
    folder = session.create_tmp()
    session.run("npm", "install", "--no-save", "--prefix", folder, "axe-core@4", external=True)
    axe = Path(folder) / "node_modules" / "axe-core" / "axe.min.js"
    pages = session.posargs or ["tests/commands/test_report_page.py", "tests/doctor/test_page.py"]
    run(session, "-m", "pytest", "-m", "browser", *pages, env={"DSRFACE_AXE": str(axe)})


@shared(default=False)
def tests_spawn(session: nox.Session) -> None:
    """Run the tests that start workers as on Windows and macOS: every loader spawns."""
    environment = {"DSRFACE_START_METHOD": "spawn"}
    arguments = session.posargs or ["tests/data", "tests/engine", "tests/commands", "tests/runtime"]
    run(session, "-m", "pytest", *arguments, env=environment)


@shared(default=False)
def fuzz(session: nox.Session) -> None:
    """Feed changed and random bytes to everything that reads a file, for minutes."""
    run(session, "-m", "pytest", "tests/fuzz", *session.posargs, env={"DSRFACE_FUZZ_EXAMPLES": "1500"})


@shared(default=False)
def faults(session: nox.Session) -> None:
    """Break every file operation of every command, flip bits, print a table; `-- --faults 20` is quick."""
    run(session, "-m", "tests.faults.campaign", *session.posargs)


@nox.session(default=False, venv_backend="none")
def wine(session: nox.Session) -> None:
    """Run parts of the tests in a Windows Python under Wine: nox -s wine -- ENVIRONMENT [arguments].

    ENVIRONMENT holds `bin/wine-python` and `prefix/drive_c`, and in its site-packages what the tests need.
    """
    if not session.posargs:
        session.error("give the folder of the Wine environment")
    environment, *arguments = session.posargs
    drive = Path(environment).resolve() / "prefix" / "drive_c"
    here = drive / "dsrface-tests"
    shutil.rmtree(here, ignore_errors=True)
    here.mkdir(parents=True)
    for name in (
        "dsrface",
        "tests",
        "docs",
        "benchmarks",
        "pyproject.toml",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "README.md",
    ):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy2
        copy(ROOT / name, here / name)
    with session.chdir(here):
        chosen = arguments or [*WINE_PARTS, "-m", "not slow and not gpu"]
        session.run(
            str(Path(environment).resolve() / "bin" / "wine-python"),
            *("-m", "pytest", "-p", "no:cacheprovider", *chosen),
            external=True,
        )


@shared(default=False)
def cover(session: nox.Session) -> None:
    """Measure which lines and branches the tests reach."""
    run(session, "-m", "coverage", "run", "--branch", "--source", "dsrface", "-m", "pytest", *session.posargs)
    run(session, "-m", "coverage", "report", "--skip-covered")


@shared(default=False)
def bench(session: nox.Session) -> None:
    """Measure this machine; arguments after -- go to `dsrface bench`."""
    run(session, "-m", "dsrface", "bench", *(session.posargs or ["all"]))


@nox.session(default=False)
def bench_peers(session: nox.Session) -> None:
    """Measure other loaders on the same data as our reader."""
    session.install("-c", "constraints.txt", ".[faces]")
    session.install("litdata", "mosaicml-streaming", "webdataset")
    session.run("python", "benchmarks/peers.py", *session.posargs)


@nox.session(default=False)
@nox.parametrize("part", ["doctor", "faces"])
def minimums(session: nox.Session, part: str) -> None:
    """Run the tests with the oldest versions that pyproject.toml allows: of the doctor alone, and of all."""
    wanted = list(PROJECT["project"]["dependencies"])
    tests = ["tests/doctor", "tests/config", "tests/runtime"]
    if part == "faces":
        extra = PROJECT["project"]["optional-dependencies"]["faces"]
        raised = {_name(text) for text in extra}
        wanted = [text for text in wanted if _name(text) not in raised] + extra
        tests = ["tests"]
    oldest = [re.sub(r">=([\w.]+).*", r"==\1", text) for text in wanted]
    session.install(*oldest, *nox.project.dependency_groups(PROJECT, "test"))
    session.install("--no-deps", "-e", ".")
    session.run("pytest", "-m", "not slow", *(session.posargs or tests))


def _name(requirement: str) -> str:
    """Return the name of a required package."""
    return re.split(r"\W", requirement, maxsplit=1)[0]


@nox.session(default=False)
def build(session: nox.Session) -> None:
    """Build the sdist and the wheel, install the wheel, and run it."""
    session.install("build")
    target = session.create_tmp()
    session.run("python", "-m", "build", "--outdir", target)
    [wheel] = Path(target).glob("*.whl")
    session.install("-c", "constraints.txt", str(wheel))
    with session.chdir(target):
        session.run("dsrface", "--version")
        session.run("dsrface", "doctor", "--json")


def run(session: nox.Session, *arguments: str, env: Mapping[str, str] | None = None) -> None:
    """Run the shared environment's Python, with one thread a process: test workers share the cores."""
    quiet = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"), "OMP_WAIT_POLICY": "PASSIVE"}
    session.run(str(PYTHON), *arguments, env={**quiet, **(env or {})})


if __name__ == "__main__":
    nox.main()
