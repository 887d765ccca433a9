"""A report of `vtrain bench` as text for a person."""

import json
from collections.abc import Iterator
from dataclasses import asdict

from vtrain.bench.machine import CLEAN
from vtrain.bench.report import Report
from vtrain.run.text.tables import columns


def report_text(report: Report) -> str:
    """Return the report as aligned lines."""
    return "\n".join(_lines(report))


def report_json(report: Report) -> str:
    """Return the report as one JSON object."""
    return json.dumps(asdict(report), indent=1)


def _lines(report: Report) -> Iterator[str]:
    machine, work, limit = report.machine, report.work, report.limit
    yield (
        f"machine  {machine['device']}, {machine['processor']}, {machine['threads']} threads | "
        f"torch {machine['torch']} | products {limit['flops'] / 1e12:.2f} TFLOP/s, copies "
        f"{limit['bytes'] / 1e9:.0f} GB/s | load {machine['load']}, {_other_load(report)}"
    )
    yield (
        f"work     {work['model']}, {work['image_size']} pixels, batch {work['batch_size']}, "
        f"{work['precision']} | {work['parameters']:,} parameters | per image "
        f"{work['flops_per_image'] / 1e9:.2f} GFLOP, {work['bytes_per_image'] / 1e6:.1f} MB "
        f"| limit {limit['images_per_second']:,.0f} images/s"
    )
    yield "cold     " + "  ".join(f"{name} {time:.1f} s" for name, time in report.cold.items())
    yield ""
    yield columns(list(_rows(report)))
    ratio = report.end_to_end
    yield (
        f"end to end / bare step {ratio.median:.3f} (95 %: {ratio.low:.3f} to {ratio.high:.3f}, "
        f"n = {ratio.n}); bare step from window to window {report.noise:.1%}"
    )
    yield ""
    total = sum(report.split.values())  # seconds of a step
    yield f"step     {1e3 * total:.1f} ms: " + " | ".join(
        f"{name} {time / total:.1%}" for name, time in report.split.items() if time
    )
    yield f"memory   at most {report.peak_memory / 2**20:,.0f} MiB"
    for kernel in report.kernels:
        name = kernel["name"][:70]  # C++ names of templates fill pages
        yield f"kernel   {kernel['share']:6.1%}  {kernel['calls']:7.0f} calls  {name}"
    yield f"next     {report.next}"


def _rows(report: Report) -> Iterator[list[str]]:
    yield ["layer", "images/s", "ms/step", "IQR", "% of limit", "MFU", "peak MiB"]
    batch, limit = report.work["batch_size"], report.limit
    for name, layer in report.layers.items():
        # Only a training step can be held against the limit, which is that of such a step.
        trains = name in ("bare step", "end to end")
        flops = layer.rate * report.work["model_flops_per_image"] / limit["flops"]
        yield [
            name,
            f"{layer.rate:,.1f}",
            f"{1e3 * batch / layer.rate:,.1f}",
            f"{layer.images_per_second.spread:.1%}",
            f"{layer.rate / limit['images_per_second']:.1%}" if trains else "",
            f"{flops:.1%}" if trains else "",
            "" if layer.peak_memory is None else f"{layer.peak_memory / 2**20:,.0f}",
        ]


def _other_load(report: Report) -> str:
    if report.others_share is None:
        return "unknown who else computes"
    clean = (
        "clean" if report.others_share < CLEAN else "CONTENDED: these times are not to be trusted"
    )
    return f"others used {report.others_share:.0%} ({clean})"
