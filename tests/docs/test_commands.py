"""Every shell command of the README and the pages is run in order, or says here why it cannot be.

All start in one folder like that of a reader: photographs of two kinds, some runs, a config. There
`RUN` is a run, and `<date_time>` the newest one. To be quick, trainings end after two steps, where
the page does not say how long they are.
"""

import functools
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.docs.test_pages import PAGES, blocks
from tests.harness import Result, run

CLONE = "works on a clone; CI runs it"
SERVES = "runs until it is stopped: tests/serve starts one"
NETWORK = "needs the network"
SEVERAL = "needs several GPUs, or several machines"
ELSEWHERE = "a program that vtrain does not bring"
NOT_RUN = {
    r"scripts/(quickstart|test) ": CLONE,
    r"\. \.venv/bin/activate": CLONE,
    r"pip install ": f"{NETWORK}: tests/docs/test_extras.py installs each extra",
    r"vtrain serve ": SERVES,
    r"tensorboard --logdir ": "runs until it is stopped",
    r"curl ": "tests/docs/test_serve_page.py sends these requests",
    r"torchrun ": f"{SEVERAL}: tests/test_distributed.py runs two processes",
    r"sbatch ": f"{SEVERAL}: tests/scripts/test_slurm.py runs the job without Slurm",
    r"docker ": f"{ELSEWHERE}: tests/docs/test_dockerfile.py reads what it would run",
    r"wandb ": ELSEWHERE,
    r"optuna-dashboard ": ELSEWHERE,
    r"vtrain sweep .*--storage postgresql:": "needs a database: tests/sweep use one in a file",
    r"vtrain check .*pretrained=timm:": NETWORK,
    r"hf download ": NETWORK,
    r"vtrain eval --config CONFIG model.pretrained=timm:": NETWORK,
    r"vtrain fit .*pretrained=weights/": "needs the weights of the line before",
    r"vtrain fit (vit_cifar_lora|CONFIG) .*pretrained=RUN": "needs a run of the same model: "
    "tests/run/test_lora.py trains so",
    r"vtrain fit .*data.name=parquet": "needs the data of the line before",
    r"vtrain export RUN --format safetensors": "tests/export writes the names of each program: RUN "
    "has a shape of its own",
}
"""The beginning of a command, as a pattern, and why it is not run."""
SHORT = ("train.epochs=", "train.max_steps=")
"""What says that a training is short already."""
SMALL = (
    *("model.depth=1", "data.image_size=32", "model.patch_size=8", "train.epochs=1"),
    *("schedule.warmup_epochs=0", "data.val_fraction=0.5"),
)
SWEEP = "config: vit_digits\ngrid: {seed: [0, 1]}\nfixed: {train.epochs: 1, model.depth: 1}\n"
COMMANDS = {page: blocks(page, "sh") for page in [Path("README.md"), *PAGES]}
"""The blocks of every page that has one."""


def photographs(folder: Path, count: int) -> None:
    """Write small pictures of two kinds, such as the pages speak of; some look like the other."""
    draw = np.random.default_rng(0)
    for tint, kind in enumerate(("cats", "dogs")):
        (folder / kind).mkdir(parents=True)
        for i in range(count):
            pixels = draw.integers(0, 90, (40, 50, 3), dtype=np.uint8)
            pixels[..., tint if i % 8 else 1 - tint] += 120
            Image.fromarray(pixels).save(folder / kind / f"{i}.jpg")


def labels() -> str:
    """Return a list of the photographs, some of which have two labels."""
    rows = [
        f"photos/{kind}/{i}.jpg,{'cats;dogs' if i % 8 == 0 else kind},{'val' if i % 4 else 'train'}"
        for kind in ("cats", "dogs")
        for i in range(40)
    ]
    return "\n".join(["path,label,split", *rows]) + "\n"


