"""A model's whole life: trained, made sparse, corrected, pruned half-way, saved, loaded, and trained on."""

import copy

import pytest
import torch
from prunus import PlanError, engine
from torch import nn
from torch.nn import functional as F


def net():
    """Two hidden convolutions with batch norm, and a classifier."""
    return nn.Sequential(
        nn.Conv2d(1, 12, 3, padding=1),
        nn.BatchNorm2d(12),
        nn.ReLU(),
        nn.Conv2d(12, 16, 3, padding=1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, 4),
    )


@pytest.fixture
def batches():
    """Eight batches of images, each image lit in the quarter that is its class."""
    torch.manual_seed(0)
    found = []
    for _ in range(8):
        classes = torch.randint(0, 4, (32,))
        images = 0.3 * torch.randn(32, 1, 8, 8)
        for image, label in zip(images, classes.tolist()):
            row, column = 4 * (label // 2), 4 * (label % 2)
            image[:, row : row + 4, column : column + 4] += torch.linspace(1, 0.2 * label, 4)
        found.append((images, classes))
    return found


def train(model, optimizer, batches, before_step=lambda: None):
    """One pass over the batches; the mean loss."""
    model.train()
    losses = []
    for images, classes in batches:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(images), classes)
        loss.backward()
        before_step()
        optimizer.step()
        losses.append(loss.item())
    model.eval()
    return sum(losses) / len(losses)


def error(model, batches):
    """The mean loss in eval mode."""
    with torch.no_grad():
        return sum(F.cross_entropy(model(x), y).item() for x, y in batches) / len(batches)


def test_from_training_to_a_file_and_on(batches, tmp_path):
    """Sparse training, pruning with correction and optimizer state, saving, loading, and training on."""
    torch.manual_seed(0)
    model = net()
    fresh = copy.deepcopy(model)
    images = [x for x, _ in batches]
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    regularizer = engine.Regularizer(engine.analyze(model, images[0]), strength=1e-3)
    for _ in range(6):
        trained = train(model, optimizer, batches, regularizer.step)

    result = engine.prune(
        model, example_inputs=images[0], macs=0.5, data=images, compensate="lstsq", optimizer=optimizer
    )
    result.save(tmp_path / "half.safetensors")
    loaded = engine.load(tmp_path / "half.safetensors", fresh.eval())
    assert torch.equal(loaded(images[0]), model(images[0]))
    for _ in range(2):
        going_on = train(model, optimizer, batches)
    assert going_on < 1.2 * trained + 0.05


def test_correction_helps_right_after_pruning(batches):
    """The loss of a trained model rises less with either correction than without."""
    torch.manual_seed(0)
    model = net()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(8):
        train(model, optimizer, batches)
    images = [x for x, _ in batches]

    def after(**options):
        pruned = copy.deepcopy(model)
        engine.prune(pruned, example_inputs=images[0], ratio=0.4, **options)
        return error(pruned, batches)

    assert after(data=images, compensate="lstsq") < after(data=images, compensate="mean") < after()


@pytest.mark.parametrize("criterion", ["taylor", "flap"])
def test_data_of_inputs_and_targets_serves_all_who_read_it(batches, criterion):
    """With a loss a batch is what the loss takes; what runs the model alone takes the first of a pair."""

    def loss(model, batch):
        images, classes = batch
        return F.cross_entropy(model(images), classes)

    options = {"criterion": criterion, "loss": loss, "compensate": "lstsq", "ratio": 0.4}
    torch.manual_seed(0)
    model, other = net(), net()
    other.load_state_dict(model.state_dict())
    engine.prune(model, example_inputs=batches[0][0], data=batches, **options)
    loader = ([images, classes] for images, classes in batches)  # as a DataLoader gives them, once
    engine.prune(other, example_inputs=batches[0][0], data=loader, **options)
    assert model[0].out_channels == 8
    assert all(map(torch.equal, model.state_dict().values(), other.state_dict().values()))


@pytest.mark.parametrize(
    "options, message",
    [
        ({"compensate": "lstsq"}, "data="),
        ({"compensate": "hope", "data": [torch.randn(2, 1, 8, 8)]}, "'hope'"),
        ({"compensate": "lstsq", "data": 3}, "list of batches"),
        ({"compensate": "lstsq", "data": []}, "no batch"),
        ({"compensate": "lstsq", "data": [torch.randn(2, 3, 8, 8)]}, "batch 0"),
        ({"criterion": "wanda"}, "data="),
        ({"criterion": "taylor"}, "loss"),
    ],
)
def test_what_data_cannot_do_is_one_error(options, message):
    """The model is left as it was."""
    model = net().eval()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(PlanError, match=message):
        engine.prune(model, example_inputs=torch.randn(2, 1, 8, 8), **options)
    assert all(map(torch.equal, model.state_dict().values(), before.values()))
    assert model[0].out_channels == 12


def test_plans_follow_one_another_where_a_group_is_down_to_one_slot(tmp_path):
    """Another group may have its name by then; what the plans do together is the same."""

    class Grouped(nn.Module):
        """Attention with grouped queries: two key heads, of which one stays, and four queries each."""

        def __init__(self):
            super().__init__()
            self.q, self.k, self.v = nn.Linear(6, 64), nn.Linear(6, 16), nn.Linear(6, 16)
            self.out = nn.Linear(64, 5)

        def forward(self, x):
            q, k, v = (
                layer(x).view(*x.shape[:2], -1, 8).transpose(1, 2) for layer in (self.q, self.k, self.v)
            )
            k, v = (one.repeat_interleave(q.shape[1] // one.shape[1], 1) for one in (k, v))
            return self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))

    torch.manual_seed(0)
    model, x = Grouped().eval(), torch.randn(2, 3, 6)
    fresh, other = copy.deepcopy(model), copy.deepcopy(model)
    plans = [engine.prune(model, example_inputs=x, ratio=0.5).plan for _ in range(2)]
    together = plans[0].followed_by(plans[1])
    assert torch.equal(engine.apply(other, together)(x), model(x))
    engine.save(tmp_path / "twice.safetensors", model, together)
    assert torch.equal(engine.load(tmp_path / "twice.safetensors", fresh)(x), model(x))
