# ruff: noqa: RUF001 - Chinese has commas of its own
"""The tutorial on the models: what it claims is so, and a reader's questions have their answers."""

import re
from itertools import pairwise
from pathlib import Path

import pytest

from tests.docs.test_pages import BLOCK, blocks
from vtrain.run.text.steps_text import steps_text

PAGE, CHINESE = Path("docs/en/models.md"), Path("docs/zh/models.md")
TEXT, CHINESE_TEXT = (
    " ".join(page.read_text(encoding="utf-8").split()) for page in (PAGE, CHINESE)
)
QUESTIONS: dict[str, tuple[str, str]] = {
    "How many numbers has a patch of ViT-B/16 before its embedding?": (
        "16 · 16 · 3 = 768 numbers",
        "16 · 16 · 3 = 768 个数",
    ),
    "Which convolution is the patch embedding?": (
        "a convolution whose stride is its kernel size",
        "步长等于核大小的卷积",
    ),
    "What do smaller patches cost?": (
        "half the side gives four times the tokens",
        "边长减半，token 变为四倍",
    ),
    "Why are there 197 tokens?": (
        "so there are 196 + 1 = 197 tokens",
        "所以有 196 + 1 = 197 个 token",
    ),
    "What does the head of a ViT read?": (
        "the last layer classifies this token alone",
        "最后只有它被用来分类",
    ),
    "Why does a ViT need positions?": (
        "Attention does not know in what order its tokens come",
        "注意力不知道 token 的顺序",
    ),
    "How do 2-D positions differ from 1-D ones?": (
        "one for each row and one for each column",
        "为每一行和每一列各学一个向量",
    ),
    "What is the shape of the attention weights?": (
        "weights of shape (1, 12, 197, 197)",
        "得到形状为 (1, 12, 197, 197) 的权重",
    ),
    "Do more heads cost more?": (
        "More heads cost nothing more",
        "增加头数不增加计算量",
    ),
    "Where does the norm stand in a block?": (
        "The norm stands inside the branch (pre-norm)",
        "归一化在支路之内（pre-norm）",
    ),
    "How many values has a word of TNT?": (
        "4 x 4 pixels of 3 channels: 48 values",
        "每个词覆盖 4 x 4 像素、3 个通道：48 个值",
    ),
    "How do words reach the tokens of a TNT?": (
        "are added to the patch's token",
        "加到该块的 token 上",
    ),
    "Does a word see other patches?": (
        "No word sees another patch",
        "没有一个词能看到别的块",
    ),
    "Which tokens attend in Swin?": (
        "only the 49 tokens of a window attend to one another",
        "只有同一窗口的 49 个 token 互相注意",
    ),
    "How do windows exchange anything?": (
        "every second block moves the windows by half a side",
        "每隔一个块，窗口移动半个边长",
    ),
    "Why nine regions, and why do four suffice?": (
        "No window touches more than four of them",
        "每个窗口最多碰到其中四个",
    ),
    "How many relative positions has a window?": (
        "so the table has (2M - 1)² rows",
        "所以表有 (2M - 1)² 行",
    ),
    "Which row of the table is an offset?": (
        "(dy + M - 1) · (2M - 1) + (dx + M - 1)",
        "(dy + M - 1) · (2M - 1) + (dx + M - 1)",
    ),
    "What does merging do to the channels?": (
        "a linear map without bias makes 2C of them",
        "由一个没有偏置的线性映射变成 2C",
    ),
    "How does the cost of attention grow with the image?": (
        "sixteen times this part",
        "这一部分变为十六倍",
    ),
}
"""What a reader may ask, and the words of the English and the Chinese page that answer it."""


def test_there_are_twenty_questions() -> None:
    assert len(QUESTIONS) == 20


@pytest.mark.parametrize("question", QUESTIONS)
def test_the_answer_to_a_question_is_in_one_place_of_each_page(question: str) -> None:
    answer, chinese = QUESTIONS[question]
    assert TEXT.count(answer) == 1
    assert CHINESE_TEXT.count(chinese) == 1


def test_the_claims_in_python_hold() -> None:
    exec(compile("".join(blocks(PAGE, "python")), str(PAGE), "exec"), {})


def shown() -> list[tuple[str, list[str]]]:
    """Return each model whose steps are shown, with the lines."""
    found = BLOCK.findall(PAGE.read_text(encoding="utf-8"))
    return [
        (re.findall(r"vtrain models (\w+) --shapes", before)[0], text.splitlines())
        for (_, before), (kind, text) in pairwise(found)
        if kind == "text"
    ]


@pytest.mark.parametrize(("model", "lines"), shown(), ids=lambda part: str(part)[:8])
def test_what_a_command_is_said_to_print_it_prints(model: str, lines: list[str]) -> None:
    printed = [" ".join(line.split()) for line in steps_text(model).splitlines()]
    missing = [line for line in lines if line not in printed]
    assert not missing
    assert len(lines) > 8


def test_the_ratios_in_the_text_are_those_of_the_figures() -> None:
    (vit,) = re.findall(r"gmacs\(\"vit_s\".*?\[([\d.]+), ([\d.]+)\]", PAGE.read_text())
    (swin,) = re.findall(r"gmacs\(\"swin_t\".*?\[([\d.]+), ([\d.]+)\]", PAGE.read_text())
    stated = re.search(r"ViT-S takes ([\d.]+) times as much and Swin-T ([\d.]+) times", TEXT)
    assert stated is not None
    for (small, large), ratio in zip((vit, swin), stated.groups(), strict=True):
        assert float(large) / float(small) == pytest.approx(float(ratio), abs=0.005)
