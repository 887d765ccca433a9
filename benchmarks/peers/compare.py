"""Train the same model with vtrain and with other programs in turns, and compare their speed.

Every arm is a process of its own that lives as long as the comparison. Only one runs at a time; the
others are stopped, workers included. The turns go A B C, C B A, A B C, ..., and a ratio pairs two
turns of one such row. Before anything is timed, each arm must show the same parameters, the same
FLOPs and, from equal weights on an equal batch, the same loss; else it is left out.
"""

import argparse
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from benchmarks.peers.arm import Job
from benchmarks.peers.columns import COLUMNS, WORKS, Column, Work
from benchmarks.peers.environments import ROOT, Environments
from benchmarks.peers.generated import generate_folder
from benchmarks.peers.processes import ArmFailed, Process
from benchmarks.peers.vtrain_arm import losses_with
from benchmarks.verdict import verdict
from vtrain.bench.machine import CLEAN, OtherLoad, describe_machine
from vtrain.bench.stats import Ratio, paired_ratio, summarise
from vtrain.device import choose_precision

LAYERS = {"bare": "bare step", "end_to_end": "end to end, data included"}
TOLERANCE = {"fp32": 1e-5, "bf16": 2e-2}
"""Relative difference of the first losses; bf16 has 8 bits of precision."""
MINIMUM_ROWS = 4


@dataclass
class Arm:
    """One column in one layer, and what was measured of it."""

    column: Column
    job: Job
    process: Process
    facts: dict[str, Any]
    rates: list[float] = field(default_factory=list)
    """Images per second in each turn."""
    memory: int = 0
    workers_memory: int = 0


def main() -> None:
    """Compare, print a table for each model and layer, and write the JSON if asked."""
    options = parse(sys.argv[1:])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # end the arms, too
    # The arms inherit it; in this process torch has been imported already.
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    torch.set_num_threads(options.threads)
    results: dict[str, Any] = {
        "machine": {**describe_machine(torch.device(options.device)), "commit": commit()},
        "command": ["scripts/bench", "peers", *sys.argv[1:]],
        "clock": options.clock,
        "models": {},
    }
    print_machine(results["machine"], options)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench_peers_")))
        environments = Environments(folder)
        # Equal time for every table.
        seconds = 60 * options.minutes / len(options.models) / len(options.layers)
        for name in options.models:
            work = WORKS[name]
            columns = chosen(options, work, environments)
            data = options.data or generate_folder(folder / "images", work.image_size)
            results["models"][name] = compared = {"title": work.title}
            for layer in options.layers:
                jobs = folder / name / layer
                compared[layer] = compare(
                    work, columns, layer, data, jobs, seconds, options, environments
                )
    if options.json:
        Path(options.json).write_text(json.dumps(results, indent=1) + "\n")


