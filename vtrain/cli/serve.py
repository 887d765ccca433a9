"""`vtrain serve`."""

from pathlib import Path
from typing import Annotated

import typer


def serve(
    ckpt: Annotated[
        Path | None,
        typer.Argument(
            metavar="[CKPT]",
            help="A checkpoint, a run folder, or an ONNX file.",
            show_default="best of the newest finished run",
        ),
    ] = None,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Where to listen; 0: any that is free.")
    ] = 8000,
    host: Annotated[
        str,
        typer.Option(metavar="ADDRESS", help="Also for others on the network; needs --token."),
    ] = "127.0.0.1",
    token: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="What whoever asks must know.", envvar="VTRAIN_TOKEN"),
    ] = None,
    reject: Annotated[
        float | None,
        typer.Option(min=0, max=1, metavar="P", help="Below this probability, say unsure."),
    ] = None,
) -> None:
    """Answer on a local page and a small HTTP API: classes, and where the model looked."""
    from vtrain.run.serve import serve as run_serve

    run_serve(ckpt, host, port, token, reject)
