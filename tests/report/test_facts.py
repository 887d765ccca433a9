from vtrain.report.facts import best, curve, flat, last


def test_nested_keys_are_dotted() -> None:
    assert flat({"a": 1, "b": {"c": [2], "d": {"e": None}}, "f": {}}) == {
        "a": 1,
        "b.c": [2],
        "b.d.e": None,
    }


def test_curves_leave_out_rows_without_the_metric() -> None:
    rows = [
        {"step": 1, "x": 2.0},
        {"step": 2},
        {"step": 3, "x": "text"},
        {"x": 5.0},
        {"step": 4, "x": 1},
    ]
    assert curve(rows, "x") == ([1.0, 4.0], [2.0, 1.0])


def test_the_best_loss_is_the_least_and_the_best_accuracy_the_largest() -> None:
    rows = [{"step": n, "val/loss": v, "val/top1": v} for n, v in enumerate([3.0, 1.0, 2.0])]
    assert best(rows, "val/loss") == 1
    assert best(rows, "val/top1") == 3
    assert last(rows, "val/loss") == 2
    assert best([], "val/loss") is None
    assert last([], "val/top1") is None
