"""Prune every model of ``zoo.txt`` with the shipped rules and no configuration, and judge the result.

``python tests/zoo.py [--only PATTERN] [--jobs 2] [-v]`` prints one line a model and exits with 1 where
one of them fails. A row that crashes or hangs is a failed row, not the end of the run.
"""

from __future__ import annotations

import argparse
import copy
import multiprocessing
import re
import sys
import threading
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import oracle
import torch
from attrs import define, field
from prunus import engine
from torch import nn
from zoo_models import build

LIST = Path(__file__).with_name("zoo.txt")
LEAST_REMOVED = 0.40
SECONDS = 300.0

# Every group of these meets a statistic: a norm over the residual stream, and one over each hidden layer.
NOTHING_EXACT = {"timm gmlp_ti16_224", "transformers ConvNextV2Model"}


@define
class Verdict:
    """How one model of the zoo fared; ``details`` is for whoever has to find out why."""

    kind: str
    name: str
    failures: list[str] = field(factory=list)
    details: list[str] = field(factory=list)
    removed: float | None = None
    error: float | None = None
    groups: str = "-"
    analyze_seconds: float | None = None
    seconds: float | None = None

    def __str__(self) -> str:
        head = f"{'FAIL' if self.failures else 'ok  '}  {self.kind} {self.name}".ljust(48)
        known = [
            ("removed {:.1f} %", None if self.removed is None else 100 * self.removed),
            ("exact {:.0e}", self.error),
            (f"groups {self.groups} exact", self.analyze_seconds),
            ("analyze {:.1f} s", self.analyze_seconds),
            ("total {:.0f} s", self.seconds),
        ]
        facts = "  ".join(text.format(value) for text, value in known if value is not None)
        return "  ".join([head, facts] + [f"<- {'; '.join(self.failures)}"] * bool(self.failures))


def rows() -> list[tuple[str, str]]:
    """Kind and name of each model that is asked for."""
    words = [line.split() for line in LIST.read_text().splitlines() if line and not line.startswith("#")]
    return [(kind, name) for kind, name, *_ in words if kind != "later"]


def judge(kind: str, name: str) -> Verdict:
    """Prune half of every group of one model: it must shrink, run and be the masked original."""
    verdict = Verdict(kind, name)
    start = time.perf_counter()
    for step in steps(verdict):
        try:
            step()
        except Exception as failure:
            text = str(failure).strip().split("\n")[0]
            verdict.failures.append(f"{step.__name__}: {type(failure).__name__}: {text}"[:300])
            verdict.details.append(traceback.format_exc())
    verdict.seconds = time.perf_counter() - start
    return verdict


def steps(verdict: Verdict) -> Iterator:
    """What is asked of a model, in order; where it cannot be built or analysed, the rest is not asked."""
    model: nn.Module = None  # type: ignore[assignment]
    inputs = graph = None

    def built():
        nonlocal model, inputs
        model, inputs = build(verdict.kind, verdict.name)
        oracle.run(model, inputs)

    def analyzed():
        nonlocal graph
        start = time.perf_counter()
        found = engine.analyze(model, inputs)
        verdict.analyze_seconds = time.perf_counter() - start
        free = [group for group in found.groups if group.producers]
        verdict.groups = f"{sum(group.exact for group in free)}/{len(free)}"
        verdict.details.extend(describe(found))
        graph = found

    def all_known():
        costly = [call.name for call in graph.unknown if call.costs]
        assert not costly, "no rule for " + ", ".join(f"{n} ({k})" for n, k in Counter(costly).most_common())

    def pruned():
        copied = copy.deepcopy(model)
        shapes = fixed_sizes(graph, oracle.run(model, inputs))
        before = parameters(copied)
        engine.prune(copied, example_inputs=inputs, ratio=0.5)
        verdict.removed = 1 - parameters(copied) / before
        assert fixed_sizes(graph, oracle.run(copied, inputs)) == shapes, "outputs changed shape"
        assert verdict.removed >= LEAST_REMOVED, f"only {100 * verdict.removed:.1f} % removed"

    def exact():
        if f"{verdict.kind} {verdict.name}" in NOTHING_EXACT:
            assert not any(group.exact for group in graph.groups if group.producers), "a group is exact"
            return
        plan = graph.choose(ratio=0.5, criterion="random", exact_only=True)
        verdict.error = oracle.check(model, inputs, plan, tolerance=float("inf")).error
        assert verdict.error <= 1e-4, f"pruned and masked differ by {verdict.error:.1e}"

    yield built
    if model is not None:
        yield analyzed
    if graph is not None:
        yield from (all_known, pruned, exact)


