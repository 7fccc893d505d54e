"""Random rule files: every statement and clause, in all the layouts that the language allows."""

from hypothesis import strategies as st

NAMES = ["c", "n", "out", "conv", "heads", "weight", "x1", "a_rather_long_factor", "default", "next", "by"]
# What could be taken for a keyword where a clause may begin is used inside of brackets only.
DIM_NAMES = [*NAMES, "at", "where", "hold", "macs", "module", "use"]
COMMENTS = ["# A note", "#: example f(randn(2))", "## two", '# a "quote', "#x; y: z = [", "#:", "# a\tb"]
WORDS = ["slots differ", "why # not", "a: b; c", "ends ->", ""]

name = st.sampled_from(NAMES)
star = st.builds("*{}".format, name)
path = st.lists(name, min_size=1, max_size=3).map(".".join)
# Only torch is imported, whatever lies about: some of these targets exist.
TARGETS = ["torch.relu", "torch.conv1d", "torch.nn.functional.log_softmax", "torch.x1", "torch.nn.by.next"]


class Texts:
    """Draws the pieces of a file; every comment gets a number, so that each can be looked for."""

    def __init__(self, draw):
        self.draw = draw
        self.comments = []

    def pick(self, *options):
        return self.draw(st.sampled_from(options))

    def some(self, one, least=1, most=3):
        return [one() for _ in range(self.draw(st.integers(least, most)))]

    def blanks(self, least=0):
        return self.pick(*[" ", "  ", "\t", " \t "], *([""] * (1 - least)))

    def comment(self):
        text = f"{self.pick(*COMMENTS)} <{len(self.comments)}>"
        self.comments.append(text)
        return text + self.pick("", " ", "\t")

    def line_end(self):
        """The end of a line, perhaps with a comment, then lines with nothing or a comment on them."""
        lines = [self.blanks() + (self.comment() if self.pick(0, 0, 0, 1) else "")]
        for _ in range(self.pick(0, 0, 0, 1, 2)):
            lines.append(self.blanks() + (self.comment() if self.pick(0, 1) else ""))
        return "\n".join(lines) + "\n"

    def gap(self, least=0):
        """Blanks, or a line end where it is one: inside brackets, after a comma, before an arrow."""
        if self.pick(0, 0, 0, 0, 0, 0, 1):
            return self.line_end() + self.blanks(1)
        return self.blanks(least)

    def listed(self, items, comma=","):
        out = items[0]
        for item in items[1:]:
            out += self.gap() + comma + self.gap() + item
        return out

    # axes

    def dim(self, depth=0):
        kind = self.pick(*["name"] * 4, *["star"] * 2, "fixed", "anything", *["product", "sum"] * (depth < 2))
        if kind == "name":
            return self.pick(*DIM_NAMES)
        if kind == "star":
            return self.draw(star)
        if kind in ("fixed", "anything"):
            return self.pick("4", "02") if kind == "fixed" else "_"
        if kind == "product":
            return self.bracketed("(", self.dims(depth + 1, 1, 3), ")")
        return self.bracketed("(", self.listed(self.some(lambda: self.dims(depth + 1, 1, 2), 2, 3), "+"), ")")

    def dims(self, depth=0, least=0, most=3):
        out = ""
        for dim in self.some(lambda: self.dim(depth), least, most):
            out += (self.gap(1) if out else "") + dim
        return out

    def bracketed(self, opening, inside, closing):
        return opening + self.gap() + inside + self.gap() + closing

    def operand(self, named=True):
        before = self.draw(path) + self.pick("", "", "...") if named else ""
        return before + self.bracketed("[", self.dims(), "]") + self.pick("", "", "?")

    # bodies and clauses

    def body(self):
        kind = self.pick("signature", "signature", "signature", "short", "relation")
        if kind == "short":
            return f"in{self.gap()}<->{self.blanks()}out"
        if kind == "relation":
            verb = self.pick("split", "regroup", "roll", "reduce", "unheard")
            factors = f"({', '.join(self.some(lambda: self.draw(name)))})" if self.pick(0, 1) else ""
            return verb + factors + self.pick("", " by  output sizes", "\tby sizes")
        inputs = self.listed(self.some(self.operand, 1, 5))
        return (
            inputs
            + self.gap()
            + "->"
            + self.gap()
            + self.listed(self.some(lambda: self.operand(False), 1, 2))
        )

    def named(self):
        return self.listed(self.some(lambda: self.draw(st.one_of(name, star)), 1, 6))

    def argument(self):
        return self.draw(path) + self.pick("", "", "[0]", "[-1].size")

    def size(self):
        factor = self.draw(st.one_of(name, star))
        return f"{factor}{self.gap()}={self.gap()}{self.pick(self.argument(), self.draw(star))}"

    def position(self):
        return f"{self.draw(st.one_of(name, star))}{self.gap()}={self.gap()}{self.argument()}"

    def clause(self):
        kinds = (
            "flow",
            "where",
            "at",
            "hold",
            "block",
            "mixes",
            "positions",
            "slides",
            "sums",
            "scales",
            "zero",
            "multilinear",
        )
        kind = self.pick(*kinds, "tie", "macs")
        if kind == "flow":
            return f"{self.draw(name)} -> next.{self.draw(name)}"
        if kind in ("where", "at"):
            return f"{kind} " + self.listed(self.some(self.size if kind == "where" else self.position))
        if kind == "block":
            return f'block {self.named()} "{self.pick(*WORDS)}"'
        if kind == "slides":
            factor = st.one_of(name, star)
            into = f"{self.gap()}->{self.gap()}{self.draw(factor)} by {self.draw(name)}"
            return f"slides {self.draw(factor)}{self.pick('', into)}"
        if kind == "scales":
            power = self.pick("-0.5", "2", "-1", "0.25", "1e-7")
            unless = self.pick("", f" unless {self.draw(name)}")
            return f"scales {self.draw(path)} by {self.draw(name)} **{self.gap()}{power}{unless}"
        if kind in ("zero", "multilinear"):
            least = 0 if kind == "zero" else 1
            products = self.some(lambda: " ".join(self.some(lambda: self.draw(path), 1, 3)), least, 6)
            return f"{kind} {self.listed(products, '+')}" if products else kind
        if kind == "macs":
            return "macs " + self.listed(self.some(lambda: " ".join(self.some(self.dim, 1, 4)), 1, 6), "+")
        return f"{kind} {self.named()}"

    def between(self):
        """What separates two clauses: a semicolon, or the end of a line; with or without comments."""
        kind = self.pick("same", "same", "line", "both")
        if kind == "same":
            return self.blanks() + ";" + self.gap()
        return self.blanks() + (";" if kind == "both" else "") + self.line_end() + self.blanks(1)

    # statements

    def rule(self, name=None):
        parts = [self.body()] if self.pick(1, 1, 1, 0) else [self.clause()]
        out = f"{name or self.draw(name_)}{self.blanks()}:{self.gap()}{parts[0]}"
        for _ in range(self.pick(0, 0, 1, 1, 2, 4)):
            out += self.between() + self.clause()
        return out

    def targets(self, name=None):
        listed = self.listed(self.some(lambda: self.pick(*TARGETS), 1, self.pick(2, 2, 7)))
        return f"{name or self.draw(name_)}{self.blanks()}={self.gap()}{listed}"

    def module(self):
        def bookkeeping():
            times = f"{self.blanks()}*{self.gap()}{self.draw(path)}" if self.pick(0, 0, 1) else ""
            return (
                f"{self.argument()}{self.gap()}={self.gap()}{self.draw(path)}[{self.pick('0', '-1')}]{times}"
            )

        attributes = self.listed(self.some(bookkeeping, 1, self.pick(1, 2, 6)))
        return f"module{self.blanks(1)}{self.pick(*TARGETS)}{self.blanks()}:{self.gap()}{attributes}"

    def use(self):
        return "use " + self.pick("default", "base.rules", '"my rules/a.rules"', '"default"', '""')

    def statements(self):
        kind = self.pick("rule", "rule", "targets", "both", "module", "use")
        if kind == "both":
            called = self.draw(name_)
            return [self.targets(called), self.rule(called)]
        return [getattr(self, kind)()]

    def file(self):
        out = "".join(self.some(lambda: self.line_end().lstrip(" \t"), 0, 1))
        first = True
        for _ in range(self.draw(st.integers(0, 5))):
            for statement in self.statements():
                out += ("" if first else self.after()) + statement
                first = False
        return out + self.pick("", "\n", "" if first else " ;\n", self.blanks() + self.comment())

    def after(self):
        """What separates two statements."""
        kind = self.pick("line", "line", "line", "same", "indented")
        if kind == "same":
            return self.blanks() + ";" + self.blanks()
        return self.blanks() + self.pick("", ";") + self.line_end() + (" " if kind == "indented" else "")


name_ = st.sampled_from(["a", "conv", "default", "attention", "rather_long_name"])


@st.composite
def rule_texts(draw):
    """The text of a file that can be parsed, and the comments in it."""
    texts = Texts(draw)
    text = texts.file()
    text = text.replace("\n", "\r\n") if draw(st.integers(0, 4)) == 0 else text
    return text, [comment for comment in texts.comments if comment in text]
