"""What a user sees when something is wrong: one shape, the family's exit code, never a traceback."""

from __future__ import annotations

import atexit
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import pytest

import dsrface.errors
from dsrface.cli import execute, main
from dsrface.config.sources import Config
from dsrface.errors import DataError, DsrfaceError, TrainingError

CLASSES = [
    kind
    for kind in vars(dsrface.errors).values()
    if isinstance(kind, type) and issubclass(kind, DsrfaceError)
]


class EchoConfig(Config):
    """Stands in for a command's configuration."""

    command: ClassVar[str] = "export"
    source: Path = Path()


class Result:
    """Stands in for a command's result."""

    summary = "done [/bold] well"
    location = "[/x/y]"
    next_command = "dsrface evaluate [/x/y]"
    exit_code = 0

    def to_dict(self):
        return {"summary": self.summary}


@pytest.fixture
def behave(monkeypatch):
    """Make `dsrface export` do what a test wants."""

    def install(function):
        class Module:
            run = staticmethod(function)

        monkeypatch.setattr(execute, "import_command", lambda name: Module)
        monkeypatch.setattr(execute, "schema_of", lambda name: EchoConfig)

    return install


def _raise(error):
    def run(config, *, emit):
        raise error

    return run


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_every_error_can_be_built_from_one_string_and_pickled(kind):
    plain = kind("what happened")
    assert (plain.id, plain.where, plain.hint) == (kind.default_id, "", "")
    full = kind("what happened", id="some-id", where=Path("a/b"), hint="do this")
    copy = pickle.loads(pickle.dumps(full))
    assert type(copy) is kind
    assert copy.as_dict() == full.as_dict()
    assert str(copy) == str(full)


def test_families_have_codes_of_their_own():
    families = [kind for kind in CLASSES if DsrfaceError in kind.__bases__]
    codes = [kind.exit_code for kind in families]
    assert sorted(codes) == [2, 3, 4, 5, 6, 7, 8]
    assert len({kind.default_id for kind in CLASSES}) == len(CLASSES)


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_an_error_ends_with_its_familys_code_and_says_what_where_and_what_to_do(call, behave, kind):
    behave(
        _raise(
            kind("It [bold]broke[/bold].", id="some-id", where="[/x/y]/ü.png", hint="Mend it.\nThen again.")
        )
    )
    done = call("export", "x")
    assert done.code == kind.exit_code
    assert done.out == ""
    assert done.err.splitlines() == [
        "error: It [bold]broke[/bold].",
        "  where  [/x/y]/ü.png",
        "  to do  Mend it.",
        "         Then again.",
        f"  about  dsrface explain some-id, exit code {kind.exit_code}",
    ]


def test_with_json_an_error_is_one_object_on_stderr(call, behave):
    behave(_raise(TrainingError("NaN.", id="non-finite", where="step 7")))
    done = call("export", "x", "--json")
    assert done.code == 6
    assert done.out == ""
    assert done.error == {
        "error": "non-finite",
        "family": "TrainingError",
        "exit_code": 6,
        "message": "NaN.",
        "where": "step 7",
        "hint": "",
    }


def test_an_error_without_a_hint_says_what_is_to_do_about_all_of_its_id(call, behave):
    behave(_raise(DataError("None of 2 photos can be used.", id="nothing-usable")))
    assert "  to do  Mend or copy again what the message names" in call("export", "x").err
    assert call("export", "x", "--json").error["hint"].startswith("Mend or copy again")


@pytest.mark.parametrize(
    "arguments",
    [
        ["prepare", "--bogus"],
        ["bogus"],
        ["config", "show"],
        ["cache"],
        ["bench", "x"],
        ["prepare", "a", "b", "c"],
    ],
)
def test_a_command_line_that_cannot_be_parsed(call, arguments):
    plain, json = call(*arguments), call(*arguments, "--json")
    assert plain.code == json.code == 2
    assert plain.err.startswith("error: ")
    assert "--help" in plain.err
    assert json.error["family"] == "UsageError"
    assert plain.out == json.out == ""


