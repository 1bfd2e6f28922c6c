"""Filling tables: ranges claimed, written and committed by any number of processes that send no messages.

Processes are forked, so that they share what a source holds in memory. One that loses its parent ends at its next row;
what it had committed stays.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from typing import Any

from mmkd_cli.core import console
from mmkd_cli.core.contracts import SourceTable
from mmkd_cli.core.errors import MmkdError
from mmkd_cli.data.ranges import Range, RangeWriter, committed

_POLL_S = 0.2

Job = tuple[SourceTable, Range]


def fill(jobs: Sequence[Job], writer: RangeWriter, workers: int, again: bool = False) -> None:
    """Write what of `jobs` is not committed; all of it is when this returns.

    again: write all of them, committed or not. workers: processes, 0 for this one. The first error ends them all.
    """
    todo = [job for job in jobs if again or not committed(writer.artifact, job[1])]
    total = sum(part.rows for _, part in jobs)
    start = total - sum(part.rows for _, part in todo)
    with _sigterm_interrupts():
        if workers == 0 or not todo:
            with console.progress("prepare-data", total, start=start) as meter:
                _work(todo, writer, again, meter.advance)
        else:
            _in_processes(todo, writer, min(workers, len(todo)), again, total, start)


@contextmanager
def _sigterm_interrupts() -> Iterator[None]:
    """SIGTERM ends the work as Ctrl-C does: no half file is left, and the same command goes on."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _work(jobs: Sequence[Job], writer: RangeWriter, again: bool, row_done: Callable[[], None]) -> None:
    """Ranges in this order, passing over those that another process holds; at the end those, waiting for each."""
    held: list[Job] = []
    for block, queue in ((False, jobs), (True, held)):
        for table, part in list(queue):
            lock = part.lock(writer.artifact)
            if not lock.acquire(block=block):
                held.append((table, part))
                continue
            try:
                if again or not committed(writer.artifact, part):
                    writer.write(table, part, row_done)
            finally:
                lock.release()


def _in_processes(todo: Sequence[Job], writer: RangeWriter, n: int, again: bool, total: int, start: int) -> None:
    context = multiprocessing.get_context("fork")
    done = context.Value("q", 0)
    processes, ends = [], []
    for number in range(n):
        here, there = context.Pipe(duplex=False)
        mine = [*todo[number::n]] + [job for place, job in enumerate(todo) if place % n != number and not again]
        process = context.Process(target=_child, args=(mine, writer, again, done, there, os.getpid()), daemon=True)
        process.start()
        there.close()
        processes.append(process)
        ends.append(here)
    try:
        with console.progress("prepare-data", total, start=start) as meter:
            while ends:
                for end in wait(ends, timeout=_POLL_S):
                    ends.remove(end)  # type: ignore[arg-type]
                    _raise_from(end)  # type: ignore[arg-type]
                meter.advance(done.value - (meter.done - start))
    finally:
        for process in processes:
            process.terminate()
            process.join()


def _raise_from(end: Connection) -> None:
    """What a worker says when it ends: None, or the error that ended it."""
    try:
        error = end.recv()
    except EOFError:
        raise MmkdError("a worker of prepare-data was killed: run the same command again, it goes on") from None
    if error is not None:
        raise error


def _child(jobs: Sequence[Job], writer: RangeWriter, again: bool, done: Any, end: Connection, parent: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends its workers
    signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def row_done() -> None:
        if os.getppid() != parent:
            os._exit(1)
        with done.get_lock():
            done.value += 1

    try:
        _work(jobs, writer, again, row_done)
        end.send(None)
    except Exception as error:  # raised again by the parent
        end.send(error)
