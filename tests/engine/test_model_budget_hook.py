from types import SimpleNamespace

import pytest
from torch import nn

from custom.engine.guards import ModelBudgetHook, count_parameters
from custom.errors import InputError


@pytest.fixture
def runner():
    model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8), nn.Linear(8, 2))
    for parameter in model[0].parameters():
        parameter.requires_grad = False
    return SimpleNamespace(model=model, cfg=SimpleNamespace(filename="configs/a.py"))


def test_frozen_parameters_and_buffers_do_not_count(runner):
    assert count_parameters(runner.model) == (32 + 16 + 18, 16 + 18)


def test_the_limit_itself_is_too_much(runner):
    ModelBudgetHook(limit=35).before_train(runner)
    with pytest.raises(InputError, match="34 trainable parameters") as error:
        ModelBudgetHook(limit=34).before_train(runner)
    assert "configs/a.py" in str(error.value) and "fewer than 34" in str(error.value)