def fixed_sizes(graph, outputs: Iterable[torch.Tensor]) -> list[list[int | None]]:
    """The shapes of the floating outputs; ``None`` for a size that the data tell."""
    values = [value for value in graph.trace.outputs if value.dtype.is_floating_point]
    return [
        [None if graph.told_by_data((value, axis)) else size for axis, size in enumerate(output.shape)]
        for value, output in zip(values, outputs, strict=True)
    ]


def parameters(model: nn.Module) -> int:
    """The number of numbers in a model's parameters."""
    return sum(parameter.numel() for parameter in model.parameters())


def describe(graph) -> Iterable[str]:
    """What cost the most: calls without a rule, blocked groups with their reasons, largest first."""
    for call in graph.unknown:
        yield f"no rule: {call.name}, costs {len(call.costs)} axes: {', '.join(map(str, call.costs[:6]))}"
    for group in sorted(graph.blocked, key=lambda group: -group.size * len(group.members))[:12]:
        yield f"blocked: {group.name}, {group.size} slots, {len(group.members)} members: {group.blocked}"


# --- many models at once -----------------------------------------------------------------------------------


class Worker:
    """A process that judges one row after the other; it is replaced where a row crashes or hangs."""

    def __init__(self) -> None:
        self.start()

    def start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(theirs,), daemon=True)
        self.process.start()
        theirs.close()

    def judge(self, kind: str, name: str, seconds: float = SECONDS) -> Verdict:
        self.pipe.send((kind, name))
        try:
            if self.pipe.poll(seconds):
                return self.pipe.recv()
            reason = f"no answer after {seconds:.0f} s"
        except (EOFError, ConnectionError):
            self.process.join(5)
            reason = f"the process died with status {self.process.exitcode}"
        self.stop()
        self.start()
        return Verdict(kind, name, failures=[reason])

    def stop(self) -> None:
        self.process.kill()
        self.process.join()
        self.pipe.close()


def serve(pipe) -> None:
    """Judge what comes down the pipe until it closes."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    while True:
        try:
            row = pipe.recv()
        except EOFError:
            return
        pipe.send(judge(*row))


def judge_all(wanted: list[tuple[str, str]], jobs: int) -> Iterator[Verdict]:
    """The verdicts, as they come in."""
    waiting, done, lock = iter(wanted), [], threading.Condition()

    def work() -> None:
        worker = Worker()
        while True:
            with lock:
                row = next(waiting, None)
            if row is None:
                return worker.stop()
            verdict = worker.judge(*row)
            with lock:
                done.append(verdict)
                lock.notify()

    for _ in range(min(jobs, len(wanted))):
        threading.Thread(target=work, daemon=True).start()
    for _ in wanted:
        with lock:
            lock.wait_for(lambda: done)
            verdict = done.pop(0)
        yield verdict


def main() -> int:
    """The command: judge the models that match, print a line each and a total."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", default="", metavar="PATTERN", help="a regular expression")
    parser.add_argument("--jobs", type=int, default=2, help="processes, of one thread each")
    parser.add_argument("-v", "--verbose", action="store_true", help="tracebacks, blocked groups")
    options = parser.parse_args()
    wanted = [row for row in rows() if re.search(options.only, " ".join(row))]
    failed = 0
    start = time.perf_counter()
    for verdict in judge_all(wanted, options.jobs):
        failed += bool(verdict.failures)
        print(verdict, flush=True)
        if options.verbose:
            print(
                "".join(f"    {line}\n" for text in verdict.details for line in text.splitlines()), flush=True
            )
    print(f"{len(wanted) - failed} of {len(wanted)} models ok, {time.perf_counter() - start:.0f} s")
    return 1 if failed or not wanted else 0


if __name__ == "__main__":
    sys.exit(main())
