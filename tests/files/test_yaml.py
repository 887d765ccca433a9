from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vtrain.errors import ConfigError
from vtrain.files.yaml import dump_yaml, parse_value, parse_yaml, read_yaml


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("1E5", 100000.0),
        ("-2.5", -2.5),
        (".5", 0.5),
        ("7", 7),
        ("-7", -7),
        ("0", 0),
        ("010", "010"),  # octal in YAML 1.1
        ("0o10", "0o10"),
        ("0x10", "0x10"),
        ("1_000", "1_000"),
        ("12:30", "12:30"),  # 750 in YAML 1.1
        ("no", "no"),
        ("on", "on"),
        ("Yes", "Yes"),
        ("true", True),
        ("false", False),
        ("null", None),
        ("~", None),
        ("", None),
        (".nan", ".nan"),
        (".inf", ".inf"),
        ("1e999", "1e999"),
        ("2024-01-01", "2024-01-01"),
        ("'7'", "7"),
        ("[1, a]", [1, "a"]),
        ("{a: 1}", {"a": 1}),
    ],
)
def test_a_scalar_means_what_it_says(text: str, value: object) -> None:
    found = parse_value(text, "test")
    assert found == value
    assert type(found) is type(value)


plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**12), 10**12)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text("abc_", min_size=1), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(st.dictionaries(st.text("abcdef_", min_size=1), plain, max_size=5))
def test_what_is_written_is_read_back_equal(data: dict[str, object]) -> None:
    assert parse_yaml(dump_yaml(data), "test").data == data


def test_lines_of_values_are_known() -> None:
    document = parse_yaml("a: 1\nb:\n  c: 2\n  d: [3,\n    4]\n", "run.yaml")
    assert document.where(("b", "c")) == "run.yaml:3"
    assert document.where(("b", "d", 1)) == "run.yaml:5"
    assert document.where(("b", "missing")) == "run.yaml:2"


def test_every_repeated_key_is_a_mistake_with_both_lines() -> None:
    document = parse_yaml("a: 1\nb: {c: 1, c: 2}\na: 3\n", "run.yaml")
    assert [str(m) for m in document.mistakes] == [
        "key 'b.c' appears twice (run.yaml:2): remove one; the first is in line 2",
        "key 'a' appears twice (run.yaml:3): remove one; the first is in line 1",
    ]
    assert document.data["a"] == 1


@pytest.mark.parametrize(
    "text", ["a: &x 1\n", "a: &x [1]\nb: *x\n", "a: !!python/object:os.system 1\n", "a: !x 1\n"]
)
def test_anchors_aliases_and_tags_are_mistakes(text: str) -> None:
    assert parse_yaml(text, "run.yaml").mistakes


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1\n", "YAML syntax"),
        ("a:\n\t- 1\n", "YAML syntax"),
        ("- 1\n", "found a list"),
        ("", "found nothing"),
        ("7", "found 7"),
        ("a: 1\n---\nb: 2\n", "several"),
        ("[" * 5000 + "]" * 5000, "nested deeper"),
        ("? [a]\n: 1\n", "key must be plain text"),
        ("a: \x00", "characters"),
    ],
)
def test_what_is_no_config_is_one_clear_error(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_yaml(text, "run.yaml")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff\xfea\x00", "not UTF-8"),
        (b"a: 1\n" + b"#" * 1_000_000, "larger than"),
    ],
)
def test_a_file_that_is_no_small_text_is_refused(
    tmp_path: Path, content: bytes, message: str
) -> None:
    path = tmp_path / "run.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        read_yaml(path)


def test_a_byte_order_mark_is_read_over(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_bytes(b"\xef\xbb\xbfa: 1\n")
    assert read_yaml(path).data == {"a": 1}


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not found"):
        read_yaml(tmp_path / "no.yaml")
    with pytest.raises(ConfigError, match="not a regular file"):
        read_yaml(tmp_path)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("a:\n\t- 1\n", "indent with blanks"),
        ('a: "C:\\Users\\me"\n', "in single quotes"),
        ('a: "C:\\data"\n', "in single quotes"),
        ("a: b: c\n", "a blank belongs behind each `:`"),
        ("a: {b: 1 c: 2}\n", "is a comma missing"),
        (" a: 1\nb: 2\n", "indent what belongs together alike"),
        ("a:\n  b: 1\n c: 2\n", "indent what belongs together alike"),
        ("a: @x\n", "put the value in quotes"),
        ("a: 'x\n", "is a quote left open?"),
    ],
)
def test_a_slip_of_syntax_is_answered_with_what_mends_it(text: str, hint: str) -> None:
    with pytest.raises(ConfigError, match="YAML syntax") as caught:
        parse_yaml(text, "c.yaml")
    assert caught.value.hint is not None
    assert hint in caught.value.hint
