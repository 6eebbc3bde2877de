"""The teacher follows as it should, and only when told."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from slices.ssl import JEPA, JEPAConfig, Teacher
from slices.ssl.teacher import cosine_momentum


def student():
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5))


def test_parameters_move_by_the_momentum_and_buffers_are_copied():
    model = student()
    teacher = Teacher(model)
    before = [p.clone() for p in teacher.model.parameters()]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 1
        model(torch.randn(8, 3))
    teacher.update(model, 0.9)
    for old, new in zip(before, teacher.model.parameters(), strict=True):
        assert torch.allclose(new, 0.9 * old + 0.1 * (old + 1))
    assert torch.equal(teacher.model[1].running_mean, model[1].running_mean)
    assert teacher.model[1].num_batches_tracked == 1


def test_it_is_apart_from_the_student_and_stays_in_evaluation_mode():
    model = student()
    teacher = Teacher(model)
    nn.ModuleList([model, teacher]).train()
    assert model.training and not any(module.training for module in teacher.modules())
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    assert not {id(p) for p in model.parameters()} & {id(p) for p in teacher.parameters()}


def test_momentum_rises_from_its_start_to_one():
    rise = [cosine_momentum(0.99, step, 100) for step in range(101)]
    assert rise[0] == 0.99 and rise[-1] == 1.0 and rise == sorted(rise)


def test_jepa_moves_its_teacher_once_per_optimizer_step(make, batch):
    objective = JEPA(make("StepTokens"), JEPAConfig(static_columns=(0,), d_input=5, momentum=0.5))
    optimizer = torch.optim.SGD(objective.encoder.parameters(), lr=1.0)
    start = objective.predict.teacher.model.embed.weight.clone()
    for _ in range(2):
        objective(*batch)[0].backward()
    optimizer.step()
    assert torch.equal(objective.predict.teacher.model.embed.weight, start)
    objective.on_optimizer_step(1, 10**9)
    halfway = (start + objective.encoder.embed.weight) / 2
    assert torch.allclose(objective.predict.teacher.model.embed.weight, halfway)
    assert not torch.equal(halfway, start)


def test_the_teacher_is_in_the_checkpoint(make):
    config = JEPAConfig(d_input=5)
    trained = JEPA(make("StepTokens"), config)
    with torch.no_grad():
        trained.predict.teacher.model.embed.weight.fill_(3.0)
    fresh = JEPA(make("StepTokens"), config)
    fresh.load_state_dict(trained.state_dict())
    assert (fresh.predict.teacher.model.embed.weight == 3.0).all()


def test_a_teacher_in_half_precision_is_refused():
    student = nn.Linear(2, 2).bfloat16()
    with pytest.raises(ValueError, match="bf16-mixed"):
        Teacher(student).update(student, 0.9)
