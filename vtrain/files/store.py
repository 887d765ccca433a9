"""The checkpoints of a run folder: saved, kept, pruned, and found again after a crash.

Order of a save, each step atomic: `step-00001234.pt`, then `checkpoints.json`, then `last.pt` and
`best.pt` as further names of the same file, then what is too old goes. A crash in between leaves
checkpoints that `newest_valid` finds. No name is ever given to other content.
"""

import contextlib
import logging
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field

from vtrain.errors import CheckpointError, StorageError
from vtrain.files import atomic, container, manifest
from vtrain.files.checkpoint import Checkpoint
from vtrain.files.manifest import BEST, LAST, Entry, Manifest

log = logging.getLogger(__name__)

NAME = re.compile(r"step-(\d{8,})(?:-(\d+))?\.pt", re.ASCII)
"""Step, and a counter where several checkpoints were made at one step."""


@dataclass(frozen=True)
class Finding:
    """What verifying one checkpoint file gave. `problem` is None if it is intact."""

    path: Path
    size: int
    sha256: str
    problem: CheckpointError | None = None

    @property
    def step(self) -> int | None:
        """The step that the name tells; None for `last.pt` and other names."""
        step, _ = order(self.path.name)
        return None if step < 0 else step


class CheckpointStore:
    """Saves and finds the checkpoints of one run folder. The caller holds its lock.

    Args:
        keep: Newest checkpoints that stay on disk, besides the best one.

    Raises:
        CheckpointError: The manifest of the folder is damaged.
    """

    def __init__(self, run_dir: Path, *, keep: Annotated[int, Field(ge=2, le=1000)] = 2) -> None:
        assert keep >= 2, "with one checkpoint, one damaged file would end the run"
        self.run_dir, self.keep = run_dir, keep
        self._known = manifest.read(run_dir)
        if swept := atomic.sweep(run_dir):
            log.info("removed %d unfinished files of a killed process", len(swept))

    def save(self, checkpoint: Checkpoint, metric: float | None = None) -> Path:
        """Save a checkpoint, publish it as `last.pt`, and as `best.pt` if it is the best so far.

        Until there is a best one, `best.pt` is the last one. `metric` is noted in the manifest. A
        restart that finds the file in no manifest goes by `checkpoint.is_best`.

        Raises:
            StorageError: It cannot be written; every earlier checkpoint is kept.
        """
        finite = metric is not None and math.isfinite(metric)
        assert finite or not checkpoint.is_best, "only a finite metric can be the best"
        # Somebody removed the folder of a running run: save what there is first, complain after.
        if vanished := not self.run_dir.is_dir():
            atomic.make_folder(self.run_dir)
            self._known = Manifest()
        step = checkpoint.step
        path = self._unused_name(step)
        try:
            written = checkpoint.save(path)
        except StorageError:
            if not self._prune():  # a second try makes sense only with more space
                raise
            written = checkpoint.save(path)
        # From here on the file is complete; a kill before the manifest names it is what
        # `_adopt` repairs at the next start.
        entry = Entry(path.name, step, written.size, written.sha256, metric if finite else None)
        best = path.name if checkpoint.is_best else self._known.best
        self._publish((*self._known.entries, entry), best)
        self._prune()  # last: until the new one is published, the old ones are the run
        if vanished:
            raise StorageError(
                "the run folder vanished during training", self.run_dir, "the last step is saved"
            )
        return path

    def newest_valid(self, useless_since: int | None = None) -> Path | None:
        """Return the newest intact checkpoint; None if this folder has none at all.

        Damaged ones on the way are named in the log and set aside as `*.corrupt`, and as
        `*.diverged` those of the step `useless_since` and later ones, of when a run diverged.

        Raises:
            CheckpointError: There are or were checkpoints, but none is intact; or the newest is of
                a newer vtrain.
        """
        skipped = 0
        if useless_since is not None:
            self._set_aside(useless_since)
        for finding in _findings(self.run_dir):
            if finding.problem is None:
                self._adopt(finding)
                return finding.path
            log.warning("skipped a checkpoint: %s", finding.problem)
            _rename(finding.path, ".corrupt")
            skipped += 1
        # A manifest without any file is no new run: its checkpoints were lost, not never made.
        if skipped == 0 and not self._known.entries:
            return None
        raise CheckpointError(
            f"none of {max(skipped, len(self._known.entries))} checkpoints is intact",
            self.run_dir,
            "start in another run folder; damaged files are kept as *.corrupt",
        )

    def _set_aside(self, since: int) -> None:
        """Rename checkpoints of this step and later ones, from which a run would diverge again."""
        late = [f for f in _findings(self.run_dir) if f.step is not None and f.step >= since]
        for finding in late:
            log.warning("%s is of when the run diverged: set aside", finding.path.name)
            _rename(finding.path, ".diverged")
        kept = tuple(e for e in self._known.entries if (self.run_dir / e.name).exists())
        if late and not kept:  # their further names go too, and the run begins anew
            log.warning("no earlier checkpoint is left: starting anew")
            for name in (LAST, BEST):
                (self.run_dir / name).unlink(missing_ok=True)
            self._known = Manifest()
            manifest.write(self.run_dir, self._known)

    def _adopt(self, newest: Finding) -> None:
        """Bring manifest, `last.pt` and `best.pt` in line with the files, as after a save.

        Three things may differ from the manifest: files that are gone, the newest file, which a
        killed process had no time to enter, and so which checkpoint is best.
        """
        entries = {e.name: e for e in self._known.entries if (self.run_dir / e.name).exists()}
        best, name = self._known.best, newest.path.name
        if NAME.fullmatch(name) and name not in entries:
            entries[name] = Entry(name, order(name)[0], newest.size, newest.sha256)
            # The file itself says whether it was the best: the manifest does not know it.
            best = name if Checkpoint.load(newest.path).is_best else best
        if best is not None and best not in entries:
            log.warning(
                "the best checkpoint, %s, is lost: %s is the newest from now on", best, BEST
            )
            best = None
        if entries:
            self._publish(tuple(entries[n] for n in sorted(entries, key=order)), best)
        else:  # only `last.pt` or `best.pt` is intact: the next save begins a new manifest
            self._known = Manifest()

    def _publish(self, entries: tuple[Entry, ...], best: str | None) -> None:
        self._known = Manifest(entries, best)
        manifest.write(self.run_dir, self._known)
        last = entries[-1].name
        self._point(LAST, last)
        self._point(BEST, best or last)

    def _point(self, name: str, target: str) -> None:
        """Make `name` another name of the checkpoint `target`."""
        path, source = self.run_dir / name, self.run_dir / target
        # Already so: a run folder on a slow disk need not be written for it. `lstat`, because a
        # symlink of that name is somebody else's and is replaced.
        with contextlib.suppress(FileNotFoundError):
            if path.lstat().st_ino == source.lstat().st_ino:
                return
        atomic.link(source, path)

    def _prune(self) -> bool:
        """Remove what is neither the best nor among the newest; return whether anything went."""
        entries = self._known.entries
        gone = []
        # Only what the manifest names is ever removed; other files of the folder are not ours.
        for entry in entries[: -self.keep]:
            if entry.name == self._known.best:
                continue
            try:
                (self.run_dir / entry.name).unlink(missing_ok=True)
            except OSError as error:  # it stays in the manifest, for the next time
                log.warning("cannot remove an old checkpoint: %s", error)
            else:
                gone.append(entry)
        if gone:
            kept = tuple(entry for entry in entries if entry not in gone)
            self._known = Manifest(kept, self._known.best)
            manifest.write(self.run_dir, self._known)
        return bool(gone)

    def _unused_name(self, step: int) -> Path:
        """Return a name of this step that no file has: no name is given to other content."""
        path, counter = self.run_dir / f"step-{step:08d}.pt", 1
        while path.exists():
            counter += 1
            path = self.run_dir / f"step-{step:08d}-{counter}.pt"
        return path


