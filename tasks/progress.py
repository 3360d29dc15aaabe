"""Progress that a person sees: bars on a terminal, a line now and then in a log."""

import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

_TERMINAL = "FETALFLEX_TERMINAL"
# A stage's output passes through the walk to the terminal, so the stage is told that one is at the other end.
console = Console(stderr=True, highlight=False, force_terminal=True if os.environ.get(_TERMINAL) else None)
_LINE_EVERY_S = 15.0


def terminal_environment() -> dict[str, str]:
    """Return what a child process needs to know of the terminal that its output is handed on to."""
    return {_TERMINAL: "1", "COLUMNS": str(console.width)} if console.is_terminal else {}


class _Display:
    """The one live display of this process: rich allows no second one, and chunks have bars of their own."""

    def __init__(self) -> None:
        self._lock, self._bars = threading.Lock(), 0
        self.progress: Progress | None = None

    def enter(self) -> Progress | None:
        """Return the running display, started by the first bar; None outside a terminal."""
        with self._lock:
            self._bars += 1
            # The display belongs to the stage's own process: workers beside it would write over one another.
            alone = multiprocessing.parent_process() is None
            if self.progress is None and console.is_terminal and alone:
                self.progress = Progress(
                    TextColumn("  {task.description:<28}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
                    TimeRemainingColumn(), TextColumn("{task.fields[note]}"), console=console, transient=True,
                )  # fmt: skip
                self.progress.start()
            return self.progress

    def leave(self) -> None:
        """Stop the display with its last bar."""
        with self._lock:
            self._bars -= 1
            if self._bars == 0 and self.progress is not None:
                self.progress.stop()
                self.progress = None


_display = _Display()


class Bar:
    """One bar. Outside a terminal it prints a line every 15 seconds and at its end."""

    def __init__(self, label: str, total: int, progress: Progress | None) -> None:
        """Begin a bar of `total` steps."""
        self.label, self.total, self.done = label, total, 0
        self._started = self._printed = time.monotonic()
        self._progress = progress
        self._task = progress.add_task(label, total=total, note="") if progress else None

    def advance(self, steps: int = 1, note: str = "") -> None:
        """Count steps done; `note` stands beside the bar."""
        self.done += steps
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, completed=self.done, total=self.total, note=note)
        elif time.monotonic() - self._printed > _LINE_EVERY_S:
            self._printed = time.monotonic()
            self.line(note)

    def line(self, note: str = "") -> None:
        """Print the state as a line."""
        seconds = time.monotonic() - self._started
        text = f"  {self.label}: {self.done}/{self.total} in {seconds:.0f} s {note}".rstrip()
        print(text, file=sys.stderr, flush=True)

    def remove(self) -> None:
        """Take the bar off the display."""
        if self._progress is not None and self._task is not None:
            self._progress.remove_task(self._task)


@contextmanager
def bar(label: str, total: int) -> Iterator[Bar]:
    """Yield a running bar; bars may run inside one another and in several threads."""
    running = Bar(label, total, _display.enter())
    try:
        yield running
        running.line()
    finally:
        running.remove()
        _display.leave()
