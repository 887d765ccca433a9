"""What a walk through folders of images leaves out: counts, reasons, and what to do about it."""

from collections import Counter
from dataclasses import dataclass, field

from vtrain.data.datasets.folder_names import BINS, first_five, printable_name
from vtrain.files.image_readers import HEIC_ENDINGS

IGNORED_SHARE = 0.05
"""The part of files that are no images above which the note on them is a warning."""
READERS = {
    HEIC_ENDINGS: "pip install pillow-heif, which reads HEIC; or save them as .jpg or .png",
    "cr2 cr3 nef arw dng raf orf rw2 pef srw": "develop the camera's raw files into .jpg or .png",
    "dcm dicom nii gz fits fit": "save what is in them as .png, .tif or .npy",
}
"""Endings of files that hold images which are not read -> what to do about them."""
OTHER_DATA = {
    ".tar": "tar shards are read by data.name=webdataset",
    ".parquet": "Parquet is read by data.name=parquet",
    ".npz": "MedMNIST's files are read by data.name=medmnist data.file=FILE",
    ".csv": "images that a list labels are read by data.name=csv data.file=LIST",
}
"""Ending of files that hold a dataset, or say what is in it -> how that is read."""


@dataclass
class PassedOver:
    """What was passed over and why: counts, as it may be more than what was not."""

    endings: Counter[str] = field(default_factory=Counter)
    """Ending -> files that are no images."""
    leftovers: Counter[str] = field(default_factory=Counter)
    """Name -> hidden files and folders, and those that a system left behind."""
    loose: int = 0
    """Images beside the class folders."""
    broken: Counter[str] = field(default_factory=Counter)
    """Name -> links that lead nowhere: to folders, perhaps, as it is no image's name."""
    links: int = 0
    """Links to folders that are walked through anyway."""

    def add(self, other: "PassedOver") -> None:
        """Count what another one counted."""
        self.endings.update(other.endings)
        self.leftovers.update(other.leftovers)
        self.loose += other.loose
        self.broken.update(other.broken)
        self.links += other.links

    def reasons(self) -> dict[str, str]:
        """Say how many of what, for each reason there is."""
        endings = [f"{ending or 'no ending'} {n:,}" for ending, n in self.endings.most_common()]
        leftovers = [f"{name} {n:,}" for name, n in self.leftovers.most_common()]
        texts = {
            "endings": (
                self.endings.total(),
                ("file that is no image", "files that are no images"),
                endings,
            ),
            "leftovers": (
                self.leftovers.total(),
                ("hidden or leftover file or folder", "hidden or leftover files and folders"),
                leftovers,
            ),
            "loose": (
                self.loose,
                ("image beside the class folders", "images beside the class folders"),
                [],
            ),
            "broken": (
                self.broken.total(),
                ("link that leads nowhere", "links that lead nowhere"),
                [printable_name(name) for name in self.broken],
            ),
            "links": (
                self.links,
                ("link to a folder that is listed anyway", "links to folders listed anyway"),
                [],
            ),
        }
        return {
            reason: f"{count:,} {words[count > 1]}" + (f" ({first_five(kinds)})" if kinds else "")
            for reason, (count, words, kinds) in texts.items()
            if count
        }

    def notes(self, where: str, images: int) -> list[str]:
        """Return a note for each reason; `images` were found in the same place."""
        total = self.endings.total()
        alarming = {
            "loose": True,
            "broken": True,
            # A word of a language may also be meant as a class.
            "leftovers": not self.leftovers.keys().isdisjoint(BINS),
            # A stray file is usual; many mean that images have an ending nobody reads.
            "endings": images > 0 and total > IGNORED_SHARE * (total + images),
        }
        return [
            f"{'warning: ' * alarming.get(reason, False)}ignored {text} in {where}"
            for reason, text in self.reasons().items()
        ]

    def reader(self) -> str | None:
        """Say what reads files that are passed over, if it is known."""
        found = (
            advice
            for endings, advice in READERS.items()
            if not self.endings.keys().isdisjoint(f".{ending}" for ending in endings.split())
        )
        return next(found, None)

    def dataset(self) -> str | None:
        """Say how the files that are passed over are read as a dataset, if they may be one."""
        return next((hint for ending, hint in OTHER_DATA.items() if ending in self.endings), None)

    def hint(self) -> str:
        """Say what to do where nothing but this was found."""
        if (reader := self.reader()) is not None:
            return reader
        if self.broken:
            return "mend the link, or remove it"
        if self.endings:
            return "save them as .jpg or .png, or remove the folder"
        if self.links:
            return "put a folder in the link's place, or remove the link"
        return "add images or remove the folder"

    def said(self) -> str:
        """Return all of it as the end of a message."""
        return "; ignored: " + ", ".join(texts) if (texts := self.reasons().values()) else ""
