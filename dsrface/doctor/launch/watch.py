"""Inside a launched process: which DataLoaders it iterates over, what a step takes, and when to examine.

Installed by `hook/sitecustomize.py` once torch's DataLoader is there. Works on the Python and torch of the
command: standard library and torch only, syntax of Python 3.9.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import multiprocessing
import os
import sys
import time
import traceback
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dsrface.doctor.launch.patience import NoBatch, Patience
from dsrface.doctor.launch.timing import Backwards, StepTimes
from dsrface.runtime.user_code import error_in

if TYPE_CHECKING:
    from dsrface.doctor.launch.beginning import Beginning

MADE_AT = "_dsrface_made_at"
_EXAMINED = "_dsrface_examined"
_LONGEST_S = 8.0
_FEWEST_STEPS = 3
_STARTS, _LONGEST_START_S = 4.0, 300.0  # workers that import torch at once take longer than one process did
_SLOW_S = 30.0  # after which one step is enough, and no batch is waited for any more
# A loop without backward is validation at first; the training that comes after it is what was asked about.
_PATIENCE_WITH_VALIDATION = 4
_MOST_BEGINNINGS = 8  # of loaders that are alive; a script may make one for each of its tasks
AHEAD = 5  # batches by which another rank may be ahead of the one that speaks


class Stopped(SystemExit):
    """Ends the command after the examination, as sys.exit does: `finally` and atexit run."""


@dataclass(frozen=True)
class Ending:
    """Why a loop has ended before it was examined; nothing of it for one that was due.

    Args:
        raised: The traceback of what the loader has raised.
        waited_s: How long a batch was waited for that did not come.
        script_raised: The error that has ended the script itself, in a line.
    """

    raised: str = ""
    waited_s: float = 0.0
    script_raised: str = ""


class Watch:
    """What is known of this process's loaders.

    Args:
        settings: Of the launch; see `session.launched`.
        import_s: What this process needed to import torch; spawned workers need it too.
    """

    is_patient = True  # about a batch of workers, for a time

    def __init__(self, settings: dict[str, Any], *, import_s: float = 0.0) -> None:
        self.settings = settings
        self.patience_s = max(_SLOW_S, min(_LONGEST_START_S, _STARTS * import_s))
        self.pid = os.getpid()
        self.examined = 0
        self.is_stopped = False
        self.is_examining = False  # the examination makes loaders of its own
        self.busy: set[int] = set()  # loaders inside their own next(): their parts iterate too
        self.doctor: Any = None
        self.waiting: dict[int, tuple[Any, StepTimes]] = {}
        self.beginnings: dict[int, Beginning] = {}  # by loader
        self.backwards = Backwards()
        self.passed_by: set[int] = set()  # loaders whose loop ended without training

    def wrap(self, cls: Any, *, as_torch: Callable[[Any], Any] = lambda loader: loader) -> None:
        """Replace the `__iter__` that a class itself defines by one that is watched.

        Args:
            cls: Of loaders.
            as_torch: Returns the DataLoader that stands for one of them; None where there is none.
        """
        original = cls.__dict__.get("__iter__")
        if original is None or hasattr(original, "watched_by_dsrface"):
            return

        @functools.wraps(original)
        def iterate(iterated: Any) -> Any:
            if self.is_examining:
                return original(iterated)
            loader = as_torch(iterated)
            if loader is None or not self.concerns(loader):
                return original(iterated)
            self.loop_begins(loader)
            times = self.times_of(loader)
            self.busy.add(id(loader))
            try:
                inner = times.start(lambda: iter(original(iterated)))
            except Exception:  # what cannot be sent to a spawned worker raises here
                self.busy.discard(id(loader))
                self.loop_failed(loader, times)
                raise
            finally:
                self.busy.discard(id(loader))
            return Watched(self, loader, inner, times)

        iterate.watched_by_dsrface = True  # type: ignore[attr-defined]
        cls.__iter__ = iterate

    def concerns(self, loader: Any) -> bool:
        """Return whether an iteration that begins is to be watched.

        Raises:
            RuntimeError: a worker imports a script that iterates outside of a main guard; as multiprocessing
                does for a loader that has workers.
        """
        from torch.utils.data import get_worker_info

        if self.is_examining or get_worker_info() is not None or id(loader) in self.busy:
            return False
        if getattr(multiprocessing.current_process(), "_inheriting", False):
            raise RuntimeError(
                "An attempt has been made to start a new process before the current process has finished its "
                "bootstrapping phase: this script iterates over a DataLoader when it is imported."
            )
        if self.pid != os.getpid():  # a rank that was forked
            self.__init__(self.settings)  # type: ignore[misc]
        if self.is_stopped:
            raise Stopped(0)
        return _EXAMINED not in loader.__dict__ and self.examined < self.settings["loaders"]

    def loop_begins(self, loader: Any) -> None:
        """Remember this process as it is before any item of a loader is loaded in it."""
        from dsrface.doctor.launch.beginning import Beginning

        if id(loader) in self.beginnings or len(self.beginnings) >= _MOST_BEGINNINGS:
            return
        self.is_examining = True  # in the copy that is made now
        try:
            self.beginnings[id(loader)] = Beginning(loader)
            weakref.finalize(loader, self.beginnings.pop, id(loader), None)
        except Exception:  # noqa: BLE001 - of foreign objects; the loader is examined as it is, then
            traceback.print_exc()
        finally:
            self.is_examining = False

    def times_of(self, loader: Any) -> StepTimes:
        """Return where the times of an iteration that begins are kept."""
        del loader
        self.backwards.listen()
        return StepTimes(backwards_before=self.backwards.calls)

    def take(self, batch: Any) -> None:
        """See a batch before the loop gets it."""

    def more_facts(self) -> dict[str, Any]:
        """Return what the doctor shall know besides the loader's facts."""
        return {}

    def is_due(self, times: StepTimes, started: float) -> bool:
        """Return whether enough steps were seen."""
        from torch import is_grad_enabled

        is_wanted = self.is_wanted(times)
        patience = 1 if is_wanted else _PATIENCE_WITH_VALIDATION
        steps: int = self.settings["steps"] * patience
        if rank() > 0:
            return times.num_steps >= steps + AHEAD
        spent_s = time.perf_counter() - started
        is_long = spent_s > _LONGEST_S * patience and times.num_steps >= _FEWEST_STEPS
        is_long = is_long or (spent_s > _SLOW_S and times.num_steps > 0)
        return times.num_steps >= steps or (is_long and (is_wanted or is_grad_enabled()))

    def is_wanted(self, times: StepTimes) -> bool:
        """Return whether a loop is one to examine: training, where only one is examined."""
        return bool(self.settings["loaders"] > 1 or self.backwards.calls > times.backwards_before)

    def loop_ended(self, loader: Any, times: StepTimes) -> None:
        """Examine a loader whose loop is shorter than the steps that are wanted.

        One that does not train is passed by once: its second epoch would have come after the training.
        """
        from torch import is_grad_enabled

        if self.is_wanted(times) or (id(loader) in self.passed_by and is_grad_enabled()):
            self.examine(loader, times)
        self.passed_by.add(id(loader))

    def loop_failed(self, loader: Any, times: StepTimes) -> None:
        """Examine a loader that is raising: its script may end by it."""
        self.examine(loader, times, Ending(raised=traceback.format_exc()))

    def batch_failed_to_come(self, loader: Any, times: StepTimes, *, waited_s: float) -> None:
        """Examine a loader whose workers hang, or are very slow."""
        self.examine(loader, times, Ending(waited_s=waited_s))

    def see(self, loader: Any, times: StepTimes) -> None:
        """Remember a loader whose loop ended early, for the end of the process."""
        if not self.waiting:
            atexit.register(self._at_exit, getattr(sys.modules.get("__main__"), "__file__", None))
        self.waiting[id(loader)] = (loader, times)

    def _at_exit(self, script: str | None) -> None:
        if self.examined or self.pid != os.getpid() or self.is_stopped:
            return
        if script is not None:  # Python has forgotten it by now, and spawned workers import it
            sys.modules["__main__"].__file__ = script
        loader, times = max(self.waiting.values(), key=lambda seen: seen[1].num_steps)
        error = getattr(sys, "last_value", None)  # set where an error has ended the script
        lines = traceback.format_exception_only(type(error), error) if error is not None else []
        self.examine(loader, times, Ending(script_raised=error_in("".join(lines))))

    def examine(self, loader: Any, times: StepTimes, ending: Ending | None = None) -> None:
        """Have the doctor examine a loader here and now; stops the process unless it is to go on.

        Args:
            loader: It.
            times: Of its loop.
            ending: Why its loop has ended, where it was not due.

        Raises:
            Stopped: the examination was all that was wanted.
        """
        from dsrface.doctor.proof.seeding import preserved

        loader.__dict__[_EXAMINED] = True
        self.waiting.pop(id(loader), None)
        self.examined += 1
        self.is_examining = True
        try:
            beginning = self.beginnings.pop(id(loader), None)
            with preserved(loader), beginning.in_force() if beginning else contextlib.nullcontext():
                self._ask(loader, times, beginning, ending or Ending())
        finally:
            self.is_examining = False
        if self.is_stopped:
            raise Stopped(0)

    def examine_meanwhile(self, loader: Any, times: StepTimes) -> None:
        """Have the doctor examine a loader, in a copy of this process, that still loads a batch right here.

        Called in another thread: items that are slow, or never end, would keep the doctor waiting.
        """
        beginning = self.beginnings.get(id(loader))
        if _EXAMINED in loader.__dict__ or beginning is None or not beginning.has_copy:
            return
        loader.__dict__[_EXAMINED] = True
        self.examined += 1
        self._ask(
            loader, times, self.beginnings.pop(id(loader)), Ending(waited_s=self.patience_s), is_busy=True
        )

    def _ask(
        self,
        loader: Any,
        times: StepTimes,
        beginning: Beginning | None,
        ending: Ending,
        *,
        is_busy: bool = False,
    ) -> None:
        from dsrface.doctor.launch.service import Doctor

        if self.doctor is None:
            self.doctor = Doctor(self.settings, rank=rank())
        self.is_stopped = self.doctor.examine(
            loader,
            times,
            beginning,
            made_at=loader.__dict__.get(MADE_AT, ""),
            more_facts={**vars(ending), **self.more_facts()},
            is_busy=is_busy,
        )


