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
from collections.abc import Mapping
from pathlib import Path

import nox

nox.needs_version = ">=2025.2.9"
nox.options.reuse_venv = "yes"
nox.options.stop_on_first_error = False

ROOT = Path(__file__).parent
PROJECT = nox.project.load_toml(ROOT / "pyproject.toml")
PYTHON = ROOT / ".nox" / "environment" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")

# A session in the shared environment: it has none of its own, and runs after `environment`.
shared = functools.partial(nox.session, venv_backend="none", requires=["environment"])


@nox.session(default=False)
def environment(session: nox.Session) -> None:
    """Install the package and every tool of the sessions below, at the tested versions."""
    tools = nox.project.dependency_groups(PROJECT, "test", "lint", "types", "site")
    session.install("-c", "constraints.txt", "-e", ".[onnx,spandrel,tensorboard]", *tools)


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
def pictures(session: nox.Session) -> None:
    """Draw the README's picture again, from the program's own output; `-- --check` compares."""
    run(session, "docs/pictures/make.py", *session.posargs)


@shared()
def tests(session: nox.Session) -> None:
    """Run every test, the slow ones too; arguments after -- go to pytest."""
    arguments = session.posargs or ["-n", "logical", "--maxprocesses", "8", "--dist", "worksteal"]
    run(session, "-m", "pytest", *arguments)


@shared(default=False)
def tests_spawn(session: nox.Session) -> None:
    """Run the tests that start workers as on Windows and macOS: every loader spawns."""
    environment = {"DSRFACE_START_METHOD": "spawn"}
    arguments = session.posargs or ["tests/data", "tests/engine", "tests/commands", "tests/runtime"]
    run(session, "-m", "pytest", *arguments, env=environment)


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
    session.install("-c", "constraints.txt", ".")
    session.install("litdata", "mosaicml-streaming", "webdataset")
    session.run("python", "benchmarks/peers.py", *session.posargs)


@nox.session(default=False)
def minimums(session: nox.Session) -> None:
    """Run the tests with the oldest versions that pyproject.toml allows."""
    oldest = [re.sub(r">=([\w.]+).*", r"==\1", text) for text in PROJECT["project"]["dependencies"]]
    session.install(*oldest, *nox.project.dependency_groups(PROJECT, "test"))
    session.install("--no-deps", "-e", ".")
    session.run("pytest", "-m", "not slow", *session.posargs)


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
