"""`vtrain export`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from vtrain import screen
from vtrain.cli.options import Overrides, refuse_ignored


def export(
    ckpt: Annotated[Path, typer.Argument(metavar="CKPT", help="A checkpoint, or a run folder.")],
    overrides: Overrides = None,
    output_format: Annotated[
        Literal["onnx", "program", "safetensors", "timm"],
        typer.Option("--format", help="For which program."),
    ] = "onnx",
    output: Annotated[
        Path | None, typer.Option(help="Where to.", show_default="beside the checkpoint")
    ] = None,
    check: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Validation images to compare on.",
            show_default="64; 1000 if rounded",
        ),
    ] = None,
    opset: Annotated[
        int | None,
        typer.Option(min=18, max=23, help="ONNX: version of its operators.", show_default="20"),
    ] = None,
    taking: Annotated[
        Literal["pixels", "normalised"] | None,
        typer.Option("--input", help="ONNX, program: what the file takes.", show_default="pixels"),
    ] = None,
    names: Annotated[
        Literal["timm", "torchvision", "hf"] | None,
        typer.Option(help="Safetensors: whose names of weights.", show_default="timm"),
    ] = None,
    half: Annotated[bool, typer.Option("--half", help="ONNX: round to fp16.")] = False,
    int8: Annotated[bool, typer.Option("--int8", help="ONNX: round weights to int8.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace what is there already.")] = False,
) -> None:
    """Write the model for other programs, compared with the checkpoint before it is there."""
    if output_format != "onnx":
        refuse_ignored({"opset": opset, "half": half, "int8": int8}, without="format onnx")
    if output_format not in ("onnx", "program"):
        refuse_ignored({"input": taking}, without="format onnx")
    if output_format != "safetensors":
        refuse_ignored({"names": names}, without="format safetensors")
    if half:
        refuse_ignored({"int8": int8}, beside="half")
    from vtrain.export.onnx_file import OPSET
    from vtrain.run.export import Order
    from vtrain.run.export import export as run_export
    from vtrain.run.text.tables import exported_text

    order = Order(
        form=output_format,
        output=output,
        check=check,
        force=force,
        opset=opset or OPSET,
        taking=taking or "pixels",
        rounding="half" if half else "int8" if int8 else None,
        names=names or "timm",
    )
    screen.result(exported_text(run_export(ckpt, overrides or (), order)))