class Watched:
    """The iterator that a loop gets: its loader's own, timed.

    Args:
        watch: Of this process.
        loader: That is iterated over.
        inner: Its own iterator.
        times: Filled.
    """

    def __init__(self, watch: Watch, loader: Any, inner: Any, times: StepTimes) -> None:
        self._watch = watch
        self._loader = loader
        self._inner = inner
        self._times = times
        self._started = time.perf_counter()
        self._patience: Patience | None = None
        if watch.is_patient:
            meanwhile = functools.partial(watch.examine_meanwhile, loader, times)
            has_workers = getattr(loader, "num_workers", 0) > 0
            self._patience = Patience(watch.patience_s, None if has_workers else meanwhile)

    def __iter__(self) -> Iterator[Any]:
        return self

    def __len__(self) -> int:
        return len(self._inner)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def __next__(self) -> Any:
        watch = self._watch
        if watch.is_stopped:
            raise Stopped(0)
        is_watched = _EXAMINED not in self._loader.__dict__
        if is_watched:
            self._times.step_ended()
            if watch.is_due(self._times, self._started):
                is_watched = False
                self._end_patience()
                watch.examine(self._loader, self._times)
        watch.busy.add(id(self._loader))
        try:
            batch = self._fetch()
        except StopIteration:
            self._end_patience()
            if is_watched and self._times.num_steps:
                watch.loop_ended(self._loader, self._times)
            raise
        except Exception:
            watch.busy.discard(id(self._loader))
            self._end_patience()
            if is_watched:
                watch.loop_failed(self._loader, self._times)
            raise
        finally:
            watch.busy.discard(id(self._loader))
        if watch.is_stopped:  # while the batch was waited for
            raise Stopped(0)
        is_watched = is_watched and _EXAMINED not in self._loader.__dict__
        watch.take(batch)
        self._times.handed()
        if is_watched and not self._times.num_steps:
            watch.see(self._loader, self._times)
        return batch

    def _fetch(self) -> Any:
        """Return the next batch; where none comes the loader is examined, and then waited for again."""
        patience = self._patience
        if patience is not None:
            try:
                return self._times.wait(lambda: patience.wait(self._inner.__next__))
            except NoBatch:
                waited_s = patience.limit_s
                self._end_patience()
                self._watch.busy.discard(id(self._loader))
                self._watch.batch_failed_to_come(self._loader, self._times, waited_s=waited_s)
        return self._times.wait(self._inner.__next__)

    def _end_patience(self) -> None:
        if self._patience is not None:
            self._patience.end()
        self._patience = None


def rank() -> int:
    """Return this process's rank among those that train together; 0 when it is alone."""
    distributed = sys.modules.get("torch.distributed")
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        return int(distributed.get_rank())
    for name in ("RANK", "SLURM_PROCID", "LOCAL_RANK"):
        if os.environ.get(name, "").isdigit():
            return int(os.environ[name])
    return 0
