"""Give every case of the zoo to the doctor, and judge the answers.

    python benchmarks/doctor_zoo/run.py [--method fork|spawn|forkserver|all] [--only NAME ...]
                                        [--kind KIND ...] [--sort fault|healthy] [--step 1]
                                        [--budget 20] [--patience 2] [--no-timing] [--launch WORKERS]
                                        [--json FILE] [--again wrong|all] [--table]
                                        [--markdown] [--plain] [--list]

Every case runs in a process of its own with a temporary folder of its own, and is ended after twice its
budget (`--patience`). One line a case is printed as it comes, then the confusion table. What `--json` holds
already is not run again, so the table can be made in pieces and, after a change, `--again wrong` runs only
what was not right. `--launch 0` puts the doctor in front of `train.py`, which iterates over the case with so
many workers, instead of naming the callable. `--plain` shows what a plain DataLoader does, with which the
declarations were checked. A case without its libraries is skipped.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "cases"))

import judge  # noqa: E402 - its folder and the declarations' are on the path only now
from declare import ALL, CASES, Case  # noqa: E402

MARK = "DSRFACE_ZOO_CASE"


def catalogue() -> list[Case]:
    """Return all cases, in the order of their files."""
    if not CASES:
        for file in sorted((HERE / "cases").glob("*.py")):
            if file.stem not in ("declare", "inputs"):
                importlib.import_module(file.stem)
    return CASES


def main() -> int:
    """Run the chosen cases; returns 0 when every answer is right."""
    options = _options()
    chosen = [
        (case, method)
        for method in (ALL if options.method == "all" else (options.method,))
        for is_fault in (True, False)
        if options.sort in ("all", "fault" if is_fault else "healthy")
        for case in [case for case in catalogue() if case.is_fault == is_fault and method in case.methods][
            :: options.step
        ]
        if (not options.only or case.name in options.only) and (not options.kind or case.kind in options.kind)
    ]
    if options.list:
        for case, method in chosen:
            sort = "fault" if case.is_fault else "healthy"
            print(f"{case.kind:14} {case.name:40} {method:10} {sort:7} {case.about}")
        return 0
    answers = _known(options.json)
    for case, method in chosen:
        key = case.name, method
        if options.table or (key in answers and not _is_run_again(answers[key][0], options.again)):
            continue
        answers[key] = _answer(case, method, options)
        print(_line(answers[key][0]), flush=True)
        if options.json:
            document = [
                dataclasses.asdict(verdict) | {"report": report} for verdict, report in answers.values()
            ]
            part = Path(f"{options.json}.part")
            part.write_text(json.dumps(document, indent=1))
            part.replace(options.json)
    verdicts = [answers[case.name, method][0] for case, method in chosen if (case.name, method) in answers]
    if not options.plain:
        for rows in (judge.by_method(verdicts), judge.by_kind(verdicts)):
            print(f"\n{judge.as_text(rows, is_markdown=options.markdown)}")
        skips = sum(verdict.outcome == "skipped" for verdict in verdicts)
        seconds = sum(verdict.seconds for verdict in verdicts)
        print(f"\n{skips} skipped for absent libraries; {seconds:.0f} s in all")
    return 0 if all(verdict.is_good for verdict in verdicts) else 1


def _known(file: str | None) -> dict[tuple[str, str], tuple[judge.Verdict, dict[str, Any] | None]]:
    """Return the answers that a file holds, by case and start method."""
    answers = {}
    if file is not None and Path(file).exists():
        for entry in json.loads(Path(file).read_text()):
            report = entry.pop("report")
            answers[entry["case"], entry["method"]] = judge.Verdict(**entry), report
    return answers


def _is_run_again(verdict: judge.Verdict, again: str) -> bool:
    return again == "all" or (again == "wrong" and not verdict.is_good)


def _answer(
    case: Case, method: str, options: argparse.Namespace
) -> tuple[judge.Verdict, dict[str, Any] | None]:
    limit_s = options.patience * options.budget
    if absent := case.absent():
        why = f"no {', '.join(absent)}"
        return judge.Verdict(
            case.name, case.kind, method, case.is_fault, case.is_silent, "skipped", why
        ), None
    if options.plain:
        return plain(case, method, limit_s)
    has_timing = not options.no_timing
    return examine(case, method, options.budget, limit_s, has_timing=has_timing, launch=options.launch)


def examine(
    case: Case,
    method: str,
    budget_s: float,
    limit_s: float,
    *,
    has_timing: bool = True,
    launch: int | None = None,
) -> tuple[judge.Verdict, dict[str, Any] | None]:
    """Let the doctor examine a case; it is ended after `limit_s`. Timing the settings fills the budget.

    With `launch` the doctor is put in front of a script that iterates over the case with so many workers.
    """
    command = [sys.executable, "-m", "dsrface", "doctor", "--start-method", method, "--json"]
    command += ["--budget", f"{budget_s:g}"]
    if not has_timing:
        command += ["--skip", "perf.recommend"]
    if launch is None:
        command += ["--dataset", case.target]
    else:
        command += ["--", sys.executable, str(HERE / "train.py"), case.target, str(launch)]
    done = _run(command, case, method, limit_s)
    try:
        report = json.loads(done.stdout)
        if launch is not None:
            report = report["loaders"][0]["report"]
    except (ValueError, KeyError, IndexError):
        report = None
    outcome, why = judge.judge(case, report)
    if report is None:
        why = (
            f"ended after {done.seconds:.0f} s"
            if done.code is None
            else f"exit {done.code}: {done.stderr[-200:]}"
        )
    verdict = judge.Verdict(
        case.name,
        case.kind,
        method,
        case.is_fault,
        case.is_silent,
        outcome,
        why,
        round(done.seconds, 1),
        done.code is None or done.seconds > judge.BUDGET_TOLERANCE * budget_s,
        bool(done.left_behind),
    )
    return verdict, report


def plain(case: Case, method: str, limit_s: float) -> tuple[judge.Verdict, dict[str, Any] | None]:
    """See what a plain DataLoader does with a case: 0 workers against 2."""
    done = _run(
        [sys.executable, str(HERE / "plain.py"), case.target, method],
        case,
        method,
        limit_s,
        ZOO_PAUSE_S="0.001",
    )
    try:
        seen = json.loads(done.stdout.splitlines()[-1])
    except (ValueError, IndexError):
        seen = {"word": "hangs" if done.code is None else "dies", "text": done.stderr.strip()[-200:]}
    is_declared = seen["word"] in case.plain
    why = seen["text"] if is_declared else f"declared {' or '.join(case.plain)}: {seen['text']}"
    verdict = judge.Verdict(
        case.name,
        case.kind,
        method,
        case.is_fault,
        case.is_silent,
        seen["word"] if is_declared else f"NOT {seen['word']}",
        why,
        round(done.seconds, 1),
    )
    return verdict, seen


@dataclasses.dataclass(frozen=True)
class _Done:
    code: int | None  # None: ended here, for it took too long
    stdout: str
    stderr: str
    seconds: float
    left_behind: list[int]


def _run(command: list[str], case: Case, method: str, limit_s: float, **variables: str) -> _Done:
    """Run a command for a case; whatever it starts is ended with it."""
    mark = f"{case.name}-{method}-{os.getpid()}-{time.monotonic_ns()}"
    with tempfile.TemporaryDirectory(prefix="zoo-", ignore_cleanup_errors=True) as folder:
        paths = [str(HERE.parents[1]), os.environ.get("PYTHONPATH", "")]
        environment = {
            **os.environ,
            **case.environment,
            **variables,
            MARK: mark,
            "TMPDIR": folder,
            "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        }
        start = time.monotonic()
        # Files, for a pipe would stay open in whatever a case leaves behind.
        with open(f"{folder}/stdout", "w+") as stdout, open(f"{folder}/stderr", "w+") as stderr:
            process = subprocess.Popen(
                command,
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                start_new_session=True,
            )
            code = _wait(process, limit_s)
            seconds = time.monotonic() - start
            if code is not None and any(_marked(mark)):
                time.sleep(1)  # what is just ending is not left behind
            left_behind = _end(mark)
            for file in (stdout, stderr):
                file.seek(0)
            texts = stdout.read(), stderr.read()
    return _Done(code, *texts, seconds, left_behind if code is not None else [])


def _wait(process: subprocess.Popen[bytes], limit_s: float) -> int | None:
    """Return the exit code; None for a process that had to be ended, which may first end what it started."""
    try:
        return process.wait(limit_s)
    except subprocess.TimeoutExpired:
        process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(3)
    process.kill()
    process.wait()
    return None


def _end(mark: str) -> list[int]:
    """End the processes that carry the mark of a case; returns their ids."""
    found = list(_marked(mark))
    for pid in found:
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)
    return found


def _marked(mark: str) -> Iterator[int]:
    import psutil

    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.pid != os.getpid() and process.environ().get(MARK) == mark:
                yield process.pid


def _line(verdict: judge.Verdict) -> str:
    late = " OVER BUDGET" if verdict.is_late else ""
    left = " LEFT PROCESSES" if verdict.is_littered else ""
    sort = "fault" if verdict.is_fault else "healthy"
    head = f"{verdict.outcome:11} {verdict.method:10} {sort:7} {verdict.case:40} {verdict.seconds:5.1f} s"
    return f"{head}{late}{left}  {verdict.why}".rstrip()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--method", choices=(*ALL, "all"), default="fork", help="start method of the workers")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="these cases")
    parser.add_argument("--kind", nargs="+", default=[], metavar="KIND", help="the cases of these files")
    parser.add_argument("--sort", choices=("all", "fault", "healthy"), default="all", help="these cases only")
    parser.add_argument("--step", type=int, default=1, metavar="N", help="every N-th case only")
    parser.add_argument("--budget", type=float, default=20.0, metavar="S", help="seconds for one examination")
    parser.add_argument("--patience", type=float, default=2.0, metavar="N", help="end a case after N budgets")
    parser.add_argument(
        "--no-timing", action="store_true", help="do not time numbers of workers, which fills the budget"
    )
    parser.add_argument("--launch", type=int, metavar="WORKERS", help="examine a script that uses the case")
    parser.add_argument("--json", metavar="FILE", help="keep the verdicts with the whole reports")
    parser.add_argument(
        "--again", choices=("wrong", "all"), default="", help="run what the file holds once more"
    )
    parser.add_argument("--markdown", action="store_true", help="print the table for docs/doctor.md")
    parser.add_argument("--table", action="store_true", help="run nothing, show what the file holds")
    parser.add_argument("--plain", action="store_true", help="what a plain DataLoader does")
    parser.add_argument("--list", action="store_true", help="name the cases only")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
