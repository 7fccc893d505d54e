"""The verbs of relations and the keywords of clauses: the words the language knows."""

VERBS = frozenset(
    (
        *(
            "split",
            "regroup",
            "permute",
            "index",
            "assign",
            "narrow",
            "select",
            "find",
            "expand",
            "repeat",
            "reduce",
            "remake",
            "stack",
            "unbind",
        ),
        *("insert", "drop", "pad", "roll", "flip", "einsum", "new", "lower"),
    )
)

CLAUSES = ("where", "at", "hold", "block", "mixes", "sums", "zero", "tie", "macs")
