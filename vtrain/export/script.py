"""`predict.py`, which goes with an ONNX file: vtrain's own decoder and geometry in one script.

The script is put together from vtrain's source, so that there is no second decoder to keep alike.
"""

import ast
import inspect
import json
import sys
from pathlib import Path
from types import ModuleType

from vtrain import errors
from vtrain.data import geometry
from vtrain.files import images

PARTS = (images, geometry)
"""What the script is made of, and with them whatever of vtrain they import."""
ONLY: dict[ModuleType, tuple[str, ...]] = {errors: ("VtrainError", "DataError", "printable")}
"""Of these modules only some names."""

SCRIPT = "predict.py"
IMPORTS = """
import argparse
import json
import sys
import numpy as np
import onnxruntime
from pathlib import Path
"""

HEAD = '''"""Name the classes of images by an ONNX file that `vtrain export` wrote.

    pip install numpy pillow onnxruntime
    python predict.py IMAGE... [--model {file}] [--top-k N]

Prints JSON. Decoding, resizing and cropping are those of vtrain {version}, copied from its source;
`Model.predict` is what to call from your own program. Licence of this file: Apache-2.0.
"""

import os

# Before its import: else onnxruntime sends usage data. Your own setting wins.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
'''

MAIN = '''

class Model:
    """An exported file. `predict` takes paths and gives, for each, classes with probabilities."""

    def __init__(self, path):
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        facts = session.get_modelmeta().custom_metadata_map
        self.session = session
        self.classes = json.loads(facts["classes"])
        self.preprocess = json.loads(facts["preprocess"])
        self.takes_pixels = facts["input"] == "pixels"
        # Of a model of several labels: the probability from which on an image has each class.
        self.thresholds = json.loads(facts.get("thresholds", "[]"))

    def prepare(self, path):
        """Return the model's input of one image. Shape: (C, S, S) float32."""
        options = {name: value for name, value in self.preprocess.items() if name != "std"}
        image = fit_image(read_image(path), **options)
        pixels = samples_of(image).astype(np.float32).transpose(2, 0, 1)
        if self.takes_pixels:  # the file normalises by itself
            return pixels
        mean, std = (np.float32(self.preprocess[k]).reshape(-1, 1, 1) for k in ("mean", "std"))
        return (pixels / np.float32(255) - mean) / std

    def predict(self, paths, top_k=5):
        """Return (class, probability) pairs, the likeliest first, for each path.

        Of a model of several labels they are all that reach their thresholds, maybe none.
        """
        logits = self.session.run(None, {"images": np.stack([self.prepare(p) for p in paths])})[0]
        if self.thresholds:
            return [self.labels(row) for row in logits.astype(np.float64)]
        scores = np.exp(logits - logits.max(1, keepdims=True))
        scores /= scores.sum(1, keepdims=True)
        return [
            [(self.classes[k], float(row[k])) for k in np.argsort(-row, kind="stable")[:top_k]]
            for row in scores
        ]

    def labels(self, logits):
        """Return the classes of an image that reach their thresholds. Shape: logits (K,)."""
        with np.errstate(over="ignore"):  # of a logit far below 0: the probability is 0
            row = 1 / (1 + np.exp(-logits))
        order = np.argsort(-row, kind="stable")
        return [(self.classes[k], float(row[k])) for k in order if row[k] >= self.thresholds[k]]


def main():
    parser = argparse.ArgumentParser(description="Name the classes of images.")
    parser.add_argument("images", nargs="+")
    parser.add_argument("--model", default=str(Path(__file__).with_name(MODEL)))
    parser.add_argument("--top-k", type=int, default=5)
    options = parser.parse_args()
    if options.top_k < 1:
        parser.error("--top-k must be 1 or more")
    if not Path(options.model).is_file():
        parser.error(f"there is no file {options.model}: name the ONNX file with --model")
    model, failed, records = Model(options.model), 0, []
    for path in options.images:
        try:
            classes = model.predict([path], options.top_k)[0]
        except DataError as error:
            failed += 1
            records.append({"image": path, "error": error.what})
            continue
        ranked = [{"class": name, "probability": p} for name, p in classes]
        records.append({"image": path, "predictions": ranked})
    print(json.dumps(records, indent=2))
    return 3 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
'''


