"""The mean of several checkpoints' weights."""

import pytest
import torch
from torch import nn

from vtrain.errors import CheckpointError
from vtrain.inference.averaging import RunningMean, average_state_dicts


def test_the_average_is_the_mean_of_each_tensor() -> None:
    models = [nn.Linear(3, 2) for _ in range(4)]
    average = average_state_dicts(model.state_dict() for model in models)
    stacked = torch.stack([model.weight for model in models]).detach()
    torch.testing.assert_close(average["weight"], stacked.mean(0))
    models[0].load_state_dict(average)


def test_the_average_of_one_is_itself_and_its_own_memory() -> None:
    model = nn.Linear(3, 2)
    average = average_state_dicts([model.state_dict()])
    assert torch.equal(average["weight"], model.weight)
    average["weight"].zero_()
    assert model.weight.any()


def test_integers_come_from_the_last_and_dtypes_from_the_first() -> None:
    states = [{"count": torch.tensor(n), "half": torch.tensor(n / 2).bfloat16()} for n in (1, 2, 6)]
    average = average_state_dicts(states)
    assert average["count"] == 6
    assert average["half"].dtype == torch.bfloat16
    assert average["half"] == 1.5


def test_models_that_differ_are_refused() -> None:
    one, wide, short = (m.state_dict() for m in (nn.Linear(3, 2), nn.Linear(4, 2), nn.LayerNorm(2)))
    with pytest.raises(CheckpointError, match=r"checkpoint 2 .* another model .* 'weight' differs"):
        average_state_dicts([one, wide])
    del short["bias"]
    with pytest.raises(CheckpointError, match=r"checkpoint 3 .* 'bias' differs"):
        average_state_dicts([one, one, short])


def test_no_checkpoint_is_refused() -> None:
    with pytest.raises(CheckpointError, match="no checkpoint to average"):
        average_state_dicts([])


def test_a_mean_of_one_more_leaves_the_other_as_it_was() -> None:
    states = [{"w": torch.tensor([float(n)])} for n in (1, 3, 8)]
    mean = RunningMean()
    for state in states[:2]:
        mean.add(state)
    assert mean.with_one(states[2]).mean()["w"].item() == 4.0
    assert mean.mean()["w"].item() == 2.0
    assert mean.count == 2
