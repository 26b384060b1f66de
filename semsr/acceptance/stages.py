"""The stages in their order: each runs once, unless its inputs or outputs have changed."""

import fcntl
import os
import shutil
import sys
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from semsr.acceptance.checking import check
from semsr.acceptance.identity import asked_of, folder_digests
from semsr.acceptance.layout import Layout, Settings
from semsr.acceptance.record import Record
from semsr.acceptance.splitting import split
from semsr.progress import duration, progress

if TYPE_CHECKING:
    from semsr.acceptance.findings import Finding

Written = tuple[list[Path], Mapping[str, float]]


class FolderError(ValueError):
    """The folder is not one of `semsr accept`, or another process works in it."""


@contextmanager
def only_here(layout: Layout) -> Generator[None]:
    """Keep other processes out of the folder; the system releases the lock when this one ends.

    Raises:
        FolderError: Another process works in the folder.
    """
    layout.root.mkdir(parents=True, exist_ok=True)
    with layout.lock.open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            pid = file.read().strip() or "unknown"
            raise FolderError(
                f"another semsr accept (process {pid}) works in {layout.root}; wait for it, or "
                "choose another folder"
            ) from None
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield


def prepare_folder(layout: Layout, *, overwrite: bool) -> None:
    """Check that the folder is empty or one of an acceptance; with `overwrite`, empty it.

    Raises:
        FolderError: The folder holds something else.
    """
    is_begun = layout.record.is_file()
    known = {path.name for path in layout.written()}
    others = [
        path.name
        for path in sorted(layout.root.iterdir())
        if not path.name.startswith(".") and path.name not in known
    ]
    if others and not is_begun:
        raise FolderError(
            f"{layout.root} holds {others[0]} and no {layout.record.name}; expected an empty "
            "folder, or one that semsr accept began"
        )
    if overwrite or not is_begun:  # without a record: what a killed start left
        for path in layout.written():  # the record first: what is left then counts for nothing
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
    for left_over in layout.root.rglob(".*.part*"):  # of a start that was killed
        left_over.unlink(missing_ok=True)
    for left_over in layout.run.glob(".checkpoint.safetensors.*"):
        shutil.rmtree(left_over, ignore_errors=True)


class Acceptance:
    """One start of the command: runs what is not finished.

    Args:
        settings: Options.
        layout: Folder, locked by `only_here`.

    Raises:
        RecordError: The folder holds another acceptance.
    """

    def __init__(self, settings: Settings, layout: Layout) -> None:
        self._settings, self._layout = settings, layout
        self.record = Record(layout.record, asked_of(settings))
        self.findings: list[Finding] = []

    def look(self) -> None:
        """Check and split the images: the stages that need no torch.

        Raises:
            ImagesRefusedError: The images cannot be used.
        """
        self._stage("check", self._check)
        self._stage("split", self._split)

    def work(self) -> bool:
        """Run the stages after the split; return whether the model is accepted."""
        import torch

        from semsr.acceptance.estimating import estimate
        from semsr.acceptance.exporting import export
        from semsr.acceptance.judging import judge
        from semsr.acceptance.planning import plan, plan_line
        from semsr.acceptance.reporting import read_verdict, write_report
        from semsr.acceptance.training_run import train_planned

        settings, layout = self._settings, self._layout
        # Each stage must compute alike whether those before it ran in this process or another.
        torch.set_num_threads(settings.threads)
        stages: dict[str, Callable[[], Written]] = {
            "estimate": lambda: (estimate(settings, layout), {}),
            "plan": lambda: plan(settings, layout, spent_s=sum(self.record.seconds.values())),
            "train": lambda: (train_planned(settings, layout), {}),
            "export": lambda: (export(settings, layout), {}),
            "evaluate": lambda: (judge(settings, layout), {}),
        }
        for name, run in stages.items():
            torch.manual_seed(settings.seed)
            torch.set_num_threads(settings.threads)
            self._stage(name, run)
            if name == "plan":
                sys.stderr.write(f"{plan_line(layout, self.record.measured['plan'])}\n")
        if self.record.is_finished("report"):
            return read_verdict(layout)["is_accepted"]
        with progress("writing the report"):
            files, is_accepted = write_report(
                settings,
                layout,
                self.record.asked,
                seconds=self.record.seconds,
                measured=self.record.measured,
            )
        self.record.begin("report")
        self.record.finish("report", files, seconds=0.0)
        return is_accepted

    def _check(self) -> Written:
        self.findings = check(self._settings, self._layout)
        return [self._layout.check], {}

    def _split(self) -> Written:
        files = split(self._settings, self._layout)
        settings, asked = self._settings, self.record.asked
        for side, folder in (("LR", settings.lr), ("HR", settings.hr)):
            if folder_digests(folder, limit=settings.limit) != asked[side]:
                raise FolderError(f"{folder} changed while {side} was read; repeat the command")
        return files, {}

    def _stage(self, name: str, run: Callable[[], Written]) -> None:
        if self.record.is_finished(name):
            seconds = self.record.seconds[name]
            sys.stderr.write(f"{name}: done before, in {duration(seconds)}\n")
            return
        self.record.begin(name)
        started_s = time.monotonic()
        files, measured = run()
        self.record.finish(name, files, seconds=time.monotonic() - started_s, measured=measured)
