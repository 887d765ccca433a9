"""Stands in for `vtrain fit` in tests of sweeps: it trains nothing, and starts in no time.

It is called as `python standin.py CONFIG KEY=VALUE... --run-dir DIR --resume`. It makes an epoch of
a step every few milliseconds, saves after each, and goes on from there; the metric is a function of
the learning rate, the seed and the epoch. Of `train.epochs` it takes the number, of `train.device`
what goes wrong: `cuda:N` ends the first epoch with exit code N.
"""

import fcntl
import json
import os
import signal
import sys
import time
from pathlib import Path


def value(lr: float, seed: int, epoch: int) -> float:
    return round(0.9 - abs(lr - 0.3) + epoch / 1000 + seed / 10000, 6)


def main() -> int:
    typed = dict(word.replace('"', "").split("=", 1) for word in sys.argv if "=" in word)
    run = Path(sys.argv[sys.argv.index("--run-dir") + 1])
    run.mkdir(parents=True, exist_ok=True)
    lock = (run / ".lock").open("a")
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # two at a time are a mistake: code 1
    stopped = []
    signal.signal(signal.SIGTERM, lambda *_: stopped.append(1))
    log = run / "metrics.jsonl"
    rows = log.read_text().splitlines(keepends=True) if log.exists() else []
    saved = run / "checkpoints.json"
    done = json.loads(saved.read_text())["epoch"] if saved.exists() else 0
    (run / "config.yaml").write_text(json.dumps(typed))
    log.write_text("".join(rows[:done]))
    with (run / "starts").open("a") as file:
        file.write(f"{os.getpid()}\n")
    lr, seed = float(typed.get("optimizer.lr", 0.1)), int(typed.get("seed", 0))
    for epoch in range(done + 1, int(typed.get("train.epochs", 3)) + 1):
        time.sleep(0.005)
        code = int(typed.get("train.device", "cuda:0").removeprefix("cuda:"))
        if code:
            sys.stderr.write(f"vtrain: error: made to fail with {code}\n")
            state = {"state": "failed", "code": code}
            (run / "status.json").write_text(json.dumps(state))
            if code == 9:
                os.kill(os.getpid(), signal.SIGKILL)
            return code
        with log.open("a") as file:
            row = {"step": epoch, "epoch": epoch, "val/top1": value(lr, seed, epoch)}
            file.write(json.dumps(row) + "\n")
        write(saved, {"epoch": epoch})
        if stopped:
            return 143
    values = [json.loads(line)["val/top1"] for line in log.read_text().splitlines()]
    write(run / "summary.json", {"best": {"val/top1": max(values)}})
    write(run / "status.json", {"state": "finished", "code": 0})
    return 0


def write(path: Path, data: object) -> None:
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(data))
    partial.replace(path)


if __name__ == "__main__":
    sys.exit(main())
