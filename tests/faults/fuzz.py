"""Random damage to configs, images and checkpoints: an error of ours or success, never else."""

import io
import json
import os
import random
import re
import resource
import signal
import time
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import yaml
from PIL import Image

from tests.faults.corpus import CORPUS, archive
from tests.harness import Command, fork
from vtrain.config import load_config
from vtrain.errors import CheckpointError, ConfigError, DataError, VtrainError
from vtrain.files.container import load_checkpoint
from vtrain.files.images import decode_image

Trials = Iterator[str | None]
"""For each trial None if all was as promised, else what was not."""
CONFIGS = Path(__file__).parents[2] / "configs"
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "PPM")

STRANGE = (
    *(None, True, False, 0, -1, 1, 2, 3.5, -0.1, 1e-30, 1e30, float("nan"), float("inf")),
    *(10**9, 10**23, -(10**9), "", "0", "1e-3", "no", "~", "010", "12:30", "a" * 5000),
    *([], {}, [1], [None], {"a": 1}, [[[[1]]]], {"name": "vit_ti"}, {"name": "os.system"}),
    *("os.system", "__class__", "${oc.env:HOME}", "{{ 7 * 7 }}", "$(touch canary)"),
    *("__import__('os').mkdir('canary')", "../../etc/passwd", "/dev/zero", "\0", "\x1b]0;x\x07"),
    *("vit_ti\n", "adamv", "VIT_TI", "\N{DOG FACE}", "\ud800", "cuda:99", "cpu:1", "meta"),
)
INJECTED = (
    "!!python/object/apply:os.mkdir [canary]",
    "!!python/name:os.system",
    "!!python/object/new:os.mkdir [canary]",
    "{_target_: os.mkdir, path: canary}",
    "{class_path: os.mkdir}",
    "&a [*a, *a]",
    "*unknown",
    "!!binary aGVsbG8=",
    "!!timestamp 2001-12-14",
    "<<: {a: 1}",
    "? complex key",
    "|\n  text",
    "[" * 200,
    "{" * 200,
    "2001-12-14",
    "0o10",
    "0x10",
    "1_000",
    ".nan",
    "-.inf",
    "yes",
    "@",
    "%",
    "\t",
)


def configs(folder: Path, draw: random.Random) -> Trials:
    """Damage the example configs, and read them in this process."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "fuzzed.yaml"
    before = Path.cwd()
    os.chdir(folder)  # where a canary would appear
    try:
        for content in damaged_configs(draw):
            path.write_bytes(content)
            began = time.process_time()
            try:
                load_config(path)
                found = None
            except ConfigError as error:
                found = first_ugly(error.lines())
            except Exception as error:
                found = f"{type(error).__name__}: {error}"
            if time.process_time() - began > 5:
                found = f"it took {time.process_time() - began:.1f} s"
            if (folder / "canary").exists():
                found = "it made the canary"
            yield found and f"{found}\n{content[:2000]!r}"
    finally:
        os.chdir(before)


def first_ugly(lines: list[str]) -> str | None:
    """Return the first line that is not fit for a terminal."""
    return next((f"printed {line!r}" for line in lines if not line or not line.isprintable()), None)


def damaged_configs(draw: random.Random) -> Iterator[bytes]:
    """Yield example configs without end, each with one to three mutations."""
    texts = [path.read_text() for path in sorted(CONFIGS.rglob("*.yaml"))]
    while True:
        text = draw.choice(texts)
        if draw.random() < 0.6:
            data = yaml.safe_load(text)
            for _ in range(draw.randint(1, 3)):
                damage_data(data, draw)
            content = dumped(data)
            if draw.random() < 0.3:
                content = re.sub(rb"(?<=: )[^\n]*", as_replacement(draw), content, count=1)
        else:
            content = text.encode()
            for _ in range(draw.randint(1, 3)):
                content = damage_text(content, draw)
        yield content


def as_replacement(draw: random.Random) -> Callable[[re.Match[bytes]], bytes]:
    injected = draw.choice(INJECTED).encode()
    return lambda _: injected


def dumped(data: Any) -> bytes:
    """Write YAML, or JSON for what PyYAML cannot encode."""
    try:
        return yaml.safe_dump(data, allow_unicode=True).encode()
    except (UnicodeEncodeError, yaml.YAMLError):
        return json.dumps(data, default=str).encode("utf-8", "surrogatepass")


def damage_data(data: Any, draw: random.Random) -> None:
    """Delete, rename, retype, move or double a value somewhere in nested mappings."""
    section = data
    while True:
        keys = list(section)
        if not keys:
            return
        key = draw.choice(keys)
        if isinstance(section[key], dict) and draw.random() < 0.8:
            section = section[key]
        else:
            break
    kind = draw.randrange(6)
    if kind == 0:
        del section[key]
    elif kind == 1:
        name = str(key)
        place = draw.randrange(len(name) + 1)
        section[name[:place] + draw.choice("aex_.- ") + name[place + 1 :]] = section.pop(key)
    elif kind == 2:
        section[draw.choice(("name", "seed", "lr", "", "__init__", "_target_", 7, None))] = 1
    elif kind == 3:
        section[key] = {key: section[key]}
    else:
        section[key] = draw.choice(STRANGE)


def damage_text(content: bytes, draw: random.Random) -> bytes:
    """Damage the bytes of a text file."""
    place = draw.randrange(len(content) + 1)
    head, tail = content[:place], content[place:]
    lines = content.splitlines(keepends=True) or [b""]
    injected = draw.choice(INJECTED).encode()
    encoding = draw.choice(("utf-16", "utf-32", "utf-7"))
    damaged = (
        head,
        head + draw.randbytes(draw.randint(1, 4)) + tail[1:],
        head + draw.choice((b"\t", b":", b"\n", b"- ", b"{", b"]", b'"', b"#")) + tail,
        b"".join([*lines, draw.choice(lines)]),  # a key twice
        content.decode("utf-8", "ignore").encode(encoding),
        b"\xef\xbb\xbf" + content,
        content + b"\n" + injected,
        head + injected + tail,
    )
    return draw.choice(damaged)


def checked_configs(folder: Path, draw: random.Random) -> Trials:
    """Damage the example configs, and let the command line check them."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "fuzzed.yaml"
    for content in damaged_configs(draw):
        path.write_bytes(content)
        ended = Command(folder, "check", path).wait(60)
        found = None
        if ended.code not in (0, 2, 3, 4, 6) or "Traceback" in ended.err:
            found = f"code {ended.code}: {ended.err[-300:]}"
        elif ended.code and not ended.errors:
            found = f"code {ended.code} without a line that says why: {ended.err!r}"
        elif (folder / "canary").exists():
            found = "it made the canary"
        yield found and f"{found}\n{content[:2000]!r}"


