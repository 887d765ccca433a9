"""`vtrain verify`: which checkpoints of a run are intact, and where a resume would go on."""

from pathlib import Path

from vtrain.data.progress import said_if_long
from vtrain.errors import CheckpointError, printable
from vtrain.files import lock, manifest
from vtrain.files.runs import RunFolder
from vtrain.files.store import Finding, verify


def verify_checkpoints(path: Path) -> tuple[str, bool]:
    """Verify a checkpoint or every checkpoint of a run folder; nothing is loaded or changed.

    Returns:
        A line for each file and what they mean for the run, and whether any is intact.

    Raises:
        CheckpointError: There is no checkpoint, or the manifest is damaged.
    """
    try:
        with said_if_long(f"reading {printable(str(path))}"):
            findings = verify(path)
    except CheckpointError as error:
        error.hint = RunFolder(path).instead or error.hint
        raise
    lines = [_line(finding) for finding in findings]
    # They are sorted newest first, as a resume looks at them.
    intact = next((finding for finding in findings if finding.problem is None), None)
    if path.is_dir():
        lines += _outlook(path, intact)
    return "\n".join(lines), intact is not None


def raise_if_lost(path: Path, usable: bool) -> None:
    """Raise a CheckpointError that names the path when no checkpoint is intact."""
    if not usable:
        hint = "start the run anew in another folder" if path.is_dir() else "use another one"
        raise CheckpointError("no checkpoint is intact", path, hint)


def _line(finding: Finding) -> str:
    name = printable(finding.path.name)
    if finding.problem is not None:
        return f"damaged  {name}: {finding.problem.what}"
    known = manifest.read(finding.path.parent)
    # By the checksum: `last.pt` and `best.pt` are further names of the same file.
    is_best = any(e.name == known.best and e.sha256 == finding.sha256 for e in known.entries)
    best = "  best" if is_best else ""
    return f"intact   {name}  {finding.size:,} bytes  sha256 {finding.sha256[:16]}{best}"


def _outlook(run_dir: Path, intact: Finding | None) -> list[str]:
    """Say what a resume would do, and why that may not be certain."""
    lines = []
    known = manifest.read(run_dir)
    if not known.entries:
        lines.append(
            f"there is no {manifest.NAME}: the checksums inside the files were verified alone"
        )
    # Looked up without taking the lock, so that the run itself is never refused because of us.
    if owner := lock.holder(run_dir):
        lines.append(f"the run goes on now: it is locked by {owner}")
    if intact is not None:
        # `last.pt` tells no step by its name; the manifest knows the file by its checksum.
        steps = [entry.step for entry in known.entries if entry.sha256 == intact.sha256]
        step = intact.step if intact.step is not None else next(iter(steps), None)
        newest = intact.path.name if step is None else f"step {step:,} ({intact.path.name})"
        if RunFolder(run_dir).is_finished:
            lines.append(f"the run is finished; the newest intact checkpoint is {newest}")
        else:
            lines.append(f"a resume goes on from {newest}")
    return lines
