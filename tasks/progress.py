"""Progress that a person sees: bars on a terminal, a line now and then in a log."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

console = Console(stderr=True, highlight=False)
_LINE_EVERY_S = 15.0


class Bar:
    """One bar. Outside a terminal it prints a line every 15 seconds and at its end."""

    def __init__(self, label: str, total: int) -> None:
        """Begin a bar of `total` steps."""
        self.label, self.total, self.done = label, total, 0
        self._started = self._printed = time.monotonic()
        self._rich: Progress | None = None
        if console.is_terminal:
            self._rich = Progress(
                TextColumn("  {task.description:<26}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
                TimeRemainingColumn(), TextColumn("{task.fields[note]}"), console=console, transient=True,
            )  # fmt: skip
            self._task = self._rich.add_task(label, total=total, note="")

    def __enter__(self) -> "Bar":
        if self._rich:
            self._rich.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._rich:
            self._rich.stop()
        if kind is None:
            self._line()

    def advance(self, steps: int = 1, note: str = "") -> None:
        """Count steps done; `note` stands beside the bar."""
        self.done += steps
        if self._rich:
            self._rich.update(self._task, completed=self.done, note=note)
        elif time.monotonic() - self._printed > _LINE_EVERY_S:
            self._printed = time.monotonic()
            self._line(note)

    def _line(self, note: str = "") -> None:
        seconds = time.monotonic() - self._started
        print(
            f"  {self.label}: {self.done}/{self.total} in {seconds:.0f} s {note}".rstrip(), file=sys.stderr, flush=True
        )


@contextmanager
def bar(label: str, total: int) -> Iterator[Bar]:
    """Yield a running bar."""
    with Bar(label, total) as running:
        yield running
