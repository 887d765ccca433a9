from vtrain.explain.words import classes_text, two_lines, wrapped


def test_names_of_classes_are_whole() -> None:
    name = "a very long name of a class, with synonyms, of which ImageNet has a good many $a_b$"
    text = classes_text([(name, 1.0)], 24)
    assert " ".join(text.split()[1:]) == name
    assert wrapped("evil\x1b[31m\nname") == "evil\\x1b[31m\\nname"


def test_a_sheet_shortens_what_its_picture_says_in_full() -> None:
    assert two_lines("cat") == "cat"
    long = two_lines(" ".join(["word"] * 30))
    assert long.count("\n") == 1
    assert long.endswith("...")
