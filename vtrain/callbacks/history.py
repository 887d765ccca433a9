"""What the summary of a run is made from."""

from vtrain.callbacks.base import Callback
from vtrain.engine.state import Metrics, TrainState


class History(Callback):
    """Remembers the latest rows, the best evaluation and the speed."""

    def __init__(self) -> None:
        self.train: Metrics = {}
        self.val: Metrics = {}
        self.rates: list[float] = []

    def on_log(self, state: TrainState, metrics: Metrics) -> None:
        self.train = metrics
        self.rates.append(metrics["train/images_per_second"])

    def on_eval_end(self, state: TrainState, metrics: Metrics) -> None:
        self.val = metrics

    @property
    def images_per_second(self) -> float | None:
        """The median over the rows of this process; None before the first."""
        return sorted(self.rates)[len(self.rates) // 2] if self.rates else None
