"""What the name of a file or folder says: that of a split, of a leftover, or of a class."""

import os
import unicodedata
from collections.abc import Container, Iterable
from typing import TYPE_CHECKING

from vtrain.data.datasets.class_names import tidy

if TYPE_CHECKING:  # torch takes seconds, and to find images needs none of it
    from vtrain.data.datasets.samples import SplitName

SPLIT_WORDS: dict["SplitName", str] = {
    "train": "train training "
    "trainingsdaten trainingsbilder entraînement apprentissage entrenamiento treino treinamento "
    "addestramento обучение 训练 訓練 学習 훈련 학습",
    "val": "val valid validate validation dev development eval evaluate evaluation holdout heldout "
    "validierung validierungsdaten validierungsbilder validación validação validazione валидация "
    "验证 驗證 検証 검증",
    "test": "test tests testing "
    "testdaten testbilder prueba pruebas teste testes тест 测试 測試 テスト 테스트",
}
"""English words, and behind them those of other languages."""
BESIDE_SPLIT = (
    *("", "set", "split", "data", "image", "images", "img", "imgs", "photos"),
    *("集", "数据", "數據", "图片", "圖片", "用", "データ", "画像", "데이터"),
)
"""`train_set`, `Test Images`, `images_val`, `训练集` and so on."""
SEPARATORS = frozenset(" -_.")


def plain(name: str) -> str:
    """Return a name in small letters, without accents and what stands between its words.

    Letters of full width, as Chinese and Japanese keyboards write, become usual ones, and
    invisible ones go.
    """
    if not name.isascii():
        letters = unicodedata.normalize("NFKD", name)
        name = "".join(c for c in letters if unicodedata.category(c) not in {"Mn", "Cf"})
    return "".join(c for c in name.casefold() if c not in SEPARATORS)


SPLIT_NAMES: dict[str, "SplitName"] = {
    plain(name): split
    for split, words in SPLIT_WORDS.items()
    for word in words.split()
    for beside in BESIDE_SPLIT
    for name in (word + beside, beside + word)
}
"""Plain names -> the split that they name."""

BINS = (
    *("Papierkorb", "Corbeille", "Cestino", "Papelera", "Papelera de reciclaje", "Lixeira"),
    *("Prullenbak", "Papperskorg", "Papperskorgen", "Papirkurv", "Roskakori", "Kosz"),
    *("Корзина", "回收站", "資源回收筒", "ごみ箱", "ゴミ箱", "휴지통"),
)
"""What a bin for deleted files is called where the system speaks another language.

Not in English: `Trash` and `Bin` are usual classes, and the systems' own names are hidden.
"""
LEFTOVERS = {
    name.casefold(): name
    for name in (
        # network storage: Synology, QNAP, NetApp, Buffalo
        *("@eaDir", "@tmp", "#recycle", "#snapshot", "@Recycle", "@Recently-Snapshot"),
        *("@sharebin", "@SynoResource", "SynologyWorkingDirectory", "~snapshot", "trashbox"),
        *BINS,
        # Windows
        *("$RECYCLE.BIN", "RECYCLER", "Recycled", "Recycle Bin", "FOUND.000"),
        *("System Volume Information", "Thumbs.db", "ehthumbs.db"),
        *("ehthumbs_vista.db", "desktop.ini"),
        # Mac
        *("__MACOSX", "Icon\r", "Network Trash Folder", "Temporary Items", ".DS_Store"),
        # Linux, galleries, notebooks
        *("lost+found", "Thumbs", "Thumbnails", ".ipynb_checkpoints", "__pycache__"),
    )
}
"""What systems and programs leave among files, in small letters -> as it is usually written."""


def split_of(name: str) -> "SplitName | None":
    """Return the split that a folder's name stands for, whatever its capitals and accents."""
    return SPLIT_NAMES.get(plain(name))


def splits_of(names: Iterable[str]) -> dict[str, "SplitName"]:
    """Return those of the names in one folder that stand for splits.

    With a number, as in `train2017`, they do beside a name of another split: `test1` and `test2`
    alone may be classes.
    """
    found = {name: split_of(name) or split_of(name.rstrip("0123456789 -_.")) for name in names}
    splits = {name: split for name, split in found.items() if split is not None}
    several = len(set(splits.values())) > 1
    return {name: split for name, split in splits.items() if several or split_of(name)}


def is_leftover(name: str) -> bool:
    """Whether a file or folder is hidden, or left behind by a system and not by the user."""
    return name.startswith(".") or name.casefold() in LEFTOVERS


def leftover_kind(name: str) -> str:
    """Return what to call a leftover in a count: hidden files go by their first characters."""
    known = LEFTOVERS.get(name.casefold())
    return known.strip() if known else "._*" if name.startswith("._") else ".*"


def class_name(name: str) -> str:
    """Return the class that a folder's name stands for, as text that can be shown and compared."""
    return tidy(printable_name(name)) or name  # a name may be a blank


def printable_name(name: str) -> str:
    """Return a file name as text that any terminal, JSON or CSV file can hold."""
    return os.fsencode(name).decode(errors="backslashreplace")


def absent_classes(where: str, classes: Iterable[str], present: Container[str]) -> list[str]:
    """Return a note on those of the classes that have no images in some place, if there are any."""
    absent = [name for name in classes if name not in present]
    count = "1 class" if len(absent) == 1 else f"{len(absent)} classes"
    return [f"{where} has no images of {count}: {first_five(absent)}"] if absent else []


def first_five(names: list[str]) -> str:
    """Join the first five names."""
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
