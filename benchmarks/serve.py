"""Measure how many answers a second `vtrain serve` gives to many clients at once and to one.

One server, a process of its own, is asked in turns by one client and by many, each of which sends
its next photograph when it has its answer. Every answer is compared with what the server said of
that photograph when it was asked alone: one that is lost or another's ends the measurement.
"""

import argparse
import http.client
import itertools
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageFilter

from vtrain.bench.stats import Ratio, paired_ratio, summarise

GOAL = 1.5
MIXED_UP = 1e-3
"""Probabilities differ by more where an answer is another image's, by less in other batches."""


def main() -> int:
    """Measure, and print a table and what to write down with it."""
    parser = argparse.ArgumentParser("scripts/bench serve", description=__doc__.partition("\n")[0])
    parser.add_argument("ckpt", type=Path, nargs="?", help="default: a new vit_s at 224 pixels")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--photographs", type=int, default=32, help="that are sent, over and over")
    parser.add_argument("--seconds", type=float, default=5, help="of each turn")
    parser.add_argument("--turns", type=int, default=10, help="of each number of clients")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        ckpt = given.ckpt or untrained(Path(folder), "vit_s", 224)
        contents = [path.read_bytes() for path in photographs(Path(folder), given.photographs)]
        with server(ckpt) as port:
            expected = [ask(port, content) for content in contents]
            ask_for(port, contents, expected, given.clients, min(given.seconds, 1.0))  # warm
            one, many = [], []
            for turn in range(given.turns):
                pair = (1, given.clients) if turn % 2 else (given.clients, 1)
                for clients in pair:
                    rate = ask_for(port, contents, expected, clients, given.seconds)
                    (one if clients == 1 else many).append(rate)
    report(one, many, given.clients)
    print(f"command: {' '.join(sys.argv)}, {os.cpu_count()} cores, torch {torch.__version__}, "
          f"OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS', 'unset')}")  # fmt: skip
    return 0


def report(one: Sequence[float], many: Sequence[float], clients: int) -> Ratio:
    """Print the table."""
    ratio = paired_ratio(many, one)
    print(f"answers per second, median and quartiles of {len(one)} turns; none lost or mixed up")
    for name, rates in (("1 client", one), (f"{clients} clients", many)):
        found = summarise(rates)
        print(f"{name:>12}  {found.median:8.1f}  {found.low:.1f} to {found.high:.1f}")
    print(f"{clients} clients / 1 client: {ratio} (at least {GOAL} is wanted)")
    return ratio


def untrained(folder: Path, model: str, image_size: int) -> Path:
    """Return the folder of a run of one step: what is computed does not depend on the weights."""
    config = folder / "untrained.yaml"
    config.write_text(
        f"seed: 0\nmodel: {{name: {model}}}\n"
        f"data: {{name: fake, image_size: {image_size}, size: {image_size}, num_images: 8}}\n"
        "optimizer: {name: adamw, lr: 1e-3}\n"
        "train: {epochs: 1, max_steps: 1, batch_size: 4, precision: fp32, device: cpu}\n"
        "logging: {tensorboard: false}\n"
    )
    run = folder / "run"
    command = [sys.executable, "-m", "vtrain", "fit", str(config), "--run-dir", str(run)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    return run


def photographs(folder: Path, count: int, size: tuple[int, int] = (500, 375)) -> list[Path]:
    """Write blurred noise as JPEG files, as large as photographs of that size are."""
    rng = np.random.default_rng(0)
    place = folder / "photographs"
    place.mkdir()
    paths = []
    for number in range(count):
        noise = Image.fromarray(rng.integers(0, 256, (*size[::-1], 3), np.uint8))
        spread = np.asarray(noise.filter(ImageFilter.GaussianBlur(size[0] / 40)), float)
        spread = 128 + (spread - 128) * 50 / max(1.0, spread.std())
        paths.append(place / f"{number:04d}.jpg")
        Image.fromarray(spread.clip(0, 255).astype(np.uint8)).save(paths[-1], quality=90)
    return paths


@contextmanager
def server(ckpt: Path) -> Iterator[int]:
    """Run `vtrain serve` and yield its port."""
    command = [sys.executable, "-m", "vtrain", "serve", str(ckpt), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            address = process.stdout.readline()
            if not address:
                raise SystemExit("vtrain serve did not begin")
            yield int(address.rstrip("/\n").rpartition(":")[2])
        finally:
            process.terminate()


def ask(port: int, content: bytes) -> dict[str, float]:
    """Ask once; return the likeliest classes."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        return ask_again(connection, content)
    finally:
        connection.close()


def ask_again(connection: http.client.HTTPConnection, content: bytes) -> dict[str, float]:
    """Ask on a connection that is open."""
    connection.request("POST", "/predict", content)
    answer = connection.getresponse()
    data = json.loads(answer.read())
    if answer.status != 200:
        raise RuntimeError(f"{answer.status}: {data}")
    return {one["class"]: one["probability"] for one in data["predictions"]}


def differs(found: dict[str, float], expected: dict[str, float]) -> bool:
    """Whether an answer is another one; near the end of the list equals may change places."""
    common = found.keys() & expected.keys()
    return not common or any(abs(found[name] - expected[name]) > MIXED_UP for name in common)


def ask_for(
    port: int,
    contents: Sequence[bytes],
    expected: Sequence[dict[str, float]],
    clients: int,
    seconds: float,
) -> float:
    """Ask by so many clients for a while; return the answers per second."""
    counts, faults = [0] * clients, []
    end = time.perf_counter() + seconds

    def client(number: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        try:
            for turn in itertools.count(number):
                if time.perf_counter() > end:
                    break
                place = turn % len(contents)
                found = ask_again(connection, contents[place])
                if differs(found, expected[place]):
                    raise RuntimeError(f"of photograph {place}: {found}, not {expected[place]}")
                counts[number] += 1
        except Exception as error:  # a thread's own would be lost
            faults.append(error)
        finally:
            connection.close()

    began = time.perf_counter()
    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if faults:
        raise SystemExit(f"an answer was lost or mixed up: {faults[0]}")
    return sum(counts) / (time.perf_counter() - began)


if __name__ == "__main__":
    sys.exit(main())
