"""The repository's own files: what contributors rely on and nothing else would notice."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import pytest

from dsrface import __version__

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
SLOW_TO_IMPORT = {"timm", "torchvision", "sklearn", "skimage", "spandrel", "onnx", "onnxruntime"}


@pytest.mark.parametrize("path", sorted((ROOT / "tests").rglob("*.py")), ids=lambda path: path.name)
def test_collection_imports_nothing_slow(path):
    """Each of these takes a second or more; tests import them inside, so that one test starts soon."""
    top = ast.parse(path.read_text(encoding="utf-8")).body
    names = {alias.name for node in top if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module or "" for node in top if isinstance(node, ast.ImportFrom) and not node.level}
    assert not {name.partition(".")[0] for name in names} & SLOW_TO_IMPORT


def test_the_sdist_has_what_the_noxfile_runs():
    included = {name.lstrip("/") for name in PROJECT["tool"]["hatch"]["build"]["targets"]["sdist"]["include"]}
    text = (ROOT / "noxfile.py").read_text(encoding="utf-8")
    named = set(re.findall(r'"((?:benchmarks|docs|tests)/[\w./]+|constraints\.txt)"', text))
    assert named
    for name in named:
        assert name.partition("/")[0] in included, name
    assert {name for name in included if not (ROOT / name).exists()} == set()


def test_the_citation_names_this_version():
    assert f"\nversion: {__version__}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")


def test_the_oldest_pytest_is_written_once():
    minimum = PROJECT["tool"]["pytest"]["ini_options"]["minversion"]
    assert f"pytest>={minimum}" in PROJECT["dependency-groups"]["test"]


def test_the_readme_of_an_index_has_no_relative_link():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for item in PROJECT["tool"]["hatch"]["metadata"]["hooks"]["fancy-pypi-readme"]["substitutions"]:
        text = re.sub(item["pattern"], item["replacement"], text)
    assert not re.findall(r"\]\((?!https?:)", text)
    assert "doctor.svg" not in text
