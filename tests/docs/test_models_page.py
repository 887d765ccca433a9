"""The tutorial on the models: what it claims is so, and a reader's questions have their answers."""

import re
from itertools import pairwise
from pathlib import Path

import pytest

from tests.docs.test_pages import BLOCK, blocks
from vtrain.run.text.steps_text import steps_text

PAGE = Path("docs/en/models.md")
TEXT = " ".join(PAGE.read_text(encoding="utf-8").split())
QUESTIONS = {
    "How many numbers has a patch of ViT-B/16 before its embedding?": "16 · 16 · 3 = 768 numbers",
    "Which convolution is the patch embedding?": "a convolution whose stride is its kernel size",
    "What do smaller patches cost?": "half the side gives four times the tokens",
    "Why are there 197 tokens?": "so there are 196 + 1 = 197 tokens",
    "What does the head of a ViT read?": "the last layer classifies this token alone",
    "Why does a ViT need positions?": "Attention does not know in what order its tokens come",
    "How do 2-D positions differ from 1-D ones?": "one for each row and one for each column",
    "What is the shape of the attention weights?": "weights of shape (1, 12, 197, 197)",
    "Do more heads cost more?": "More heads cost nothing more",
    "Where does the norm stand in a block?": "The norm stands inside the branch (pre-norm)",
    "How many values has a word of TNT?": "4 x 4 pixels of 3 channels: 48 values",
    "How do words reach the tokens of a TNT?": "are added to the patch's token",
    "Does a word see other patches?": "No word sees another patch",
    "Which tokens attend in Swin?": "only the 49 tokens of a window attend to one another",
    "How do windows exchange anything?": "every second block moves the windows by half a side",
    "Why nine regions, and why do four suffice?": "No window touches more than four of them",
    "How many relative positions has a window?": "so the table has (2M - 1)² rows",
    "Which row of the table is an offset?": "(dy + M - 1) · (2M - 1) + (dx + M - 1)",
    "What does merging do to the channels?": "a linear map without bias makes 2C of them",
    "How does the cost of attention grow with the image?": "sixteen times this part",
}


def test_there_are_twenty_questions() -> None:
    assert len(QUESTIONS) == 20


@pytest.mark.parametrize("question", QUESTIONS)
def test_the_answer_to_a_question_is_in_one_place(question: str) -> None:
    assert TEXT.count(QUESTIONS[question]) == 1


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