def predict_script(file: str, version: str) -> str:
    """Return the script for the ONNX file of that name, which will lie beside it."""
    needed = ast.parse(IMPORTS).body
    bodies: list[str] = []
    for module in _with_imported(*PARTS):
        imports, body = _part(module, ONLY.get(module, ()))
        needed += imports
        bodies.append(body)
    names = [name for body in bodies for name in _defined(body)]
    assert len(names) == len(set(names)), "the parts share one module, and two define one name"
    head = HEAD.replace("{file}", file).replace("{version}", version)
    parts = [head, *_merged(needed), "", f"MODEL = {json.dumps(file)}", *bodies]
    return "\n".join(parts) + "\n" + MAIN


def _with_imported(*modules: ModuleType) -> list[ModuleType]:
    """Return modules and those of vtrain that they import, each before those that use it."""
    found: list[ModuleType] = []
    for module in modules:
        for node in ast.parse(inspect.getsource(module)).body:
            if isinstance(node, ast.ImportFrom) and _of_vtrain(node):
                found += _with_imported(sys.modules[str(node.module)])
        found.append(module)
    return list(dict.fromkeys(found))


def is_script(path: Path) -> bool:
    """Whether a file is such a script, and may be replaced by another one."""
    try:
        with path.open("rb") as file:
            # By the first line, which has neither the model's name nor the version.
            return file.readline() == HEAD.encode().splitlines(keepends=True)[0]
    except OSError:
        return False


def _part(module: ModuleType, only: tuple[str, ...]) -> tuple[list[ast.stmt], str]:
    """Return the imports of a module from outside of vtrain, and the source of all the rest."""
    source = inspect.getsource(module)
    lines, kept, imports = source.splitlines(), list[str](), list[ast.stmt]()
    end = 0
    for node in ast.parse(source).body:
        # From the end of what came before, so that comments and blank lines come along.
        text = "\n".join(lines[end : node.end_lineno])
        start, end = end, node.end_lineno or end
        if isinstance(node, ast.Import | ast.ImportFrom):
            imports += [] if _of_vtrain(node) else [node]
        # The first statement is the module's docstring: the script has its own.
        elif start > 0 and (not only or getattr(node, "name", None) in only):
            assert not any(map(_of_vtrain, ast.walk(node))), f"{module} imports inside a function"
            kept.append(text)
    return imports, "\n".join(kept)


def _merged(nodes: list[ast.stmt]) -> list[str]:
    """Return a line for each module, with all that is imported from it."""
    # Written anew from the syntax tree, the same import is the same text and stands once.
    plain = sorted({ast.unparse(node) for node in nodes if isinstance(node, ast.Import)})
    names: dict[str, set[str]] = {}
    for node in nodes:
        if isinstance(node, ast.ImportFrom):
            names.setdefault(node.module or "", set()).update(alias.name for alias in node.names)
    return plain + [
        f"from {name} import {', '.join(sorted(names[name]))}" for name in sorted(names)
    ]


def _of_vtrain(node: ast.AST) -> bool:
    return isinstance(node, ast.ImportFrom) and (node.module or "").startswith("vtrain")


def _defined(source: str) -> list[str]:
    """Return the names that a source gives to classes, functions and constants."""
    names = []
    for node in ast.parse(source).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            names.append(node.name)
        elif isinstance(node, ast.Assign):
            parts = [part for target in node.targets for part in ast.walk(target)]
            names += [part.id for part in parts if isinstance(part, ast.Name)]
    return names
