"""Each extra installs what its feature needs: in an environment with nothing else beside the wheel.

What vtrain always needs is lent to the environment, as torch alone takes gigabytes; what an extra
brings is downloaded. Without it the feature names what to install.
"""

import os
import re
import signal
import subprocess
import sys
import tomllib
import urllib.request
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.docs.wheel import ROOT, build_wheel

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
FOR_USERS = sorted(set(PROJECT["optional-dependencies"]) - {"dev"})
MODULES = {"pillow-heif": "pillow_heif", "zensical": None}
"""What is imported of a package, where it is called otherwise; None of a program."""
HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(200)
SWEEP = "config: run\ngrid: {seed: [3]}\nfixed: {train.epochs: 1, train.max_steps: 1}\n"
MAKE_PARQUET = (
    "import io, PIL.Image, pyarrow as pa, pyarrow.parquet as pq; file = io.BytesIO();"
    "PIL.Image.new('RGB', (8, 8)).save(file, 'PNG');"
    "images = [{'bytes': file.getvalue(), 'path': None}] * 8;"
    "pq.write_table(pa.table({'image': images, 'label': [0, 1] * 4}), 'set/train.parquet')"
)
MAKE_HEIC = (
    "import pillow_heif, PIL.Image; pillow_heif.register_heif_opener();"
    "PIL.Image.new('RGB', (64, 48), (250, 9, 9)).save('red.heic')"
)


def test_an_extra_that_nothing_uses_is_gone() -> None:
    source = "\n".join(path.read_text() for path in Path("vtrain").rglob("*.py"))
    for extra in FOR_USERS:
        for text in PROJECT["optional-dependencies"][extra]:
            name = Requirement(text).name
            module = MODULES.get(name, name)
            if module is not None:
                assert re.search(rf"^\s*(import|from) {module}\b", source, re.M), (extra, name)


def lent(names: list[str], known: set[str]) -> Iterator[Path]:
    """Yield the files and folders of packages and of all that they need."""
    for name in names:
        if name.lower() in known:
            continue
        known.add(name.lower())
        try:
            package = distribution(name)
        except PackageNotFoundError:  # what another machine's torch would bring
            continue
        # What is above the folder of packages are programs.
        tops = {path.parts[0] for path in package.files or () if path.parts[0] != ".."}
        yield from (Path(str(package.locate_file(top))) for top in tops - {"__pycache__"})
        needed = [Requirement(text) for text in package.requires or ()]
        yield from lent(
            [n.name for n in needed if n.marker is None or n.marker.evaluate({"extra": ""})], known
        )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    download = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--retries=0"]
    asked = [*download, "--dest", str(tmp_path_factory.mktemp("asked")), "packaging"]
    if subprocess.run(asked, capture_output=True, check=False).returncode:
        pytest.skip("no index of packages is in reach")
    return build_wheel(tmp_path_factory.mktemp("source"))


