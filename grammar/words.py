"""The verbs of relations and the keywords of clauses: the words the language knows."""

# Each verb, and the factors that it gives to the clauses of its rule; None: any, they depend on the call.
FACTORS: dict[str, tuple[str, ...] | None] = {
    "split": ("in", "out"),
    "regroup": (),
    "permute": (),
    "index": (),
    "assign": (),
    "narrow": (),
    "select": (),
    "find": (),
    "expand": (),
    "repeat": (),
    "reduce": ("r",),
    "remake": (),
    "stack": (),
    "unbind": (),
    "insert": (),
    "drop": (),
    "pad": (),
    "roll": (),
    "flip": (),
    "strided": (),
    "einsum": None,
    "new": ("n",),
    "lower": (),
}

VERBS = frozenset(FACTORS)

# Each keyword of a clause, and what the clause says.
MEANINGS = {
    "where": "that argument is the size of the factor, and is kept true",
    "at": "that argument is the position of the factor",
    "hold": "never pruned here",
    "block": "never pruned, and the text is what `why` prints",
    "mixes": "a statistic is taken over the factor: removing a slot is not the same as zeroing it",
    "positions": "results are positions in the factor: held where they are used, otherwise a statistic",
    "slides": "each slot is made with those beside it: removing one is not the same as zeroing it",
    "sums": "the factor is summed although it stays in the result",
    "scales": "an operand is multiplied by a power of the factor's size; pruning makes up for it in weights",
    "zero": "where the result is zero: a sum of products of operands, each with one that is zero",
    "multilinear": "the result is a sum of products of operands: multiplied if one of each product is",
    "constant": "the result is one number everywhere; of the first tensor only the shape counts",
    "tie": "these shrink by the same proportion",
    "multiple": "the slots that stay are multiples of so many, or fill multiples of so many bytes",
    "macs": "multiply-accumulates, as a sum of products",
}

CLAUSES = tuple(MEANINGS)