def succeeds(folder: Path, *arguments: str) -> Result:
    done = run(folder, *arguments)
    assert done.code == 0, f"vtrain {shlex.join(arguments)}\n{done.err}"
    return done


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a folder such as a reader has after the first page."""
    root = tmp_path_factory.mktemp("reader")
    photographs(root / "photos", 40)
    photographs(root / "other_photos", 3)
    for name in ("new", "folder"):
        shutil.copytree(root / "photos/cats", root / name)
    shutil.copy(root / "photos/dogs/0.jpg", root / "photo.jpg")
    Image.open(root / "photo.jpg").save(root / "photo.png")
    (root / "names.txt").write_text("Katzen\nHunde\n")
    (root / "sweep.yaml").write_text(SWEEP)
    (root / "labels.csv").write_text(labels())
    (root / "configs").symlink_to(Path("configs").resolve())
    for name in ("RUN", "OTHER_RUN"):
        seed = f"seed={len(name)}"
        succeeds(root, "fit", "photos", *SMALL, seed, "--run-dir", name)
    config = (root / "RUN/config.yaml").read_text()
    (root / "config.yaml").write_text(config.replace("val_fraction: 0.5", "val_fraction: 0.0"))
    for index in range(1, 5):
        fold = f"data.fold={{of: 5, index: {index}}}"
        succeeds(root, "fit", "config.yaml", fold, "--run-dir", f"fold_{index}")
    succeeds(root, "fit", "vit_digits", "train.max_steps=2", "model.depth=1")
    succeeds(root, "export", "RUN", "--output", "model.onnx")
    return root


def lines(page: Path) -> list[str]:
    """Return the commands of a page, what may be left out (in brackets) included."""
    text = "".join(COMMANDS[page]).replace("\\\n", "").replace(" [--", " --").replace("] ", " ")
    return [line.removesuffix("]") for line in text.splitlines() if line.strip()]


def reason(line: str) -> str | None:
    """Return why a command is not run; None if it is."""
    return next((why for start, why in NOT_RUN.items() if re.match(start, line)), None)


def words(line: str, folder: Path) -> list[str]:
    """Return the words of a command as a shell in `folder` makes them, patterns and quotes gone."""
    for start in re.findall(r"(\S+)/<date_time>", line):
        newest = max((folder / start).iterdir(), key=lambda path: path.stat().st_mtime)
        line = line.replace(f"{start}/<date_time>", f"{start}/{newest.name}")
    command = ["bash", "-c", f"printf '%s\\0' {line}"]
    return subprocess.check_output(command, cwd=folder, text=True).split("\0")[:-1]


def shortened(arguments: list[str]) -> list[str]:
    """Return the arguments of a command; a training of more than two steps gets an end."""
    goes_on = "--resume" in arguments and not arguments[1].endswith(".yaml")
    if arguments[0] != "fit" or goes_on or any(a.startswith(SHORT) for a in arguments):
        return arguments
    return [*arguments, "train.max_steps=2"]


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in COMMANDS if COMMANDS[page]], ids=str)
def test_the_commands_of_a_page_run_in_order(page: Path, prepared: Path, tmp_path: Path) -> None:
    shutil.copytree(prepared, tmp_path / "here", symlinks=True)
    here = tmp_path / "here"
    for text in blocks(page, "yaml"):  # those whose first line is the name of a file
        if name := re.match(r"# (\w+\.yaml)\n", text):
            (here / name[1]).write_text(text)
    for line in lines(page):
        if reason(line) is not None:
            continue
        program, *arguments = words(line, here)
        settings = {}
        while "=" in program:  # variables of the environment come first
            name, _, settings[name] = program.partition("=")
            program, *arguments = arguments
        if program == "python":
            script = next(here.rglob(arguments[0]))
            command = [sys.executable, str(script), *arguments[1:]]
            subprocess.run(command, cwd=here, check=True, timeout=120, stdout=subprocess.DEVNULL)
            continue
        assert program == "vtrain", line
        prepare = functools.partial(os.environ.update, settings)
        done = run(here, *shortened(arguments), prepare=prepare)
        assert done.code == 0, f"{line}\n{done.err}"


def test_every_excuse_is_needed() -> None:
    every = [line for page in COMMANDS for line in lines(page)]
    assert not [start for start in NOT_RUN if not any(re.match(start, line) for line in every)]


def test_no_block_of_a_shell_hides_under_another_name() -> None:
    for page in [*PAGES, Path("README.md"), *Path("docs/zh").glob("*.md")]:
        kinds = set(re.findall(r"^```(\S.*)$", page.read_text(encoding="utf-8"), re.M))
        assert kinds <= {"sh", "python", "yaml", "text", "pycon", "json"}, page


@pytest.mark.parametrize(
    ("given", "run"),
    [
        (["fit", "photos"], ["fit", "photos", "train.max_steps=2"]),
        (["fit", "photos", "train.epochs=1"], ["fit", "photos", "train.epochs=1"]),
        (["fit", "RUN", "--resume"], ["fit", "RUN", "--resume"]),
        (["eval"], ["eval"]),
    ],
)
def test_only_a_training_without_an_end_gets_one(given: list[str], run: list[str]) -> None:
    assert shortened(given) == run