def test_a_mistyped_command_is_met_with_the_nearest_one(call):
    assert "'train-dsr'" in call("trian-dsr").err


def test_a_missing_argument_is_named_and_points_to_the_help(call):
    done = call("prepare")
    assert done.code == 2
    assert "SOURCE is missing." in done.err
    assert "dsrface prepare --help" in done.err


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("optm.lr=1", "Unknown key 'optm.lr' (from --set). Did you mean 'optim.lr'?"),
        ("epochs=many", "epochs = 'many' (from --set)"),
        ("epochs", "--set takes key=value"),
        ("epochs.x=1", "epochs"),
    ],
)
def test_a_wrong_set_is_explained(call, text, expected):
    done = call("train-dsr", "data", "--vlr-size", "16", "--set", text)
    assert done.code == 2
    assert expected in done.err
    assert "pydantic" not in done.err


def test_a_bug_of_ours_saves_its_traceback(call, behave, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    behave(_raise(ZeroDivisionError("by [/nought]")))
    done = call("export", "x")
    assert done.code == 70
    assert "ZeroDivisionError: by [/nought]" in done.err
    assert "Traceback" not in done.err
    [saved] = tmp_path.glob("dsrface-*.txt")
    assert str(saved) in done.err
    assert "Traceback" in saved.read_text(encoding="utf-8")
    assert "Traceback" in call("export", "x", "-vv").err


def test_interrupts_have_the_shells_codes(call, behave):
    behave(_raise(KeyboardInterrupt()))
    assert call("export", "x").code == 130
    behave(_raise(SystemExit(143)))
    assert call("export", "x").code == 143


def test_what_goes_on_where_it_was_interrupted_is_said(call, behave, monkeypatch):
    monkeypatch.setattr("sys.argv", ["dsrface", "export", "a b"])
    behave(_raise(KeyboardInterrupt()))
    assert "next" not in call("export", "a b").err
    monkeypatch.setattr(EchoConfig, "goes_on", True)
    assert "what is finished is kept\nnext   dsrface export " in call("export", "a b").err


def test_a_training_that_was_broken_off_is_met_with_how_to_resume(call, behave, monkeypatch, tmp_path):
    class Training(EchoConfig):
        data: Path = Path("d")
        run: Path = tmp_path

    monkeypatch.setattr(
        execute, "import_command", lambda name: SimpleNamespace(run=_raise(KeyboardInterrupt()))
    )
    monkeypatch.setattr(execute, "schema_of", lambda name: Training)
    monkeypatch.setattr(execute, "look_first", lambda config: None)
    assert "--resume" not in call("export", "x").err
    (tmp_path / "best.json").touch()
    assert "--resume" in call("export", "x").err


def test_a_full_disk_is_no_bug_of_ours(call, behave):
    behave(_raise(OSError(28, "No space left on device", "out.bin")))
    done = call("export", "x", "--json")
    assert done.code == 5
    assert done.error["error"] == "disk-full"


def test_a_lack_of_memory_is_no_bug_of_ours(call, behave):
    behave(_raise(RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB.\nMore follows.")))
    done = call("export", "x", "--json")
    assert done.code == 6
    assert done.error["error"] == "out-of-memory"
    assert done.error["message"].endswith("2.00 GiB.")


def test_a_rank_leaves_at_once(monkeypatch, capsys):
    """The interpreter's usual end may wait for NCCL, and so for the other ranks, or be aborted by gloo."""
    left: list[int] = []

    def leave(code: int) -> None:
        left.append(code)
        raise SystemExit

    monkeypatch.setattr(os, "_exit", leave)
    monkeypatch.setattr(atexit, "_run_exitfuncs", lambda: None)
    with pytest.raises(SystemExit):
        main(["config", "show", "nothing"])
    assert left == []
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(SystemExit):
        main(["config", "show", "nothing"])
    assert left == [2]
    with pytest.raises(SystemExit):
        main(["--version"])
    assert left == [2, 0]


def test_the_three_facts_close_a_command_and_no_text_is_markup(call, behave):
    behave(lambda config, *, emit: Result())
    done = call("export", "x")
    assert done.code == 0
    assert done.out == "done [/bold] well\nwhere  [/x/y]\nnext   dsrface evaluate [/x/y]\n"


def test_with_json_stdout_holds_the_document_alone(call, behave):
    def run(config, *, emit):
        print("a library says hello")
        return Result()

    behave(run)
    done = call("export", "x", "--json")
    assert done.document == {"summary": Result.summary}
    assert "hello" in done.err


def test_only_one_rank_prints_the_result(call, behave, monkeypatch):
    behave(lambda config, *, emit: Result())
    monkeypatch.setenv("RANK", "1")
    assert call("export", "x").out == ""


@pytest.mark.parametrize("path", ["[/x/y]", "[red]a[/red]", ":smile:", "ü ñ/[bold", "a'b\"c"])
def test_user_text_never_reaches_markup(call, path):
    done = call("prepare", path, "data")
    assert done.code == 3
    assert str(Path(path)) in done.err


SLEEPER = (
    "import sys, time\n"
    "from dsrface.cli import execute, main\n"
    "class Module:\n"
    "    @staticmethod\n"
    "    def run(config, *, emit):\n"
    "        print('ready', flush=True); {body}\n"
    "execute.import_command = lambda name: Module\n"
    "main(['demo'])\n"
)


def start_sleeper(folder: Path, body: str = "time.sleep(60)", **options) -> subprocess.Popen[str]:
    child = subprocess.Popen(
        [sys.executable, "-c", SLEEPER.format(body=body)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
        **options,
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    time.sleep(0.2)
    return child


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
@pytest.mark.slow
@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)])
def test_a_signal_ends_the_process_in_order(tmp_path, name, code):
    child = start_sleeper(tmp_path)
    child.send_signal(getattr(signal, name))
    _, err = child.communicate(timeout=30)
    assert child.returncode == code
    assert err.strip() in ("interrupted", "terminated")


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
@pytest.mark.slow
@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)])
def test_a_signal_that_comes_while_an_object_is_deleted_is_not_lost(tmp_path, name, code):
    deletion = "type('Late', (), {'__del__': lambda self: time.sleep(3)})(); time.sleep(60)"
    child = start_sleeper(tmp_path, deletion)
    child.send_signal(getattr(signal, name))
    _, err = child.communicate(timeout=30)
    assert child.returncode == code
    assert err.strip() in ("interrupted", "terminated")


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
@pytest.mark.slow
def test_a_closed_terminal_ends_nothing_under_nohup_and_a_stop_is_a_pause(tmp_path):
    child = start_sleeper(tmp_path, preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    for signum in (signal.SIGHUP, signal.SIGSTOP, signal.SIGCONT):
        child.send_signal(signum)
    with pytest.raises(subprocess.TimeoutExpired):
        child.wait(1)
    child.terminate()
    child.communicate(timeout=30)
    assert child.returncode == 143


@pytest.mark.skipif(os.name != "nt", reason="Windows' console events")
def test_ctrl_break_and_a_closed_window_end_the_process_in_order(tmp_path):
    child = start_sleeper(tmp_path, creationflags=subprocess.CREATE_NEW_PROCESS_GROUP)  # type: ignore[attr-defined]
    try:
        child.send_signal(signal.CTRL_BREAK_EVENT)  # type: ignore[attr-defined]
    except OSError as error:
        child.kill()
        pytest.skip(f"no console that could send it: {error}")
    _, err = child.communicate(timeout=30)
    assert (child.returncode, err.strip()) == (143, "terminated")


@pytest.mark.skipif(os.name == "nt", reason="POSIX pipes")
def test_a_reader_that_goes_away_is_no_error():
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", f"{sys.executable} -m dsrface config init finetune | head -n 1"],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stderr == ""
    assert done.stdout.startswith("# Configuration of `dsrface finetune`")
