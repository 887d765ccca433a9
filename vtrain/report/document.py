"""An analysis as plain data: the JSON twin of the page, and the table of the classes."""

from typing import Any

import numpy as np

from vtrain.files.plain import plain
from vtrain.report.analysis import Analysis
from vtrain.report.label_analysis import LabelAnalysis
from vtrain.report.plain import class_rows, csv_text


def analysis_data(analysis: Analysis | LabelAnalysis) -> dict[str, Any]:
    """Return all figures with names of classes and images where the analysis has numbers."""
    if isinstance(analysis, LabelAnalysis):
        return _label_data(analysis)
    names, ids = analysis.classes, analysis.ids
    data: dict[str, Any] = plain(analysis)
    del data["ids"]
    data["per_class"] = class_rows(analysis.classes, analysis.per_class)
    for key in ("never_predicted", "without_images", "order"):
        data[key] = [names[k] for k in data[key]]
    # Most cells are empty where there are many classes.
    true, given = np.nonzero(analysis.matrix)
    counts = analysis.matrix[true, given]
    cells = zip(true.tolist(), given.tolist(), counts.tolist(), strict=True)
    data["matrix"] = [{"true": names[t], "predicted": names[p], "images": n} for t, p, n in cells]
    for pair in data["pairs"]:
        pair |= {"first": names[pair["first"]], "second": names[pair["second"]]}
    # Names in place of numbers: who reads the file has neither the classes' order nor the images'.
    for suspect in data["labels"]["suspects"]:
        index = suspect.pop("index")
        label, suggested = names[suspect["label"]], names[suspect["suggested"]]
        suspect |= {"image": ids[index], "label": label, "suggested": suggested}
    for gallery in data["galleries"].values():
        for example in gallery:
            example["image"] = ids[example.pop("index")]
            example["true"] = names[example["true"]]
            example["likeliest"] = [[names[k], p] for k, p in example["likeliest"]]
    return data


def _label_data(found: LabelAnalysis) -> dict[str, Any]:
    names, data = found.classes, plain(found)
    del data["ids"]
    data["per_class"] = class_rows(names, found.per_class)
    data["without_images"] = [names[k] for k in found.without_images]
    first, second = np.nonzero(np.triu(found.together, 1))
    cells = zip(
        first.tolist(), second.tolist(), found.together[first, second].tolist(), strict=True
    )
    data["together"] = [{"first": names[a], "second": names[b], "images": n} for a, b, n in cells]
    for pair in data["pairs"]:
        pair |= {"first": names[pair["first"]], "second": names[pair["second"]]}
    for example in data["worst"]:
        example["image"] = found.ids[example.pop("index")]
        for kind in ("right", "missed", "wrong"):
            example[kind] = [[names[k], p] for k, p in example[kind]]
    return dict(data)


def per_class_csv(analysis: Analysis | LabelAnalysis) -> str:
    """Return the figures of each class for a spreadsheet."""
    rows = class_rows(analysis.classes, analysis.per_class)
    return csv_text(list(rows[0]), [list(row.values()) for row in rows])