def _rename(path: Path, ending: str) -> None:
    try:
        path.replace(path.with_name(path.name + ending))
    except OSError as error:
        raise atomic.explain(error, path) from error


def verify(path: Path) -> list[Finding]:
    """Verify a checkpoint, or every checkpoint of a run folder, newest first.

    A resume would go on from the first one without a problem.

    Raises:
        CheckpointError: There is nothing to verify, or the manifest is damaged.
    """
    if not path.exists():
        raise CheckpointError("no such run folder or checkpoint", path)
    manifest.read(path if path.is_dir() else path.parent)  # a damaged one is told first of all
    findings = list(_findings(path)) if path.is_dir() else [_finding(path)]
    if not findings:
        raise CheckpointError("this folder holds no checkpoint", path)
    return findings


def order(name: str) -> tuple[int, int]:
    """Return the step of a checkpoint's name and its number among those of the same step."""
    matched = NAME.fullmatch(name)
    return (int(matched[1]), int(matched[2] or 1)) if matched else (-1, 0)


def _findings(run_dir: Path) -> Iterator[Finding]:
    """Verify checkpoints newest first, then `last.pt` and `best.pt` where they are other files."""
    names = [path.name for path in run_dir.iterdir() if NAME.fullmatch(path.name)]
    names.sort(key=order, reverse=True)
    seen = set()  # inodes: hard links of one file are verified once
    for name in [*names, LAST, BEST]:
        path = run_dir / name
        with contextlib.suppress(FileNotFoundError):
            inode = path.stat().st_ino
            if inode not in seen:
                seen.add(inode)
                finding = _finding(path)
                # The run may go on meanwhile and remove an old one between the two looks.
                if finding.problem is None or path.exists():
                    yield finding


def _finding(path: Path) -> Finding:
    try:
        written = container.verify_file(path)
    except CheckpointError as problem:
        return Finding(path, 0, "", problem)
    return Finding(path, written.size, written.sha256)