def pictures(draw: random.Random, image_format: str) -> list[bytes]:
    """Return small valid images of one format, of several modes."""
    made = []
    modes = {"JPEG": ("RGB", "L", "CMYK"), "PPM": ("RGB", "L", "1"), "GIF": ("P", "L")}
    for mode in modes.get(image_format, ("RGB", "L", "1", "P", "RGBA", "LA", "I;16")):
        size = (draw.randint(1, 64), draw.randint(1, 64))
        noise = Image.frombytes("RGB", size, draw.randbytes(3 * size[0] * size[1]))
        image = Image.new("I;16", size, 30000) if mode == "I;16" else noise.convert(mode)
        file = io.BytesIO()
        try:
            image.save(file, image_format)
        except (OSError, ValueError):  # the format does not have this mode
            continue
        made.append(file.getvalue())
    return made


def images(draw: random.Random, image_format: str) -> Trials:
    """Damage images of one format, and decode them in this process."""
    originals = pictures(draw, image_format)
    while True:
        content = bytearray(draw.choice(originals))
        for _ in range(draw.randint(1, 3)):
            place = draw.randrange(len(content)) if content else 0
            kind = draw.randrange(5)
            if kind == 0:
                content[place : place + 1] = draw.randbytes(1)
            elif kind == 1:
                del content[place:]
            elif kind == 2:
                content[place:place] = draw.randbytes(draw.randint(1, 20))
            elif kind == 3:
                content[place : place + draw.randint(1, 100)] = b""
            else:
                content[place : place + 4] = draw.choice(
                    (bytes(4), b"\xff" * 4, b"\x7f\xff\xff\xff", b"\0\0\xff\xff")
                )
        began, memory = time.process_time(), peak()
        try:
            decoded = decode_image(bytes(content), "fuzzed")
            found = None if decoded.mode == "RGB" else f"mode {decoded.mode}"
        except DataError as error:
            found = first_ugly(error.lines())
        except Exception as error:
            found = f"{type(error).__name__}: {error}"
        if time.process_time() - began > 2:
            found = f"it took {time.process_time() - began:.1f} s"
        if peak() - memory > 1 << 30:
            found = f"it took {(peak() - memory) >> 20} MB"
        yield found and f"{found}\n{bytes(content[:500])!r}"


