"""Example calls: reading the expressions of ``#: example`` lines, and writing them."""

import math

import pytest
import torch
from prunus.engine.proving.check import complaint
from prunus.rules.examples import called, evaluate
from torch import nn


def test_an_example_may_hold_a_comprehension():
    """Names are known inside of it as outside."""
    example = evaluate("torch.stack([randn(2, 3) for _ in range(4)])")
    assert [tensor.shape for tensor in example.args[0]] == [(2, 3)] * 4


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("torch.nn.Linear(3, 4)(randn(2, 3))", "torch.nn.Linear"),
        ("torch.nn.Linear(3, 4).double()(randn(2, 3))", "torch.nn.modules.linear.Linear"),
        (
            "torch.nn.utils.parametrizations.weight_norm(torch.nn.Linear(3, 4))(randn(2, 3))",
            "torch.nn.utils.parametrize.ParametrizedLinear",
        ),
    ],
)
def test_a_module_is_called_by_the_name_of_its_class(text, name):
    """Whatever has made it: a rule speaks of the class."""
    example = evaluate(text)
    assert isinstance(example.target, nn.Module)
    assert example.name == name


def test_a_bare_name_is_not_a_call():
    """The message says so, rather than that some part of the name is unknown."""
    with pytest.raises(ValueError, match="this is not a call"):
        evaluate("torch.relu")


ARGUMENTS = [
    torch.ones(()),
    torch.ones(2, 3).half(),
    torch.ones(3, dtype=torch.complex64),
    torch.zeros((), dtype=torch.int64),
    torch.zeros(2, 3, dtype=torch.uint8),
    torch.zeros((), dtype=torch.bool),
    [torch.ones(2), (torch.zeros(2, dtype=torch.int32),)],
    (),
    (1, 2),
    math.inf,
    -math.inf,
    slice(1, None),
    ...,
    torch.float16,
    torch.channels_last,
]


@pytest.mark.parametrize("argument", ARGUMENTS, ids=str)
def test_what_is_written_can_be_read(argument):
    """A call that was written as an example has arguments of the same shapes and kinds again."""
    text = called("torch.relu", torch.relu, {"input": argument}).text
    assert kind(evaluate(text).args[0]) == kind(argument)


def test_a_device_is_written_by_its_name():
    """Which every operation takes in its place."""
    text = called(
        "torch.zeros_like", torch.zeros_like, {"input": torch.randn(2), "device": torch.device("cpu")}
    ).text
    assert evaluate(text).kwargs == {"device": "cpu"}


def kind(item):
    """An argument, a tensor as its shape and dtype."""
    if isinstance(item, torch.Tensor):
        return item.shape, item.dtype
    return type(item)(map(kind, item)) if isinstance(item, (list, tuple)) else item


def test_a_shape_is_an_argument():
    """As it is of ``reshape``: its numbers may be sizes like any others."""
    assert complaint(evaluate("torch.reshape(randn(2, 3), randn(6).shape)")) is None