@pytest.fixture(scope="module")
def core(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder that has what vtrain always needs."""
    folder = tmp_path_factory.mktemp("core")
    names = [Requirement(text).name for text in PROJECT["dependencies"]]
    for place in lent(names, set()):
        if place.exists() and not (folder / place.name).exists():
            (folder / place.name).symlink_to(place)
    return folder


class Installed:
    """An environment with the wheel, and a folder to work in."""

    def __init__(self, root: Path, wheel: Path, core: Path) -> None:
        self.bin, self.wheel, self.folder = root / "venv/bin", wheel, root / "work"
        self.folder.mkdir()
        subprocess.run([sys.executable, "-m", "venv", root / "venv"], check=True)
        (packages,) = (root / "venv/lib").glob("python*/site-packages")
        (packages / "lent.pth").write_text(f"{core}\n")
        self.pip("--no-deps", str(wheel))
        self.vtrain("fit", "vit_digits", "model.depth=1", "train.max_steps=1", "--run-dir", "run")

    def pip(self, *arguments: str) -> None:
        command = [self.bin / "python", "-I", "-m", "pip", "install", "--quiet", *arguments]
        subprocess.run(command, check=True, timeout=280, cwd=self.folder)

    def start(self, program: str, *arguments: str, **settings: str) -> subprocess.Popen[str]:
        kept = {k: v for k, v in os.environ.items() if "proxy" not in k.lower()}
        kept |= {"OMP_NUM_THREADS": "1", "HF_ENDPOINT": "http://127.0.0.1:9", **settings}
        kept.pop("PYTHONPATH", None)
        return subprocess.Popen(
            [self.bin / program, *arguments], cwd=self.folder, env=kept, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def does(self, program: str, *arguments: str, code: int = 0, **settings: str) -> str:
        process = self.start(program, *arguments, **settings)
        output, _ = process.communicate(timeout=200)
        assert process.returncode == code, output
        return output

    def vtrain(self, *arguments: str, code: int = 0, **settings: str) -> str:
        return self.does("vtrain", *arguments, code=code, **settings)


def export(here: Installed, install: Callable[[], None]) -> None:
    assert "vtrain[export]" in here.vtrain("export", "run", code=2)
    install()
    here.vtrain("export", "run")
    here.does("python", "-c", "import PIL.Image; PIL.Image.new('RGB', (8, 8)).save('x.png')")
    assert "x.png" in here.vtrain("predict", "x.png", "--ckpt", "run/model.onnx")


def hub(here: Installed, install: Callable[[], None]) -> None:
    cache = here.folder / "hub/models--some--vit"
    (cache / "refs").mkdir(parents=True)
    (cache / "refs/main").write_text("0" * 40)
    snapshot = cache / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    weights = str(snapshot / "model.safetensors")
    here.vtrain("export", "run", "--format", "safetensors", "--output", weights)
    train = ("fit", "vit_digits", "model.depth=1", "train.max_steps=1")
    named = (*train, "model.pretrained=hf-hub:some/vit")
    assert "vtrain[hub]" in here.vtrain(*named, code=2)
    install()
    assert "weights " in here.vtrain(*named, HF_HUB_CACHE=str(cache.parent))


def serve(here: Installed, install: Callable[[], None]) -> None:
    assert "vtrain[serve]" in here.vtrain("serve", "run", code=2)
    install()
    process = here.start("vtrain", "serve", "run", "--port", "0", PYTHONUNBUFFERED="1")
    assert process.stdout is not None
    address = next(
        found[0] for line in process.stdout if (found := re.search(r"http://[\d.:]+/", line))
    )
    with urllib.request.urlopen(f"{address}health", timeout=30) as answer:
        assert b"ok" in answer.read()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130


def sweep(here: Installed, install: Callable[[], None]) -> None:
    (here.folder / "sweep.yaml").write_text(SWEEP)
    assert "vtrain[sweep]" in here.vtrain("sweep", "sweep.yaml", code=2)
    install()
    here.vtrain("sweep", "sweep.yaml")
    assert list(here.folder.glob("runs/sweep/**/summary.json"))


def images(here: Installed, install: Callable[[], None]) -> None:
    (here.folder / "red.heic").write_bytes(HEIC)
    assert "pillow-heif" in here.vtrain("predict", "red.heic", "--ckpt", "run", code=3)
    install()
    here.does("python", "-c", MAKE_HEIC)
    assert "red.heic" in here.vtrain("predict", "red.heic", "--ckpt", "run")


def parquet(here: Installed, install: Callable[[], None]) -> None:
    (here.folder / "set").mkdir()
    (here.folder / "set/train.parquet").write_bytes(b"PAR1")
    data = ("data.name=parquet", "data.root=set", "data.image_size=8", "data.val_fraction=0.5")
    train = ("fit", "vit_digits", *data, "model.depth=1", "train.max_steps=1")
    assert "vtrain[parquet]" in here.vtrain(*train, code=2)
    install()
    here.does("python", "-c", MAKE_PARQUET)
    here.vtrain(*train, "--run-dir", "of_parquet")
    assert (here.folder / "of_parquet/summary.json").exists()


def docs(here: Installed, install: Callable[[], None]) -> None:
    install()
    for name in ("docs", "zensical.toml"):
        (here.folder / name).symlink_to(ROOT / name)
    here.does("zensical", "build", "--clean")
    assert (here.folder / "site/en/start.html").exists()


CHECKS = {
    "export": export,
    "hub": hub,
    "serve": serve,
    "sweep": sweep,
    "images": images,
    "parquet": parquet,
    "docs": docs,
}


def test_every_extra_is_checked() -> None:
    assert sorted(CHECKS) == FOR_USERS


@pytest.mark.study
@pytest.mark.parametrize("extra", FOR_USERS)
def test_an_extra_installs_and_does_what_it_says(
    extra: str, wheel: Path, core: Path, tmp_path: Path
) -> None:
    here = Installed(tmp_path, wheel, core)
    CHECKS[extra](here, lambda: here.pip(f"{wheel}[{extra}]"))
