"""What is said of images that hold more than one picture of 8 bits."""

from vtrain.data.inspect.kinds import kind_lines


def test_one_image_and_several_are_counted_in_words() -> None:
    one = " ".join(kind_lines(1, 1, 1, (0, 255), (0, 65535)))
    assert "1 file has several pages" in one
    assert "1 image has more channels than are used" in one
    assert "1 image of over 8 bits takes levels" in one
    many = " ".join(kind_lines(2000, 2, 2, (0, 255), (0, 65535)))
    assert "2,000 files have several pages" in many
    assert "2 images have more channels than are used" in many


def test_no_range_is_advised_for_images_of_one_value() -> None:
    assert "value_range" in " ".join(kind_lines(0, 0, 3, (0, 16), (0, 4095)))
    assert "value_range" not in " ".join(kind_lines(0, 0, 3, (0, 0), (7, 7)))
