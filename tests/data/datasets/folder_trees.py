"""Random folders of images as people have them, and a model of the rules in docs/en/data.md."""

import os
import random
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

Place: TypeAlias = tuple[str, ...]
"""Of a file or folder: the folders that lead to it, and its name."""
FOLDER, FILE = "folder", "file"

PAGE = " ".join(Path("docs/en/data.md").read_text().split())
RULES = re.split(r" \d\. \*\*", PAGE[PAGE.index("1. **Passed over**") :])
LEFTOVERS = {name.casefold() for name in re.findall("`(.+?)`", RULES[0])} - {"icon"} | {"icon\r"}
WORDS = {
    split: re.findall(r"\*([\w ]+)\*", text)
    for split, text in zip(("train", "val", "test"), RULES[3].split(";")[:3], strict=True)
}
ENDINGS = ["", *re.findall(r"\*(\w+)\*", RULES[3].split("each alone or with")[1].split(".")[0])]


def letters(name: str) -> str:
    """A name's letters and digits alone, small and plain: no accents, no other widths."""
    wide = unicodedata.normalize("NFKD", name.casefold())
    return re.sub(r"[\W_]", "", wide)


SPLITS = {
    letters(name): split
    for split, words in WORDS.items()
    for word in words
    for ending in ENDINGS
    for name in (word + ending, ending + word)
}


@dataclass
class Tree:
    """What lies in two folders: `set`, the dataset, and `out`, which links may lead to."""

    things: dict[Place, str | Place] = field(default_factory=dict)
    """Place -> FOLDER, FILE, or where a link leads."""

    def add(self, place: Place, thing: str | Place) -> None:
        """Put something in a place, and folders on the way to it, unless one is taken."""
        way = [place[:depth] for depth in range(1, len(place))]
        if place not in self.things and all(self.things.get(p, FOLDER) == FOLDER for p in way):
            self.things |= dict.fromkeys(way, FOLDER)
            self.things[place] = thing

    def write(self, folder: Path, image: Path) -> None:
        """Write it all to a disk; every file has the content of `image`."""
        for place, thing in sorted(self.things.items(), key=lambda item: len(item[0])):
            path = folder.joinpath(*place)
            if thing == FOLDER:
                path.mkdir(parents=True)
            elif thing == FILE:
                os.link(image, path)
            else:
                path.symlink_to(os.path.relpath(folder.joinpath(*thing), path.parent))

    def real(self, place: Place, hops: int = 0) -> Place:
        """Return where a place is without links; () if they lead in a circle."""
        found: Place = ()
        for depth, name in enumerate(place, start=1):
            found = (*found, name)
            thing = self.things.get(found)
            if thing is None:  # there is nothing any more
                return (*found, *place[depth:])
            if isinstance(thing, tuple):
                found = self.real(thing, hops + 1) if hops < 40 else ()
                if not found:
                    return ()
        return found

    def is_folder(self, place: Place) -> bool:
        return self.things.get(self.real(place)) == FOLDER

    def names(self, place: Place) -> list[str]:
        real = self.real(place)
        return sorted(p[-1] for p in self.things if p[:-1] == real)


# ---- what docs/en/data.md says, in its order


def is_leftover(name: str) -> bool:
    return name[0] == "." or name.casefold() in LEFTOVERS


def is_image(name: str) -> bool:
    return name.lower().endswith((".jpg", ".jpeg", ".png")) and not is_leftover(name)


def class_of(name: str) -> str:
    return unicodedata.normalize("NFC", name).strip()


def splits_of(names: Iterable[str]) -> dict[str, str]:
    """Return which of the names in one folder are splits; rule 4."""
    plain = {name: letters(name) for name in names}
    with_number = {n: SPLITS.get(re.sub("[0-9]*$", "", word)) for n, word in plain.items()}
    if len(set(with_number.values()) - {None}) > 1:
        return {name: split for name, split in with_number.items() if split}
    return {name: SPLITS[word] for name, word in plain.items() if word in SPLITS}


