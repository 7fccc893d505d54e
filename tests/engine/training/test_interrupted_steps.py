"""A schedule knows what became of the model, whatever line of `prune` an interrupt strikes.

Python 3.12 comes to the line of a ``with`` once more when it is left, with the model pruned.
"""

from __future__ import annotations

import sys
from itertools import count

import torch
from prunus import engine
from prunus.engine.prune import prune
from prunus.engine.tracing import inner
from torch import nn


class Strike:
    """Raises at one of the lines of `prune` that a call comes to."""

    def __init__(self, number: int) -> None:
        self.left, self.struck = number, False

    def __call__(self, frame, event, argument):
        if frame.f_code is not inner(prune).__code__:
            return None
        return self.at_line

    def at_line(self, frame, event, argument):
        if event == "line":
            self.left -= 1
            if self.left < 0 and not self.struck:
                self.struck = True
                raise KeyboardInterrupt
        return self.at_line


def test_the_schedule_goes_with_the_model():
    x = torch.randn(2, 6)
    tried = 0
    for number in count():
        model = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 4)).eval()
        schedule = engine.Schedule(model, example_inputs=x, ratio=0.5, steps=1, every=1)
        strike, before = Strike(number), sys.gettrace()
        sys.settrace(strike)
        try:
            schedule.step()
        except KeyboardInterrupt:
            pass
        finally:
            sys.settrace(before)
        assert schedule.done == bool(schedule.plan.groups) == (model[0].out_features == 8), number
        if not strike.struck:
            break
        tried += 1
    assert tried > 5 and schedule.done
