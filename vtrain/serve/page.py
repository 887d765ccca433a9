"""The page: one file of our own, with its script and its style inside, and the policy that fits."""

import base64
import hashlib
from dataclasses import dataclass
from importlib.resources import files

import jinja2
from markupsafe import Markup

from vtrain import __version__
from vtrain.serve.limits import Limits
from vtrain.serve.served import Served

SHOWN = 200
"""Classes that the model card names."""


@dataclass(frozen=True)
class Page:
    """The page and the Content-Security-Policy under which it works."""

    html: str
    policy: str

    @classmethod
    def of(cls, served: Served, limits: Limits) -> "Page":
        """Write the page of a model."""
        script, style = part("page.js"), part("page.css")
        html = (
            _environment()
            .get_template("page.html")
            .render(
                served=served,
                # Ours, and part of the policy: nothing of a model or a request is in them.
                script=Markup(script),  # noqa: S704
                style=Markup(style),  # noqa: S704
                shown=served.classes[:SHOWN],
                bytes=limits.body_bytes,
                version=__version__,
            )
        )
        policy = (
            "default-src 'none'; "
            f"script-src '{digest(script)}'; style-src '{digest(style)}'; "
            # `blob:` is a visitor's image, shown before it is sent; `data:` are maps and examples.
            "img-src 'self' data: blob:; connect-src 'self'; "
            "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )
        return cls(html, policy)


def part(name: str) -> str:
    """Return a part of the page as it is."""
    return files("vtrain.serve").joinpath("templates", name).read_text(encoding="utf-8").strip()


def digest(text: str) -> str:
    """Return what a policy calls an inline script or style."""
    found = hashlib.sha256(text.encode()).digest()
    return f"sha256-{base64.b64encode(found).decode()}"


def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader("vtrain.serve", "templates"),
        autoescape=True,  # names of classes are a stranger's text
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
