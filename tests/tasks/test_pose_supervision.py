"""Heads on intermediate maps, and losses of the hardest joints: written in the plainest way, or worked out by hand."""

import pytest
import torch
from people_by_hand import INFO, sample
from torch import nn

from ablate import registry
from ablate.errors import PartError

CHANNELS, STRIDES = (8, 8, 6), (4, 4, 8)


def maps(batch=2):
    torch.manual_seed(1)
    sizes = [(channels, 64 // stride, 48 // stride) for channels, stride in zip(CHANNELS, STRIDES, strict=True)]
    return [torch.rand(batch, *size) for size in sizes]


def batch_of(task, people=2):
    return task.collate([task.encode(sample(seed=seed, labelled=17 - 9 * seed), INFO, None) for seed in range(people)])


def calls(head):
    """How often each layer of a head runs from now on."""
    counted = {}
    for name, layer in head.named_modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(lambda *_, name=name: counted.update({name: counted.get(name, 0) + 1}))
    return counted


def test_intermediate_maps_have_heads_of_their_own_in_training_alone(build_task):
    torch.manual_seed(0)
    head = build_task().head(INFO, CHANNELS, STRIDES, intermediate=(1, 2))
    outputs = head.train()(maps())
    assert [tuple(heatmaps.shape) for heatmaps in outputs] == [(2, 17, 16, 12), (2, 17, 16, 12), (2, 17, 8, 6)]
    counted = calls(head)
    alone = head.eval()(maps()[:1])  # a backbone may leave them out then
    assert torch.equal(alone, outputs[0])
    assert list(counted.values()) == [1]
    assert len([name for name, _ in head.named_parameters()]) == 6


def test_without_intermediate_maps_training_gives_heatmaps(build_task):
    head = build_task().head(INFO, CHANNELS, STRIDES).train()
    assert head(maps()).shape == (2, 17, 16, 12)
    assert set(head.state_dict()) == {"final_layer.weight", "final_layer.bias"}


def test_losses_of_a_list_are_added(build_task):
    task = build_task(size=[64, 48])
    batch, torch_seed = batch_of(task), torch.manual_seed(3)
    outputs = [torch.rand(2, 17, *size, generator=torch_seed) for size in ((16, 12), (16, 12), (8, 6))]
    apart = [task.loss(output, batch).item() for output in outputs]
    assert task.loss(outputs, batch).item() == pytest.approx(sum(apart), rel=1e-6)
    assert min(apart) > 0


def plain_mined(task, outputs, batch, hardest):
    """JointsOHKMMSELoss of the official code, person by person; the full losses of the joints come from `task`."""
    mean = 0.0
    for person in range(len(outputs)):
        alone = {key: batch[key][person : person + 1] for key in ("joints", "labelled")}
        losses = []
        for joint in range(outputs.shape[1]):
            only = {**alone, "labelled": torch.zeros_like(alone["labelled"])}
            only["labelled"][0, joint] = alone["labelled"][0, joint]
            losses.append(task.loss(outputs[person : person + 1], only).item() * outputs.shape[1])
        mean += sum(sorted(losses)[-hardest:]) / hardest / len(outputs)
    return mean


@pytest.mark.parametrize("hardest", [1, 8, 17])
def test_the_hardest_joints_count_alone(build_task, hardest):
    full, mined = build_task(size=[64, 48]), build_task(size=[64, 48], ohkm=hardest)
    batch = batch_of(full)
    torch.manual_seed(4)
    outputs = torch.rand(2, 17, 16, 12)
    assert batch["labelled"].sum(1).tolist() == [17, 8]
    assert mined.loss(outputs, batch).item() == pytest.approx(plain_mined(full, outputs, batch, hardest), rel=1e-5)
    if hardest == 17:
        assert mined.loss(outputs, batch).item() == pytest.approx(full.loss(outputs, batch).item(), rel=1e-6)


def test_mining_worked_out_by_hand(build_task):
    """One joint is labelled, and everywhere but at its target the output is wrong by 1; the others cost nothing."""
    task = build_task(size=[64, 48], ohkm=2, sigma=0.1)
    batch = {"joints": torch.zeros(1, 4, 2), "labelled": torch.tensor([[1.0, 0, 0, 0]])}
    outputs = torch.ones(1, 4, 16, 12)
    # The target is a single 1 at the origin; two joints count, and one of them costs 0.
    assert task.loss(outputs, batch).item() == pytest.approx(0.5 * (16 * 12 - 1) / (16 * 12) / 2)


def test_only_what_predicts_is_mined(build_task):
    full, mined = build_task(size=[64, 48]), build_task(size=[64, 48], ohkm=4)
    batch = batch_of(full)
    torch.manual_seed(5)
    main, between = torch.rand(2, 2, 17, 16, 12)
    expected = mined.loss(main, batch) + full.loss(between, batch)
    assert mined.loss([main, between], batch).item() == pytest.approx(expected.item(), rel=1e-6)


def test_more_joints_than_there_are_cannot_be_mined(build_task):
    with pytest.raises(PartError, match=r"^ohkm: a number of joints, or 0 for all, not -1"):
        build_task(ohkm=-1)
    with pytest.raises(PartError, match=r"^ohkm: 18 are more than the 17 joints"):
        build_task(ohkm=18).head(INFO, CHANNELS, STRIDES)


@pytest.mark.parametrize("model", ["hourglass", "cpn"])
def test_supervised_networks_learn_and_predict(model, figures, build_task, build_protocol):
    info, train, _ = figures
    knobs = {"hourglass": {"stages": 2, "width": 16}, "cpn": {"width": 4}}[model]
    torch.manual_seed(0)
    backbone = registry.build("model", model, registry.check_knobs("model", model, knobs))
    task = build_task(size=[64, 64], sigma=1.5, ohkm=8)
    net = nn.Sequential(
        backbone, task.head(info, backbone.channels, backbone.strides, intermediate=backbone.intermediate)
    )
    batch = task.collate([task.encode(train[index], info, None) for index in range(4)])
    optimizer = torch.optim.Adam(net.parameters(), lr=2e-3)
    losses = []
    for _ in range(15):
        loss = task.loss(net(task.prepare(batch)), batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    assert all(parameter.grad is not None for parameter in net.parameters())
    assert len(task.predict(net.eval(), batch, build_protocol())) == 4
