"""`vtrain serve`: a checkpoint, a run or an ONNX file behind a page and a small HTTP API."""

import json
import logging
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from vtrain import screen
from vtrain.errors import ConfigError
from vtrain.inference.onnx_model import OnnxModel, is_onnx, load_onnx
from vtrain.run.predict import newest_checkpoint
from vtrain.run.thresholds import refuse_without_meaning

if TYPE_CHECKING:  # the extra may not be installed
    from vtrain.serve.served import Served

log = logging.getLogger(__name__)
INSTALL = 'pip install "vtrain[serve]"'
HOST, PORT = "127.0.0.1", 8000


def serve(
    ckpt: Path | None,
    host: str = HOST,
    port: int = PORT,
    token: str | None = None,
    reject: float | None = None,
) -> None:
    """Answer requests until a signal comes, after printing the address of the page.

    Args:
        ckpt: A checkpoint, a run folder or an ONNX file; None means the newest finished run.
        host: The address to listen on; others than this machine's own need a token.
        port: 0 means any that is free.
        token: What a request must know.
        reject: The probability of the likeliest class below which an answer is unsure.

    Raises:
        ConfigError: The extra is not installed, the port is taken, or the token is missing or weak.
        CheckpointError: There is no usable checkpoint.
        StoppedBySignal: A signal came, which is how it ends.
    """
    check_installed()
    from vtrain.serve.server import address_of, application, bound, check_place
    from vtrain.serve.server import serve as serve_app

    check_place(host, token)
    with bound(host, port) as taken:  # before the model is loaded, which may take long
        app, _ = application(served(ckpt, reject), host, token)
        address = address_of(taken, host)
        screen.result(address if token is None else f"{address}?token={token}")
        screen.words("open this address; Ctrl-C ends the server")
        serve_app(app, taken)


def check_installed() -> None:
    """Refuse to begin without the packages of the extra.

    Raises:
        ConfigError: It names the first that is missing.
    """
    for name in ("starlette", "uvicorn"):
        if find_spec(name) is None:
            raise ConfigError(f"vtrain serve needs the package {name}", "command line", INSTALL)


def served(ckpt: Path | None, reject: float | None = None) -> "Served":
    """Load what is to be served; an ONNX file needs no torch, and cannot be explained."""
    ckpt = ckpt or newest_checkpoint()
    if is_onnx(ckpt):
        return served_onnx(load_onnx(ckpt), reject)
    from vtrain.run.serve_checkpoint import served_checkpoint

    return served_checkpoint(ckpt, reject)


def served_onnx(model: OnnxModel, reject: float | None) -> "Served":
    """Return an exported file as what is served."""
    from vtrain.serve.served import Served

    try:
        name = str(json.loads(model.facts["model"])["name"])
    except (KeyError, TypeError, ValueError):
        name = model.path.stem
    size = model.geometry.image_size
    facts = [
        ("Model", f"{name} at {size} x {size} pixels, an ONNX file"),
        ("Classes", f"{len(model.classes):,}"),
        ("Written by", f"vtrain {model.facts.get('vtrain_version', 'of unknown version')}"),
    ]
    refuse_without_meaning(model.thresholds, reject=reject)
    return Served(
        name,
        model.classes,
        model.prepare,
        model.probabilities,
        reject=reject,
        thresholds=model.thresholds,
        facts=facts,
    )
