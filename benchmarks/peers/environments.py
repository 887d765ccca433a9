"""Throw-away environments for the peers that vtrain's own environment does not have."""

import importlib.metadata
import importlib.util
import site
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = {"lightning": ["lightning"], "transformers": ["transformers", "accelerate"]}


class Environments:
    """Finds or makes the interpreter for each program; what is made goes away with `folder`.

    A made environment looks into the present one after its own packages, so that every program
    computes with the same torch.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._made: dict[str, str | None] = {}

    def problem(self, program: str) -> str | None:
        """Return why a program cannot be run here, or None."""
        if program not in PACKAGES:
            if program != "vtrain" and importlib.util.find_spec(program) is None:
                return f"{program} is not installed"
            return None
        if program not in self._made:
            self._made[program] = self._make(program)
        return self._made[program]

    def python(self, program: str) -> str:
        """Return the interpreter that runs a program."""
        return (
            str(self._home(program) / "bin" / "python") if program in PACKAGES else sys.executable
        )

    def _home(self, program: str) -> Path:
        return self.folder / f"environment_{program}"

    def _make(self, program: str) -> str | None:
        """Install a program; return what went wrong."""
        packages = PACKAGES[program]
        print(f"  installing {' and '.join(packages)} in a throw-away environment", flush=True)
        home = self._home(program)
        venv.create(home, with_pip=True)
        # Appended to the path after the environment's own packages, so that these win.
        (own,) = home.glob("lib/python*/site-packages")
        (own / "outer.pth").write_text("\n".join(site.getsitepackages()) + "\n")
        # Rather none of it than a second torch: that one would be compared, and is gigabytes large.
        held = home / "constraints.txt"
        held.write_text(f"torch=={importlib.metadata.version('torch').partition('+')[0]}\n")
        command = [self.python(program), "-m", "pip", "install", "--quiet", "-c", str(held)]
        done = subprocess.run([*command, *packages], capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return None
        lines = done.stderr.strip().splitlines()
        return f"pip: {lines[-1][:150] if lines else 'failed'}"
