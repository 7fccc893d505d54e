"""A rule to start from, for an operation that has none: with the coupling that trial finds, if any."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress

import torch
from attrs import evolve
from torch import Tensor, nn

from ...errors import PrunusError
from ...rules import draft
from ...rules.arguments import argument_names
from ...rules.examples import Example, variations
from ...rules.targets import written_name
from ..tracing import Call, Value
from .child import CannotBeTried, stub_by_child
from .law import judge
from .replay import replays
from .search import Found, PartOfAxis, Trial
from .verdict import MIXES, SUMS, WRONG, Untried, Verdict, severity

_FOUND = "# Found by trial: see that it means what you mean, then 'prunus rules check' it."
_NOT_FOUND = (
    "# Trial settles nothing here: write the same name where axes belong together, '_' where none do."
)
_LETTERS = re.compile(r"\W+")


def stub_for(example: Example) -> str:
    """The text of a rule for the callable that `example` calls, found by trying it.

    Axes on which trial settles nothing are written ``_``: they stay. The rule says how it was found.
    """
    trial = Trial(example)
    if not trial.probes:
        return blank(example.name, argument_names(example.rule_target) or ())
    writer = _Writer(trial)
    return writer.verified() or writer.text(())


def stub_tried_apart(example: Example) -> str:
    """The same, found in another process, which sizes that do not fit may end."""
    try:
        return stub_by_child([example]) or blank(example.name, argument_names(example.rule_target) or ())
    except CannotBeTried as reason:
        return blank(example.name, argument_names(example.rule_target) or (), str(reason))


def stub_of_call(call: Call, model: nn.Module) -> str:
    """The text of a rule for a recorded call of `model`, found by making it again on small tensors."""
    remark = ""
    try:
        found = stub_by_child(list(replays(call, model)))
        if found is not None:
            return found
    except CannotBeTried as reason:
        remark = str(reason)
    name = written_name(call.target, call.name)
    given = [name for name, item in call.arguments.items() if isinstance(item, Value)]
    return blank(name, [name for name in given if "[" not in name], remark)


def blank(name: str, arguments: Sequence[str], remark: str = "") -> str:
    """A rule that says nothing yet, for a callable that was not called; `remark` says why it was not."""
    rule = rule_name(name)
    operands = ", ".join(f"{one}[*{rule_name(one)}]" for one in arguments) or "input[*input]"
    return "\n".join(
        [
            *([f"# Trial says nothing: {remark}."] if remark else []),
            "# The same name in two places couples them: input[n c], weight[c] -> [n c].",
            _example(f"{name}(...)"),
            f"{rule} = {name}",
            f"{rule}: {operands} -> [_]",
        ]
    )


def _example(text: str) -> str:
    """The line that lets the rule be checked; in words, where somebody has to complete it."""
    return (
        f"# To check it, complete this line: '#: example {text}'" if "(...)" in text else f"#: example {text}"
    )


def rule_name(name: str) -> str:
    """A name for a rule about the callable of that dotted name."""
    parts = [part for part in name.split(".") if part not in ("default", "apply", "__get__")]
    return _LETTERS.sub("_", parts[-1]).strip("_").lower() or "operation"


class _Writer:
    """Writes the factors that a trial found as a rule."""

    def __init__(self, trial: Trial):
        self.trial = trial
        self.factors = trial.factors()
        self.data = next(iter(trial.tensors))
        self.names = _named(self.factors, self.data)
        self.leading = 0  # as many axes of the data are written as a star

    def text(self, clauses: Iterable[str]) -> str:
        """The rule with these clauses."""
        example = self.trial.example
        rule = rule_name(example.name)
        operands = dict.fromkeys(
            f"{self._written(one)}{'...' * self._is_listed(one)}[{' '.join(dims)}]"
            for one, dims in self._operands()
        )
        results = [f"[{' '.join(dims)}]" for dims in self._results()]
        lines = [
            _FOUND if self.factors else _NOT_FOUND,
            *self._limits(),
            _example(example.text),
            f"{rule} = {example.name}",
            f"{rule}: {', '.join(operands)} -> {', '.join(results)}",
        ]
        return "\n".join([*lines, *(f"    {clause}" for clause in clauses)])

    def verified(self) -> str | None:
        """The most that can be said and stands the law, without factors that do not; nothing if none do."""
        clauses = [*self._given(), *self._flows()]
        verdicts = self._judged(self.text(clauses))
        while wrong := self._wrong(verdicts):
            self._forget(wrong)
            clauses = [*self._given(), *self._flows()]
            verdicts = self._judged(self.text(clauses))
        self._spread(clauses)
        verdicts = self._judged(self.text(clauses))
        if verdicts is None or not self.factors:
            return None
        for clause, kind in (("mixes", MIXES), ("sums", SUMS)):
            named = [self._starred(verdict.factor) for verdict in verdicts if verdict.kind == kind]
            clauses += [f"{clause} {', '.join(named)}"] if named else []
        for zero in self._zeros():
            verdicts = self._judged(self.text([*clauses, zero]))
            if not self._wrong(verdicts):
                clauses.append(zero)
                break
        return self.text(clauses)

    def _starred(self, factor: str) -> str:
        """A factor as clauses write it."""
        return f"*{factor}" if self.leading and factor == "n" else factor

    def _wrong(self, verdicts: list[Verdict] | None) -> set[str]:
        """The factors that the law refutes; all of them if the rule could not be tried."""
        if verdicts is None:
            return set(self.names)
        wrong = {verdict.factor for verdict in verdicts if verdict.kind == WRONG}
        return wrong & set(self.names) or (set(self.names) if wrong else set())

    def _forget(self, names: set[str]) -> None:
        """Say nothing of the axes of these factors."""
        known = [(one, name) for one, name in zip(self.factors, self.names) if name not in names]
        self.factors, self.names = [one for one, _ in known], [name for _, name in known]
        self.leading = 0

    def _spread(self, clauses: Iterable[str]) -> None:
        """Write the leading axes of the data as a star if the operation takes one axis more as well."""
        example = self.trial.example
        batch = self._batch_axes()
        place = next((i for i, item in enumerate(example.args) if isinstance(item, Tensor)), None)
        if not batch or place is None:
            return
        self.leading = batch
        data = example.args[place]
        args = (*example.args[:place], torch.stack([data] * 3), *example.args[place + 1 :])
        text = self.text(clauses)
        verdicts = self._judged(text)
        one_more = self._judged(text, evolve(example, args=args))
        if self._wrong(verdicts) or _kinds(verdicts) != _kinds(one_more):
            self.leading = 0

    def _batch_axes(self) -> int:
        """How many leading axes the data and every result share with each other, and with nothing else."""
        dims = [next(dims for _, dims in self._operands()), *self._results()]
        exact = {name for name, one in zip(self.names, self.factors) if not one.mixes}
        count = 0
        for column in zip(*(one[:-1] for one in dims)):
            if len(set(column)) > 1 or column[0] not in exact or re.fullmatch(r"n\d*", column[0]) is None:
                break
            count += 1
        return count

    def _judged(self, text: str, example: Example | None = None) -> list[Verdict] | None:
        """What the law says of the rule: the worst of the call and of those with other options."""
        example = example or self.trial.example
        try:
            _, rules = draft(text, "<stub>")
            verdicts = judge(example, rules, count=False)
        except (Untried, PrunusError):
            return None
        for other in variations(example):
            with suppress(Untried):
                verdicts += judge(other, rules, count=False)
        worst = {verdict.factor: verdict for verdict in sorted(verdicts, key=severity)}
        return list(worst.values())

    def _limits(self) -> list[str]:
        """What else the call was given, of which the rule knows nothing."""
        probe = self.trial.probes[0]
        sizes = {place.name for one in self.factors for place in one.operands}
        given = [
            f"{path} = {number}" for path, number in zip(probe.paths, probe.numbers) if path not in sizes
        ]
        return [f"# It was tried with {', '.join(given)} only."] if given else []

    def _operands(self) -> Iterator[tuple[str, list[str]]]:
        for name, tensor in self.trial.tensors.items():
            if tensor.dim():
                yield name, self._dims(name, tensor.dim(), [one.operands for one in self.factors])

    def _results(self) -> Iterator[list[str]]:
        for number, result in enumerate(self.trial.wholes[0]):
            yield self._dims(str(number), result.dim(), [one.results for one in self.factors])

    def _dims(self, name: str, rank: int, places: Sequence[Sequence[PartOfAxis]]) -> list[str]:
        dims = ["_"] * rank
        for factor, own in zip(self.names, places):
            for place in own:
                if place.name == name and place.axis >= 0:
                    dims[place.axis] = _dim(place, factor)
        if self.leading and (name == self.data or name.isdigit()):
            dims[: self.leading] = ["*n"]
        return dims

    def _given(self) -> list[str]:
        """``where c = groups``: the numbers that are sizes."""
        sizes = [
            f"{factor} = {place.name}"
            for factor, one in zip(self.names, self.factors)
            for place in one.operands
            if place.axis < 0
        ]
        return [f"where {', '.join(sizes)}"] if sizes else []

    def _flows(self) -> list[str]:
        """Factors that weights have, but not the data, are made here."""
        return [
            f"{factor} -> next.in"
            for factor, one in zip(self.names, self.factors)
            if all(place.name != self.data for place in one.operands)
        ]

    def _zeros(self) -> list[str]:
        """What may be true of zeros, the strongest first."""
        ranks = {self._written(name): self.trial.tensors[name].dim() for name, _ in self._operands()}
        names = list(ranks)
        vectors = [name for name in names[1:] if ranks[name] < 2]
        others = [name for name in names if name not in vectors]
        terms = [" ".join(names), " + ".join([" ".join(others), *vectors]), " + ".join(names)]
        return [f"zero {term}" for term in dict.fromkeys(terms)]

    def _written(self, name: str) -> str:
        """An operand as a rule writes it: a module's parameters begin with ``self.``, a list has one name."""
        if name.startswith("module."):
            return f"self.{name.removeprefix('module.')}"
        return name.rstrip("_").rpartition("_")[0] if self._is_listed(name) else name

    def _is_listed(self, name: str) -> bool:
        """Whether this is one of a list of tensors."""
        item = re.fullmatch(r"(.+)_\d+_", name)
        return item is not None and item[1] in (argument_names(self.trial.example.rule_target) or ())


def _kinds(verdicts: Iterable[Verdict] | None) -> dict[str, str] | None:
    return None if verdicts is None else {verdict.factor: verdict.kind for verdict in verdicts}


def _named(factors: Sequence[Found], data: str) -> list[str]:
    """A name for each factor that says what it does."""
    names: list[str] = []
    for one in factors:
        in_data = any(place.name == data for place in one.operands)
        alone = len({place.name for place in one.operands if place.axis >= 0}) == 1
        alone = alone and all(place.outer == place.inner == 1 for place in one.operands)
        if in_data:
            stem = ("n" if alone else "c") if one.results else "in"
        else:
            stem = "out" if one.results else "h"
        used = sum(re.fullmatch(rf"{stem}\d*", name) is not None for name in names)
        names.append(f"{stem}{used + 1}" if used else stem)
    return names


def _dim(place: PartOfAxis, factor: str) -> str:
    if place.outer > 1:
        return f"({place.outer} {factor})"
    return f"({factor} {place.inner})" if place.inner > 1 else factor