@dataclass
class Model:
    """What is used of a tree, and the rules by which it is refused."""

    tree: Tree
    follow_links: bool
    refused: set[str] = field(default_factory=set)
    asks: bool = False

    def inside(self, place: Place, top: Place) -> bool:
        return place[: len(top)] == top

    def images(
        self, place: Place, top: Place, seen: set[Place], linked: bool = False
    ) -> Iterator[Place]:
        """Yield the images below a place; rules 1, 2 and 7."""
        tree = self.tree
        for name in tree.names(place):
            inner = (*place, name)
            is_link = isinstance(tree.things[(*tree.real(place), name)], tuple)
            real = tree.real(inner)
            if is_leftover(name):
                continue
            if not tree.is_folder(inner):
                if is_image(name):
                    self.leads_out(is_link, real)
                    yield inner
                continue
            if linked or is_link:
                walked = self.inside(real, top) and not any(map(is_leftover, real[len(top) :]))
                if walked or self.inside(top, real) or real in seen:
                    continue
                self.leads_out(True, real)
                seen.add(real)
            yield from self.images(inner, top, seen, linked or is_link)

    def leads_out(self, is_link: bool, real: Place) -> None:
        if is_link and real and real[0] != "set" and not self.follow_links:
            self.refused.add("leads out of the dataset")

    def splits(self) -> dict[str, Place]:
        """Return the folder of each split; rules 4, 5 and 6."""
        tree, root = self.tree, ("set",)
        folders = [n for n in tree.names(root) if tree.is_folder((*root, n)) and not is_leftover(n)]
        named: dict[str, str] = {}
        own_names = splits_of(folders)
        for name, split in own_names.items():
            first = named.setdefault(split, name)
            if tree.real((*root, first)) != tree.real((*root, name)):
                self.refused.add("both name the")
        links = [n for n in tree.names(root) if isinstance(tree.things[(*root, n)], tuple)]
        if splits_of(name for name in links if tree.real((*root, name)) not in tree.things):
            self.refused.add("leads nowhere")
        linked = {tree.real((*root, name)) for name in named.values()}
        looks = {}
        for name in folders:
            place, real = (*root, name), tree.real((*root, name))
            own = not self.inside(real, root) or (real == place and real not in linked)
            if name in own_names or own:
                peek = Model(tree, True)
                found = list(peek.images(place, real, set()))
                looks[name] = (any(len(p) == 3 for p in found), any(len(p) > 3 for p in found))
        others = [name for name, look in looks.items() if name not in own_names and any(look)]
        kinds = [looks[name] for name in named.values()]
        if named and others:
            if kinds == [(True, False)]:
                return {"train": root}
            if sum(below for _, below in kinds) < 2 or (True, False) in kinds:
                self.refused.add("unclear whether")
        return {split: (*root, name) for split, name in named.items()} or {"train": root}

    def classes(self, place: Place) -> dict[str, set[Place]]:
        """Return the images of each class in a folder; rules 3 and 8."""
        tree, found, seen = self.tree, dict[str, set[Place]](), set[Place]()
        top = tree.real(place)
        for name in tree.names(place):
            if tree.is_folder((*place, name)) and not is_leftover(name):
                if class_of(name) in found:
                    self.refused.add("two folders are one class")
                found[class_of(name)] = set()
        for image in self.images(place, top, seen):
            if len(image) > len(place) + 1:
                found[class_of(image[len(place)])].add(image)
        filled = [images for images in found.values() if images]
        inner = [{class_of(image[len(place) + 1]) for image in images} for images in filled]
        itself = any(len(image) == len(place) + 2 for images in filled for image in images)
        counts = Counter(name for names in inner for name in names)
        shared = {name for name in counts if counts[name] > 1}
        if len(filled) > 1 and not itself and all(names & shared for names in inner):
            self.asks = True
            if len(set(splits_of(shared).values())) > 1:
                self.refused.add("put the splits first")
        return found


TRAINING = ("there is no train split", "there is only one class", "no images in class")
"""Rules that do not bind an evaluation."""


