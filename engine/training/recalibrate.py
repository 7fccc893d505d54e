"""Estimates running statistics anew, which pruning leaves as they were for the whole model."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from ...adapters.submodules import each_module, set_training
from ...adapters.undisturbed import undisturbed
from ...adapters.undo import raise_first, try_each
from ...adapters.wrappers import check_sliceable
from ...errors import PlanError
from ..calibrating import inputs_of, one_by_one
from ..scoring import check_statistics_alike
from ..tracing import alone, call_arguments

_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


@alone
def recalibrate(model: nn.Module, data: Iterable[Any], *, tokenizer: Any = None) -> nn.Module:
    """Estimate the running statistics of batch norms (and of instance norms that keep them) from `data`.

    Each becomes the average over the batches of `data`, all with the same weight. Only these modules are
    told to train meanwhile: dropout stays off, so that they see what they will see in use, and random
    numbers, parameters, gradients, training flags and other buffers are as before.
    (`torch.optim.swa_utils.update_bn` would train all modules, and set the training flag of all alike.)

    Parameters
    ----------
    model : its statistics are changed in place. One that keeps none is returned as it is, `data` unread.
    data : what `prune` takes: batches of inputs, each in one of the forms that `analyze` takes: a tensor, a
        tuple of positional arguments (or a list, as a `DataLoader` yields it), a dict of keyword arguments,
        or the pair ``(args, kwargs)``; or texts, rows of tokens or a tensor of them. ``labels`` that the
        model does without are left out. A generator will do. Batches are best as large as in training.
        Padding counts, as it does in training.
    tokenizer : what makes tokens of texts, a callable such as a tokenizer of transformers.

    Returns
    -------
    The model itself.

    Raises
    ------
    PlanError
        If there is no batch, or the model does not run on one. The statistics are then as before.
    """
    check_sliceable(model)
    check_statistics_alike()
    normalisations = [module for _, module in each_module(model) if _keeps_statistics(module)]
    if not normalisations:
        return model
    statistics = [_Statistics(module) for module in normalisations]
    try:
        with undisturbed(model, [value for one in statistics for value in one.tensors]):
            for one in statistics:
                one.average()
            _run_all(model, one_by_one(model, data, tokenizer))
        return model
    except BaseException:
        failures: list[BaseException] = []
        try_each(_Statistics.put_back, statistics, failures)
        raise_first(failures)
        raise


def _run_all(model: nn.Module, data: Iterable[Any]) -> None:
    number = 0
    for number, batch in enumerate(data, 1):
        try:
            (given,) = inputs_of(model, [tuple(batch) if isinstance(batch, list) else batch])
            args, kwargs = call_arguments(given)
            model(*args, **kwargs)
        except Exception as error:
            raise PlanError(
                f"the model does not run on batch {number} of data ({type(error).__name__}: {error}). "
                "A batch is the inputs alone, without labels: a tensor, a tuple of positional arguments, a "
                "dict of keyword arguments, or the pair (args, kwargs). The statistics are as they were"
            ) from error
    if not number:
        raise PlanError("data has no batch: a generator may have been used up")


class _Statistics:
    """Those of one module, as they are now."""

    def __init__(self, module: nn.Module):
        self._module = module
        self._before = [(name, value, value.clone()) for name, value in _statistics(module).items()]
        self._calls = 0

    @property
    def tensors(self) -> list[Tensor]:
        """The tensors that will be written into."""
        return [value for _, value, _ in self._before]

    def average(self) -> None:
        """Let the module train, with a momentum that makes all calls count alike.

        The first call starts from nothing; without any (the forward may read the statistics without calling
        the module) they stay. Flag, hook and momentum are put back with all else that the model holds.
        """
        set_training(self._module, True)
        self._module.register_forward_pre_hook(self._count)

    def _count(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        self._calls += 1
        if self._calls == 1:
            _reset(module)
        module.momentum = 1 / self._calls  # type: ignore[assignment]  # a number, as these modules have it

    def put_back(self) -> None:
        """After an error they are as before."""
        for name, value, contents in self._before:
            with torch.no_grad():
                value.copy_(contents)
            self._module._buffers[name] = value


def _keeps_statistics(module: nn.Module) -> bool:
    """Frozen batch norms have statistics but no momentum: they are not meant to change."""
    return _statistics(module).keys() >= {"running_mean", "running_var"} and hasattr(module, "momentum")


def _statistics(module: nn.Module) -> dict[str, Tensor]:
    buffers = {name: module._buffers.get(name) for name in _STATISTICS}
    return {name: value for name, value in buffers.items() if value is not None}


def _reset(module: nn.Module) -> None:
    for name, value in _statistics(module).items():
        value.fill_(1 if name == "running_var" else 0)
