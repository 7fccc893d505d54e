"""The demo in Python: train, explain, make a plan by hand, carry it out, and go on training.

Run it with ``.venv/bin/python examples/digits.py`` after ``make demo``.
"""

import torch
from prunus import engine
from prunus.cli.demo import DigitNet, Digits, measure, train

torch.manual_seed(0)
digits = Digits()
model = DigitNet()
train(model, digits, epochs=8, learning_rate=3e-3)
image = digits.test_images[:1]

graph = engine.analyze(model, image)
print(graph.why("stem", "head"), "\n")

plan = engine.prune(model, example_inputs=image, ratio=0.5, skip=["stem.out"], dry_run=True).plan
print(plan, "\n")

engine.apply(model, plan)
print("pruned:    ", *measure(model, digits))
train(model, digits, epochs=4, learning_rate=2e-3)
print("fine-tuned:", *measure(model, digits))
