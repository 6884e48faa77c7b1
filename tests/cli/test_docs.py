"""The pages say what the program does: generated ones fresh, ids listed, commands valid, links alive."""

from __future__ import annotations

import ast
import re
import shlex
from pathlib import Path

import pytest

import dsrface.errors
from dsrface.cli import execute
from dsrface.config.sources import resolve
from dsrface.errors import DsrfaceError
from dsrface.runtime.error_texts import families

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")])
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def test_generated_pages_are_fresh(generate):
    for name, page in generate.PAGES.items():
        assert (ROOT / "docs" / name).read_text(encoding="utf-8") == page(), (
            f"run python docs/generate.py ({name})"
        )


def _ids_in_source():
    """Every literal `id=` of an error or of a worker's death, with the file it is in."""
    found = {}
    for path in sorted((ROOT / "dsrface").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
            is_error = name.endswith("Error") or path.name == "worker_death.py"
            for keyword in node.keywords:
                if is_error and keyword.arg == "id" and isinstance(keyword.value, ast.Constant):
                    found[keyword.value.value] = path
    for kind in vars(dsrface.errors).values():
        if isinstance(kind, type) and issubclass(kind, DsrfaceError):
            found[kind.default_id] = ROOT / "dsrface" / "errors.py"
    return found


def test_every_error_id_is_explained_and_no_other():
    listed = [text.id for family in families() for text in family.errors]
    assert len(listed) == len(set(listed)), "an id is listed twice"
    found = _ids_in_source()
    missing = {id: str(path.relative_to(ROOT)) for id, path in found.items() if id not in listed}
    assert not missing, f"add them to dsrface/runtime/error_texts.toml: {missing}"
    assert not set(listed) - set(found), "these ids are no longer in the source"
    assert all(re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", id) for id in found)


def _command_lines():
    for page in PAGES:
        for language, body in FENCE.findall(page.read_text(encoding="utf-8")):
            if language not in ("", "console", "bash", "sh", "powershell"):
                continue
            for line in body.replace("\\\n", " ").splitlines():
                for part in re.split(r"&&|\|", line):
                    words = part.partition(" #")[0].split("dsrface ", 1)
                    is_ours = re.search(r"(^|\s|-m )dsrface ", part) and "pip install" not in part
                    if is_ours and not part.lstrip().startswith("#"):
                        yield pytest.param(words[1].strip(), id=f"{page.name}: {part.strip()[:60]}")


@pytest.mark.parametrize("line", sorted(_command_lines(), key=str))
def test_commands_in_the_pages_are_accepted(call, monkeypatch, line):
    """Parsed and resolved to a valid configuration, not run."""

    def only_resolve(name, output, sources, *, render=None):
        settings = {"config_file": sources.config_file, "assignments": sources.assignments}
        resolve(execute.schema_of(name), preset=sources.preset, flags=sources.flags, **settings)

    monkeypatch.setattr(execute, "execute", only_resolve)
    words = [word for word in shlex.split(line) if not word.startswith("$")]  # a variable may be empty
    for word in words:
        if word.endswith(".toml") and "--out" not in words:
            Path(word).parent.mkdir(parents=True, exist_ok=True)
            complete = 'data = "d"\nvlr_size = 16\n' + ("no_dsr = true\n" if words[0] == "finetune" else "")
            Path(word).write_text(complete, encoding="utf-8")
    done = call(*words)
    assert done.code == 0, done.err


def test_torchrun_leaves_our_flags_alone():
    """Without `--` its parser takes our `--run` for an abbreviation of a flag of its own."""
    from torch.distributed.run import get_args_parser

    fences = [body for page in PAGES for _, body in FENCE.findall(page.read_text(encoding="utf-8"))]
    commands = re.findall(r"torchrun .* dsrface .*", "\n".join(fences))
    assert len(commands) >= 3
    for command in commands:
        parsed = get_args_parser().parse_args(shlex.split(command)[1:])
        assert parsed.training_script == "dsrface", command
        assert parsed.training_script_args[0] in ("precompute", "finetune"), command


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files_and_headings(page):
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        assert file.exists(), f"{page.name} links to {target}"
        if anchor and file.suffix == ".md":
            headings = re.findall(r"^#+ (.+)$", file.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in [_anchor(heading) for heading in headings], f"{page.name} links to {target}"


def _anchor(heading):
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_named_in_prose_exist(page, generate):
    """`dsrface something` in backticks names a command that there is."""
    known = {path.partition(" ")[0] for path, _ in generate.walk()}
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    for word in re.findall(r"`(?:\$ )?dsrface ([a-z][a-z-]+)", text):
        assert word in known, f"{page.name} speaks of dsrface {word}"
