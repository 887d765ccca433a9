from vtrain.bench.report import Layer, advice
from vtrain.bench.stats import summarise


def layer(rate: float) -> Layer:
    return Layer(summarise([rate]), [rate], None)


def layers(bare: float, data: float) -> dict[str, Layer]:
    return {"bare step": layer(bare), "data only": layer(data)}


def test_the_advice_names_a_slow_loader() -> None:
    found = advice(layers(bare=100, data=50), 0.48, 200, {"data": 1.0, "forward": 1.0})
    assert "data.num_workers" in found


def test_the_advice_names_what_is_around_the_step() -> None:
    split = {"data": 0.1, "augment": 0.3, "mixing": 0.0, "rest": 0.0, "forward": 0.6}
    assert "'augment' takes most: 30%" in advice(layers(bare=100, data=500), 0.8, 200, split)


def test_the_advice_names_the_slowest_part_of_a_step_that_is_all_there_is() -> None:
    found = advice(layers(bare=100, data=500), 0.99, 200, {"forward": 0.3, "backward": 0.7})
    assert "'backward' is 70%" in found
    assert "50% of its time" in found