def peak() -> int:
    """Return the largest resident set of this process so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def hostile(folder: Path) -> Trials:
    """Load each hostile and foreign file of the corpus in this process."""
    folder.mkdir(parents=True, exist_ok=True)
    path, canary = folder / "hostile.pt", folder / "canary"
    for name, made in CORPUS.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # zipfile warns of what is planted on purpose
            path.write_bytes(made(canary))
        most = 2 * path.stat().st_size + (300 << 20)
        memory, found = peak(), "it was loaded"
        try:
            load_checkpoint(path)
        except CheckpointError as error:
            found = first_ugly(error.lines()) or ""
        except Exception as error:
            found = f"{type(error).__name__}: {error}"
        if canary.exists():
            found = "it made the canary"
        if peak() - memory > most:
            found = f"it took {(peak() - memory) >> 20} MB"
        yield f"{name}: {found}" if found else None


def programs(folder: Path, draw: random.Random) -> Trials:
    """Damage the pickle program of a checkpoint, make its checksums anew, and load it.

    Each in a process of its own kind: 100 share one, whose death is a finding.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = io.BytesIO()
    model = {"w": torch.randn(4, 3), "b": torch.randn(3), "n": torch.tensor(7)}
    torch.save({"format": 1, "model": model, "x": [1, 2.5, None, "a", (True, 2**70)]}, file)
    with zipfile.ZipFile(file) as packed:
        program = packed.read("archive/data.pkl")
        records = {
            name.removeprefix("archive/"): packed.read(name)
            for name in packed.namelist()
            if "/data/" in name
        }
    while True:
        seeds = [draw.getrandbits(64) for _ in range(100)]
        damaged = [damaged_program(program, random.Random(seed)) for seed in seeds]
        path, done = folder / "fuzzed.pt", folder / "done"
        done.write_text("0")
        worker = fork()
        if worker == 0:
            code = 1
            try:
                signal.alarm(120)
                resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
                for number, content in enumerate(damaged):
                    path.write_bytes(archive(content, records))
                    done.write_text(str(number))
                    try:
                        load_checkpoint(path)
                    except CheckpointError as error:
                        if first_ugly(error.lines()):
                            break
                else:
                    code = 0
            finally:
                os._exit(code)
        _, status = os.waitpid(worker, 0)
        code = os.waitstatus_to_exitcode(status)
        if code == 0:
            yield from [None] * len(damaged)
        else:
            number = int(done.read_text())
            yield from [None] * number
            yield f"ended with {code} on {damaged[number]!r}"


def damaged_program(program: bytes, draw: random.Random) -> bytes:
    """Flip, remove, insert or move bytes of a pickle program."""
    content = bytearray(program)
    for _ in range(draw.randint(1, 4)):
        place, other = draw.randrange(len(content)), draw.randrange(len(content))
        length = draw.randint(1, 12)
        kind = draw.randrange(5)
        if kind == 0:
            content[place] = draw.randrange(256)
        elif kind == 1:
            del content[place : place + length]
        elif kind == 2:
            content[place:place] = content[other : other + length]
        elif kind == 3:
            content[place] = draw.choice(b"(].}teausRQbqhK0\x85\x86\x87\x88\x89N)cJM")
        else:
            content[place : place + 4] = draw.choice((bytes(4), b"\xff" * 4, b"\xff\xff\xff\x7f"))
    return bytes(content)


def archives(folder: Path, draw: random.Random) -> Trials:
    """Damage any bytes of a checkpoint file, several at once, and load it in this process."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "fuzzed.pt"
    original = io.BytesIO()
    torch.save({"format": 1, "model": {"w": torch.randn(100)}}, original)
    while True:
        content = bytearray(original.getvalue())
        for _ in range(draw.randint(1, 10)):
            place = draw.choice((draw.randrange(len(content)), len(content) - draw.randint(1, 700)))
            place = max(0, place)
            kind = draw.randrange(4)
            if kind == 0:
                content[place : place + 1] = draw.randbytes(1)
            elif kind == 1:
                del content[place : place + draw.randint(1, 200)]
            elif kind == 2:
                content[place:place] = draw.randbytes(draw.randint(1, 50))
            else:
                content[place : place + 4] = draw.choice((bytes(4), b"\xff" * 4, b"\0\0\0\x80"))
            content = content or bytearray(b"P")
        path.write_bytes(content)
        found = None
        try:
            load_checkpoint(path)
        except VtrainError as error:
            found = first_ugly(error.lines())
        except Exception as error:
            found = f"{type(error).__name__}: {error}"
        yield found and f"{found}\n{bytes(content[-700:])!r}"