def parse(arguments: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser("scripts/bench peers", description=__doc__)
    parser.add_argument("--models", nargs="+", choices=WORKS, default=["vit_ti"])
    parser.add_argument(
        "--peers",
        nargs="+",
        choices=[*dict.fromkeys(c.program for c in COLUMNS if c.program != "vtrain"), "all"],
        default=["timm"],
        help="lightning and transformers are installed for the occasion (default: timm)",
    )
    parser.add_argument(
        "--columns",
        nargs="+",
        metavar="TITLE",
        choices=[c.title for c in COLUMNS],
        help="only these, and vtrain",
    )
    parser.add_argument("--compiled", action="store_true", help="add timm with torch.compile")
    parser.add_argument("--layers", nargs="+", choices=LAYERS, default=list(LAYERS))
    parser.add_argument(
        "--data", help="folder with train/<class>/ and test/<class>/ (default: noise)"
    )
    parser.add_argument("--batch-size", type=int, help="default: 128 at 32 pixels, 32 at 224")
    parser.add_argument("--minutes", type=float, default=10.0, help="of turns, for all models")
    parser.add_argument("--window", type=float, default=4.0, help="seconds of a turn, about")
    parser.add_argument(
        "--cache",
        choices=["auto", "none"],
        default="auto",
        help="none: vtrain decodes every image anew, too (data.cache); auto is its default",
    )
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument(
        "--clock",
        choices=["wall", "cpu"],
        default="wall",
        help="cpu: processor time on one thread, no workers; for a machine that others use too",
    )
    parser.add_argument("--json", metavar="FILE", help="write every number there")
    options = parser.parse_args(arguments)
    if options.clock == "cpu":
        options.threads = 1  # processor time of several threads counts their waiting for each other
    # Columns of torch.compile count where people use it.
    options.compiled |= options.device == "cuda"  # where it is a documented way to more speed
    if "all" in options.peers:
        options.peers = [c.program for c in COLUMNS]
    return options


def chosen(options: argparse.Namespace, work: Work, environments: Environments) -> list[Column]:
    """Return the columns to compare; say in a line why one is left out."""
    columns = []
    for column in COLUMNS:
        # vtrain is always compared: every ratio has it as numerator.
        if column.program != "vtrain":
            wanted = column.program in options.peers and (options.compiled or not column.compile)
            if not wanted or (options.columns and column.title not in options.columns):
                continue
        if column.compile and options.device == "cpu" and not has_compiler():
            print(f"  left out: {column.title}: no C++ compiler (CXX, g++, clang++ or c++)")
            continue
        if work.named(column.program) is None:
            print(f"  left out: {column.title} has no {work.title}")
            continue
        problem = environments.problem(column.program)
        if problem is not None:
            print(f"  left out: {column.title}: {problem}")
            continue
        columns.append(column)
    return columns


def has_compiler() -> bool:
    """Whether torch.compile finds what it needs on a CPU."""
    return any(map(shutil.which, [os.environ.get("CXX") or "g++", "g++", "clang++", "c++"]))


def compare(
    work: Work,
    columns: list[Column],
    layer: str,
    data: str,
    folder: Path,
    seconds: float,
    options: argparse.Namespace,
    environments: Environments,
) -> dict[str, Any]:
    """Measure one layer of one model in every column, print it and return it."""
    print(f"\n{work.title}, {work.image_size} px: {LAYERS[layer]}", flush=True)
    # Whatever fails, no arm may be left behind: a stopped process would stay for ever.
    arms: list[Arm] = []
    try:
        for column in columns:
            arm = start(work, column, layer, data, folder, options, environments)
            if arm is not None:
                arms.append(arm)
        # COLUMNS begins with vtrain, and `start` raises where it fails.
        ours = arms[0]
        assert ours.column.title == "vtrain"
        same = [arm for arm in arms if arm.column.program == "vtrain" or same_work(ours, arm)]
        shares = take_turns(same, seconds, options)
    finally:
        for arm in arms:
            arm.process.end()
    return report(same, shares, options)


def start(
    work: Work,
    column: Column,
    layer: str,
    data: str,
    folder: Path,
    options: argparse.Namespace,
    environments: Environments,
) -> Arm | None:
    """Start a column's process and let it make its first step; None if it cannot."""
    own = folder / column.title.replace(" ", "_").replace(",", "")
    own.mkdir(parents=True)
    # The same batch for every arm, from which the first losses are computed.
    generator = torch.Generator().manual_seed(1)
    shape = (16, 3, work.image_size, work.image_size)
    batch = {
        "images": torch.randn(shape, generator=generator),
        "targets": torch.randint(10, (16,), generator=generator),
    }
    torch.save(batch, own / "check.pt")
    named = work.named(column.program)
    assert named is not None
    job = Job(
        model=named[0],
        image_size=work.image_size,
        num_classes=10,
        arguments=named[1],
        batch_size=options.batch_size or work.batch_size,
        data=str(data),
        folder=str(own),
        bare=layer == "bare",
        fast=column.fast,
        # Where bf16 is emulated it is no switch that makes anything faster.
        bf16=column.fast and choose_precision("auto", torch.device(options.device)) == "bf16",
        compile=column.compile,
        workers=workers(column, options),
        cache=options.cache,
        device=options.device,
    )
    process = Process(
        column.title,
        [environments.python(column.program), "-m", f"benchmarks.peers.{column.program}_arm"],
        job,
        {"PYTHONPATH": str(ROOT), **column.env},  # an arm is found as benchmarks.peers
        own / "log.txt",
    )
    try:
        # Two answers: who it is (`introduce`), then the end of the first step.
        facts = process.answer()
        process.answer()  # the first step
        facts["start_seconds"] = time.perf_counter() - process.started
        process.hold()
    except ArmFailed as error:
        process.end()
        # Without it there is nothing to compare with.
        if column.title == "vtrain":
            raise
        print(f"  left out: {column.title}: {error}")
        return None
    return Arm(column, job, process, facts)


def workers(column: Column, options: argparse.Namespace) -> int:
    """Return the processes of a column's loader: what it has by default, or what is best here."""
    if options.clock == "cpu":
        return 0
    # A GPU is soon waiting for decoded images: a worker for each core but our own.
    if column.fast and options.device == "cuda":
        return max(1, min(16, len(os.sched_getaffinity(0)) - 1))
    return column.workers


def same_work(ours: Arm, arm: Arm) -> bool:
    """Whether an arm trains what ours does: parameters, FLOPs, and losses from equal weights.

    Our losses are computed here, as they would count towards the peak memory of our own arm.
    """
    theirs, mine = arm.facts, ours.facts
    wrong = [
        f"{key} {theirs[key]:,} against {mine[key]:,}"
        for key, tolerance in (("parameters", 0.0), ("flops", 0.01))
        if not math.isclose(theirs[key], mine[key], rel_tol=tolerance)
    ]
    if theirs["torch"] != mine["torch"]:
        wrong.append(f"torch {theirs['torch']} against {mine['torch']}")
    # Only models of equal size can take each other's weights.
    if not wrong:
        theirs["checked_losses"] = losses = losses_with(ours.job, arm.job.folder)
        wrong = [
            f"first loss in {key} {theirs['losses'][key]:.6f} against {loss:.6f}"
            for key, loss in losses.items()
            if not math.isclose(theirs["losses"][key], loss, rel_tol=TOLERANCE[key])
        ]
    if wrong:
        print(f"  left out: {arm.column.title} does other work: {'; '.join(wrong)}")
    return not wrong


def take_turns(arms: list[Arm], seconds: float, options: argparse.Namespace) -> list[float]:
    """Let the arms train in turns until time is up; return the processors' share of others."""
    # By identity: two arms may have equal numbers.
    steps = {id(arm): warmed_up(arm, options) for arm in arms}
    until = time.monotonic() + seconds
    shares: list[float] = []
    row = 0
    while time.monotonic() < until or row < MINIMUM_ROWS:
        # A B C, C B A: neighbours within a row are a pair, and nobody always comes first.
        for arm in arms if row % 2 == 0 else arms[::-1]:
            # Others are all but this arm; arms that are stopped use nothing.
            others = OtherLoad(arm.process.cpu_seconds)
            turn = arm.process.train(steps[id(arm)])
            shares.append(others.share() or 0.0)
            arm.rates.append(turn["images"] / turn[options.clock])
            arm.memory = turn["peak_memory"]
            # Workers are seen at the ends of turns alone: the largest of these counts.
            if options.device == "cpu":
                arm.workers_memory = max(arm.workers_memory, arm.process.workers_memory())
        row += 1
        left = max(0.0, until - time.monotonic())
        print(f"  row {row}, {left:.0f} s left", end="\r", file=sys.stderr, flush=True)
    return shares


def warmed_up(arm: Arm, options: argparse.Namespace) -> int:
    """Let an arm make a few steps and return how many make a turn."""
    steps = 2 if options.device == "cpu" else 20
    # The first turn fills caches and lets compilers and allocators settle; it is not timed.
    arm.process.train(steps)
    turn = arm.process.train(steps)
    return max(2, round(options.window / (turn[options.clock] / steps)))


def report(arms: list[Arm], shares: list[float], options: argparse.Namespace) -> dict[str, Any]:
    """Print the table of a layer and return its numbers."""
    ours = arms[0]
    ratios = {arm.column.title: paired_ratio(ours.rates, arm.rates) for arm in arms[1:]}
    # What two processes of the same program differ by is no difference.
    noise = ratios.get("vtrain again")
    rows = [list(row(arm, ours, ratios, noise)) for arm in arms]
    head = ["", "img/s", "IQR", "vtrain / it [95 %]", "verdict", "memory", "vtrain / it", "start"]
    print(aligned([head, *rows]))
    others = sum(shares) / len(shares)
    state = "clean" if others < CLEAN else "CONTENDED: not to be published"
    if options.clock == "cpu":
        state = "processor time on one thread"
    print(
        f"  same work: {ours.facts['parameters']:,} parameters, "
        f"{ours.facts['flops'] / 1e9:.3f} GFLOPs forward per image, equal first losses; "
        f"n = {len(ours.rates)} turns each; others used {others:.0%} of the processors ({state})",
        flush=True,
    )
    if ours.facts.get("images"):
        print(f"  vtrain trains on {ours.facts['images']}", flush=True)
    return {
        "columns": {
            arm.column.title: {
                "about": arm.column.about,
                "facts": arm.facts,
                "images_per_second": arm.rates,
                "peak_memory": arm.memory,
                "workers_memory": arm.workers_memory,
            }
            for arm in arms
        },
        "ratios": {title: vars(ratio) for title, ratio in ratios.items()},
        "verdicts": {
            title: verdict(ratio, noise)
            for title, ratio in ratios.items()
            if title != "vtrain again"
        },
        "others_share": others,
    }


def row(arm: Arm, ours: Arm, ratios: dict[str, Ratio], noise: Ratio | None) -> Iterator[str]:
    """Yield the cells of one column of the comparison, which is a line of the table."""
    title, speed = arm.column.title, summarise(arm.rates)
    memory = arm.memory + arm.workers_memory
    yield title
    yield f"{speed.median:.1f}"
    yield f"{speed.spread:.1%}"
    yield str(ratios[title]) if title in ratios else "1"
    compared = title in ratios and arm.column.program != "vtrain"
    yield verdict(ratios[title], noise) if compared else ("noise" if title in ratios else "")
    yield f"{memory / 2**20:.0f} MiB"
    yield f"{(ours.memory + ours.workers_memory) / memory:.2f}"
    yield f"{arm.facts['start_seconds']:.1f} s"


def aligned(rows: list[list[str]]) -> str:
    """Return rows of text as a table."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  "
        + "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def print_machine(machine: dict[str, Any], options: argparse.Namespace) -> None:
    """Print what the numbers depend on."""
    clock = "wall time" if options.clock == "wall" else "processor time"
    print(
        f"{machine['device']}, {machine['processor']}, {machine['cpus']} cores, "
        f"{options.threads} thread(s), {clock}; "
        f"torch {machine['torch']}, Python {machine['python']}, load {machine['load']}, "
        f"commit {machine['commit']}"
    )


def commit() -> str:
    """Return the commit that is measured, with a + if files differ from it."""
    try:
        text = subprocess.run(
            ["git", "describe", "--always", "--dirty=+", "--exclude=*"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return text.strip()
