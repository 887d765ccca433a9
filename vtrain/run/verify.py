"""`vtrain verify`: which checkpoints of a run are intact, and where a resume would go on."""

from pathlib import Path

from vtrain.engine.checkpointing import Finding, verify
from vtrain.errors import CheckpointError


def verify_checkpoints(path: Path) -> tuple[str, bool]:
    """Verify a checkpoint or every checkpoint of a run folder; nothing is loaded or changed.

    Returns:
        A line for each file, and whether a run can go on from one of them.

    Raises:
        CheckpointError: There is no checkpoint, or the manifest is damaged.
    """
    findings = verify(path)
    intact = next((found for found in findings if found.problem is None), None)
    lines = [_line(found) for found in findings]
    if intact is not None and path.is_dir():
        lines.append(f"a resume goes on from {intact.path.name}")
    return "\n".join(lines), intact is not None


def raise_if_lost(path: Path, usable: bool) -> None:
    """Raise when no checkpoint is intact.

    Raises:
        CheckpointError: It names the path.
    """
    if not usable:
        raise CheckpointError("no checkpoint is intact", path, "start the run anew")


def _line(found: Finding) -> str:
    if found.problem is not None:
        return f"damaged  {found.path.name}: {found.problem.what}"
    return f"intact   {found.path.name}  {found.size:,} bytes  sha256 {found.sha256[:16]}"