def expected(tree: Tree, follow_links: bool) -> tuple[dict[str, dict[str, set[Place]]], Model]:
    """Return the images of each class of each split; the model has why they may be refused."""
    model = Model(tree, follow_links)
    splits = {split: model.classes(place) for split, place in model.splits().items()}
    if "train" not in splits:
        model.refused.add("there is no train split")
    # Where nothing is for training, the classes are those of all splits.
    first = splits.get("train") or {k: v for found in splits.values() for k, v in found.items()}
    if not next(splits[split] for split in ("train", "val", "test") if split in splits):
        model.refused.add("no class folders")
    for split, classes in splits.items():
        if not any(classes.values()):
            model.refused.add("there are no images")
        if any(images and name not in first for name, images in classes.items()):
            model.refused.add("but not in train")
        if split == "train" and len(classes) == 1:
            model.refused.add("there is only one class")
        if split == "train" and not all(classes.values()):
            model.refused.add("no images in class")
    return splits, model


# ---- random trees

CLASSES = ["cat", "Dog", "bus", "caf\xe9", "cafe\u0301", "7", "07", "2024-06-01", "x.png", "thumb"]
LIKE_SPLITS = [
    "train",
    "Training_Set",
    "VAL",
    "valid",
    "dev",
    "hold-out",
    "Test",
    "test images",
    "val2",
    "测试集",
]
FILES = ["1.png", "2.JPG", "3.jpeg", "4.png"]
OTHERS = ["notes.txt", "5.heicx", "README", "._1.png", ".DS_Store", "Thumbs.db", "desktop.INI"]
LEFT = ["@eaDir", "#Recycle", "lost+found", "__MACOSX", ".hidden", "Thumbs", ".ipynb_checkpoints"]
INNER = ["fish", "crab", "deep", "train", "test", "2024-06-02"]


def random_tree(seed: int) -> tuple[Tree, bool]:
    """Return a tree, and whether links are followed."""
    draw = random.Random(seed)
    tree = Tree()
    tree.add(("set",), FOLDER)
    for name in draw.sample(CLASSES, 2):
        tree.add(("out", name, draw.choice(FILES)), FILE)
    usual = draw.choice([["train", "val"], ["Training", "Testing"], ["TRAIN", "dev", "test"]])
    tops: list[Place] = draw.choice([[()], [(name,) for name in usual]])
    classes = draw.sample(CLASSES, draw.choice([1, 2, 2, 2, 3, 3, 3, 4, 4, 4]))
    for top in tops:
        kept = (
            classes if draw.random() < 0.8 else draw.sample(classes, draw.randint(1, len(classes)))
        )
        for name in [*kept, *(draw.sample(CLASSES, 1) if draw.random() < 0.03 else [])]:
            inner = [()] if draw.random() < 0.6 else [(n,) for n in draw.sample(INNER, 2)]
            for below in inner:
                for file in draw.sample(FILES, draw.randint(draw.random() > 0.03, 3)):
                    tree.add(("set", *top, name, *below, file), FILE)
    for _ in range(draw.randint(0, 5)):
        clutter(tree, draw)
    return tree, draw.random() < 0.5


def clutter(tree: Tree, draw: random.Random) -> None:
    """Put one more thing somewhere."""
    folders = sorted(p for p in tree.things if tree.things[p] == FOLDER and p[0] == "set")
    where = draw.choice(folders)
    kind = draw.choice([0, 0, 0, 1, 1, 1, 2, 2, 3, 4, 5, 5, 6, 6])
    if kind == 0:
        tree.add((*where, draw.choice(OTHERS)), FILE)
    elif kind == 1:
        tree.add((*where, draw.choice(LEFT), draw.choice(CLASSES), "1.png"), FILE)
    elif kind == 2:
        tree.add((*where, draw.choice(FILES)), FILE)
    elif kind == 3:  # a folder beside all others
        name = draw.choice([*CLASSES, *LIKE_SPLITS])
        tree.add(("set", name, draw.choice([*FILES, *OTHERS])), FILE)
    elif kind == 4:
        name = draw.choice(LIKE_SPLITS)
        tree.add(("set", name, *draw.sample([*CLASSES, *LIKE_SPLITS], 1), "1.png"), FILE)
    else:
        to = draw.choice([p for p in tree.things if p[0] == "set" or kind == 5])
        name = (
            to[-1]
            if draw.random() < 0.3
            else draw.choice([*CLASSES, "link", "broken.png", "train", "VAL"])
        )
        tree.add((*where, name), ("out", "gone") if name == "broken.png" else to)
