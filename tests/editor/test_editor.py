"""Help for editors: colours, and the language server through a real client over stdio."""

import asyncio
import importlib
import json
import re
import sys
from pathlib import Path

import prunus
import pytest
from lsprotocol import types
from prunus.cli import main
from prunus.editor.complete import complete
from prunus.editor.cursor import cursor
from prunus.editor.hover import definition, hover
from prunus.grammar import ast, parse
from prunus.grammar.lines import RuleText
from prunus.grammar.words import CLAUSES, VERBS
from pygls.lsp.client import LanguageClient
from textmate_grammar.parsers.base import LanguageParser

ROOT = Path(prunus.__file__).parent
EDITOR = ROOT / "editor"
SHIPPED = sorted((ROOT / "rules").glob("*.rules"))


# Colours


@pytest.fixture(scope="module")
def grammar():
    """The TextMate grammar, ready to tokenize."""
    return LanguageParser(json.loads((EDITOR / "prunus-rules.tmLanguage.json").read_text()))


def scopes(grammar, text):
    """For each token of a text, in order, its place, its text, and its innermost scope."""
    tokens = grammar.parse_string(text).flatten()
    named = [(place, token, found[-1].removesuffix(".prunus-rules")) for place, token, found in tokens]
    return [one for one in named if one[1].strip()]


def scope_of(grammar, text, token):
    """The innermost scope of the one token of that text."""
    (scope,) = {scope for _, found, scope in scopes(grammar, text) if found == token}
    return scope


COLOURS = {
    "# A note": {"#": "punctuation.definition.comment", " A note": "comment.line.number-sign"},
    "#: example f(3)": {"example": "storage.type.example", " f(3)": "markup.raw.example"},
    "use default": {"use": "keyword.control.use", "default": "string.unquoted.use"},
    'use "a b.rules"': {'"a b.rules"': "string.unquoted.use"},
    "conv = torch.conv1d, # c\n   a.b.c": {
        "conv": "entity.name.function.rule",
        "=": "keyword.operator.assignment",
        "torch.conv1d": "entity.name.type.target",
        "a.b.c": "entity.name.type.target",
        " c": "comment.line.number-sign",
    },
    "module a.B: width = w.x[-1] * groups, size[0] = v[1]": {
        "module": "keyword.control.module",
        "a.B": "entity.name.type.target",
        "width": "variable.other.property",
        "w.x": "variable.parameter",
        "groups": "variable.parameter",
        "-1": "constant.numeric.integer",
        "size[0]": "variable.other.property",
    },
    "conv: self.w[n (2 at) *k]?, w...[_] -> [n (a + b)]": {
        "conv": "entity.name.function.rule",
        "self.w": "variable.parameter.operand",
        "?": "keyword.operator.optional",
        "...": "keyword.operator.list",
        "_": "constant.language.anything",
        "at": "variable.other.factor",
        "n": "variable.other.factor",
        "b": "variable.other.factor",
        "2": "constant.numeric.integer",
        "*k": "variable.other.star",
        "+": "keyword.operator",
        "->": "keyword.operator.arrow",
    },
    "relu: in <-> out": {"in": "variable.other.factor", "<->": "keyword.operator.arrow"},
    "c: split(out) by input sizes; out -> next.in": {
        "split": "support.function.verb",
        "by": "keyword.other.by",
        "input sizes": "support.constant.by",
        "out": "variable.other.factor",
        "next": "keyword.other.clause",
    },
    "r: x[n] -> [n]\n   where g = groups[0],\n     *x = *k": {
        "where": "keyword.other.clause",
        "g": "variable.other.factor",
        "groups": "variable.parameter",
        "*x": "variable.other.star",
        "*k": "variable.other.star",
    },
    'r: x[n] -> [n]; block n "why # not"': {'"why # not"': "string.quoted.double"},
    "r: x[n] -> [n]; scales y by m ** -0.5 unless q": {
        "scales": "keyword.other.clause",
        "by": "keyword.other.clause",
        "unless": "keyword.other.clause",
        "y": "variable.parameter",
        "m": "variable.other.factor",
        "**": "keyword.operator.power",
        "-0.5": "constant.numeric",
        "q": "variable.parameter",
    },
    "r: x[n] -> [n]; zero x + weight": {"weight": "variable.parameter", "+": "keyword.operator"},
    "a: roll; b: hold c; hold = x.y": {
        "a": "entity.name.function.rule",
        "b": "entity.name.function.rule",
        "x.y": "entity.name.type.target",
    },
}


@pytest.mark.parametrize("text", COLOURS)
def test_colours(text, grammar):
    """Every kind of thing has a scope of its own."""
    assert {token: scope_of(grammar, text, token) for token in COLOURS[text]} == COLOURS[text]


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_every_verb_is_coloured(verb, grammar):
    """The grammar knows each verb of the language, also on a line of its own, and nothing that is none."""
    for text in (f"r: {verb}", f"r:\n   {verb}  # c", f"r:{verb}(a) by b; hold a"):
        assert scope_of(grammar, text, verb) == "support.function.verb"
    assert scope_of(grammar, f"r: {verb}ly", f"{verb}ly") == "variable.other.factor"


@pytest.mark.parametrize("clause", CLAUSES)
def test_every_clause_is_coloured(clause, grammar):
    """The grammar knows each keyword of a clause, wherever a clause may begin, and only there."""
    argument = {"where": "c = d", "at": "c = d", "block": 'c "d"'}.get(clause, "c")
    for before in ("r: ", "r: roll;", "r: roll  ; ", "r: roll  # c\n\t"):
        assert scope_of(grammar, f"{before}{clause} {argument}", clause) == "keyword.other.clause"
    assert scope_of(grammar, f"r: x[{clause}] -> [{clause}]", clause) == "variable.other.factor"


def test_the_grammar_has_no_other_words():
    """Verbs and clauses of the grammar are those of the language, no more."""
    text = (EDITOR / "prunus-rules.tmLanguage.json").read_text()
    (verbs,) = re.findall(r"\((split\|[\w|]+)\)", text)
    clauses = "|".join(re.findall(r"\((where\|[\w|]+|zero\|[\w|]+|scales|multiple|hold\|[\w|]+)\)", text))
    assert set(verbs.split("|")) == VERBS
    assert set(clauses.split("|")) == set(CLAUSES)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_shipped_rules_are_coloured_as_they_are_parsed(path, grammar):
    """What the parser takes for a rule, target or operand has the scope of one, in every shipped rule."""
    text = path.read_text()
    source = RuleText(path.name, text)
    found = {(line, column): (token, scope) for (line, column), token, scope in scopes(grammar, text)}
    expected = {}
    for statement in parse(text, path.name).statements:
        if isinstance(statement, (ast.Rule, ast.Targets)):
            name = statement.rule if isinstance(statement, ast.Targets) else statement.name
            expected[statement.span] = (name, "entity.name.function.rule")
        if isinstance(statement, ast.Targets):
            expected.update({one.span: (one.name, "entity.name.type.target") for one in statement.targets})
        elif isinstance(statement, ast.Rule) and isinstance(statement.body, ast.Signature):
            inputs = () if statement.body.short else statement.body.inputs
            expected.update({one.span: (one.name, "variable.parameter.operand") for one in inputs})
    assert len(expected) > 10
    assert {span: found.get((span.line - 1, span.column - 1)) for span in expected} == expected
    for offset, comment in source.comments:
        line = source.line_of(offset)
        token, scope = found[line - 1, offset - source.starts[line - 1]]
        assert comment.startswith(token) and scope == "punctuation.definition.comment"


def test_the_extension_is_complete():
    """Every file that the VS Code extension names is there."""
    package = json.loads((EDITOR / "package.json").read_text())
    (language,), (colours,) = package["contributes"]["languages"], package["contributes"]["grammars"]
    assert language["id"] == colours["language"]
    for name in (package["main"], language["configuration"], colours["path"]):
        assert (EDITOR / name).is_file()
    json.loads((EDITOR / language["configuration"]).read_text())
    assert json.loads((EDITOR / colours["path"]).read_text())["scopeName"] == colours["scopeName"]


# What is said of a place, which is marked with a bar.


def marked(text):
    """A text without its mark, and the line and column of the mark."""
    before = text[: text.index("|")]
    return text.replace("|", "", 1), before.count("\n"), len(before) - (before.rfind("\n") + 1)


RULE = "conv2 = torch.conv2d\nconv2: input[n i *x], weight[o i *k] -> [n o *y]\n"

OFFERED = {
    "a|": {"module", "use"},
    "new = torch.relu\n|": {"new", "module"},
    "new = torch.nn.functional.li|": {"linear"},
    "new = tor|": {"torch", "torchvision"},
    "new = torch.conv1d,\n   torch.Tensor.|": {"T", "view"},
    "module torch.nn.|": {"Linear", "functional"},
    "conv2 = torch.conv2d\nconv2: |": {"input", "weight", "split", "hold", "in <-> out"},
    "conv2 = torch.conv2d\nconv2: input[n i], |": {"weight", "groups"},
    "conv2 = torch.conv2d\nconv2: input[n i *x], weight[|": {"n", "i", "*x"},
    RULE + "   |": {"where", "hold", "n"},
    RULE + "   w|\nrelu: hold z": {"where", "hold", "n"},
    RULE + "   hold o; where |": {"o", "*k"},
    RULE + "   where k = |": {"groups", "stride"},
    RULE + "   where k = groups, *|": {"*k", "i"},
    RULE + "   at k = gr|": {"groups"},
    RULE + "   mixes i, |": {"o"},
    RULE + "   macs n |": {"o", "*k"},
    RULE + "   zero |": {"input", "weight"},
    RULE + "   multilinear |": {"input", "weight"},
    RULE + "   scales |": {"input", "weight"},
    RULE + "   scales input by |": {"n", "o"},
    RULE + "   scales input by o ** 2 unless |": {"groups"},
    RULE + "   o -> |": {"next.in"},
    "mean: hold r; where x = |": {"input", "dim"},
}

NOT_OFFERED = {
    RULE + "   # hold |": set(),
    RULE + "   hold |": {"input", "split", "where", "z"},
    "new = torch.conv1d, |": {"where", "split"},
    "new = torch.nn.functional.|": {"__name__", "GRID_SAMPLE_PADDING_MODES"},
    "new = no_such_package.|": set(),
    "module torch.nn.Linear: |": set(),
}


@pytest.mark.parametrize("text", OFFERED)
def test_completion(text):
    """Targets, arguments, factors, verbs and keywords are offered where they may stand."""
    assert OFFERED[text] <= {name for name, _ in complete(*marked(text))}


@pytest.mark.parametrize("text", NOT_OFFERED)
def test_what_is_not_offered(text):
    """Nothing is offered where it cannot stand; an empty set here means nothing at all."""
    offered = {name for name, _ in complete(*marked(text))}
    assert not (offered & NOT_OFFERED[text]) and bool(offered) == bool(NOT_OFFERED[text])


def test_completion_of_a_users_module(tmp_path, monkeypatch):
    """What the user's own package has can be completed once it is imported; until then it offers nothing."""
    (tmp_path / "my_layers.py").write_text("def gate(x, width): return x\n")
    (tmp_path / "my_broken.py").write_text("raise SystemExit(3)\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert complete(*marked("g = my_layers.|")) == []
    assert "width" not in {name for name, _ in complete(*marked("g = my_layers.gate\ng: x[a], |"))}
    importlib.import_module("my_layers")
    assert ("gate", "Function") in complete(*marked("g = my_layers.|"))
    assert ("width", "Field") in complete(*marked("g = my_layers.gate\ng: x[a], |"))
    assert complete(*marked("g = my_broken.|")) == []


def test_no_place_breaks_completion_or_hover():
    """Wherever the cursor is, in good text or bad, there is an answer or none, but no error."""
    text = RULE + '   where k = groups; block i "w#y"  # c\n\nmodule torch.nn.GRU: a = b[0]\r\nuse x\n  x: [['
    for line, written in enumerate(text.split("\n")):
        for column in range(len(written) + 1):
            complete(text, line, column)
            assert cursor(text, line, column).kind in ("rule", "targets", "module", "comment", None)
            hover(text, "my.rules", line, column)


TOLD = {
    "con|v2 = torch.conv2d\nconv2: input[n] -> [n]": "conv2:      input[n] -> [n]\nmy.rules:2",
    "# Why.\nconv2 = torch.con|v2d\nconv2: input[n] -> [n]": "# Why.\nconv2     = torch.conv2d",
    "c|onv: hold out": "hold out\nnn.rules:",
    "mine = torch.cov|": "no rule for torch.cov",
    "module torch.nn.|Linear: in_features = weight[1]": "module torch.nn.Linear: in_features",
    "new = torch.amax\nnew: r|educe": "axes ``r`` are taken out",
    RULE + "   ho|ld *k": "never pruned here",
    RULE + "   hold *|k": "the same wherever it stands in conv2\n- `weight[o i *k]`\n- `hold *k`",
    RULE.replace("[n i", "[n |i"): "- `input[n i *x]`\n- `weight[o i *k]`",
    RULE.replace("weight[", "wei|ght["): "`weight`: an argument of conv2d",
    RULE + "   where o = gro|ups": "`groups`: an argument of conv2d",
    RULE + "   zero inp|ut": "`input`: an argument of conv2d",
}


@pytest.mark.parametrize(("text", "expected"), TOLD.items())
def test_hover(text, expected):
    """The rule, verb, clause, factor or argument under the cursor is explained."""
    text, line, column = marked(text)
    told, start, end = hover(text, "my.rules", line, column)
    assert expected in told
    assert start <= column <= end


@pytest.mark.parametrize("text", ["# hol|d", "use def|ault", "a: x[n]  | -> [n]", "|"])
def test_nothing_to_tell(text):
    """Comments, blanks and ``use`` have no hover."""
    text, line, column = marked(text)
    assert hover(text, "my.rules", line, column) is None


def test_definition(tmp_path):
    """A name or target leads to the line of its rule, in this file or in a shipped one."""
    path = tmp_path / "my.rules"
    assert definition("a = torch.relu\na: in <-> out", path, 0, 6) == (path, 1)
    file, line = definition("conv: hold g", path, 0, 1)
    assert (file, "conv:" in file.read_text().split("\n")[line]) == (ROOT / "rules" / "nn.rules", True)
    assert definition("a: hold gg", path, 0, 8) is None


# The server, through a client

LONELY = "write 'hold {}' if it is meant to stay, or '_' to say nothing of this axis"


GATES = "print('imported')\n\ndef gate(x, width):\n    return x\n"


class Editor:
    """A client that talks to the language server as an editor would."""

    def __init__(self, folder):
        self.folder = folder
        self.client = LanguageClient("test", "1")
        self.published = asyncio.Queue()

        @self.client.feature(types.TEXT_DOCUMENT_PUBLISH_DIAGNOSTICS)
        def take(params):
            self.published.put_nowait(params.diagnostics)

    async def start(self):
        """Start the server and introduce oneself."""
        (self.folder / "my_gates.py").write_text(GATES)
        code = "from prunus.cli import main; main(['rules', 'lsp', '--import', 'my_gates'])"
        await self.client.start_io(sys.executable, "-c", code, cwd=str(self.folder))
        self.capabilities = await self.client.initialize_async(
            types.InitializeParams(types.ClientCapabilities(), root_uri=self.folder.as_uri())
        )
        self.client.initialized(types.InitializedParams())

    async def stop(self):
        """Part as the protocol asks."""
        await self.client.shutdown_async(None)
        self.client.exit(None)
        await self.client.stop()

    async def open(self, name, text):
        """Open a text that is in no file; what is said of it."""
        self.uri = (self.folder / name).as_uri()
        document = types.TextDocumentItem(self.uri, "prunus-rules", 1, text)
        self.client.text_document_did_open(types.DidOpenTextDocumentParams(document))
        return await self.diagnostics()

    async def change(self, text):
        """Replace the text; what is said of it then."""
        document = types.VersionedTextDocumentIdentifier(2, self.uri)
        change = types.TextDocumentContentChangeWholeDocument(text)
        self.client.text_document_did_change(types.DidChangeTextDocumentParams(document, [change]))
        return await self.diagnostics()

    async def diagnostics(self):
        """The next diagnostics: severity, first line of the message, line, first column, last column."""
        found = await asyncio.wait_for(self.published.get(), 60)
        places = [(one.range.start.line, one.range.start.character, one.range.end.character) for one in found]
        return [(one.severity.name, one.message, *place) for one, place in zip(found, places)]

    def at(self, kind, line, column):
        """The parameters of a request about a place."""
        return kind(types.TextDocumentIdentifier(self.uri), types.Position(line, column))


@pytest.fixture(scope="module")
def in_editor(tmp_path_factory):
    """Runs a talk with the language server, which is one process for all tests."""
    loop = asyncio.new_event_loop()
    editor = Editor(tmp_path_factory.mktemp("project"))
    loop.run_until_complete(editor.start())
    yield lambda talk: loop.run_until_complete(talk(editor))
    loop.run_until_complete(editor.stop())
    loop.close()


def test_diagnostics(in_editor):
    """Unsaved text is linted when it is opened and whenever it changes, with the modules asked for."""

    async def talk(editor):
        assert await editor.open("my.rules", "g = my_gates.gat\ng: x[n d] -> [n]\n") == [
            ("Error", "no target 'my_gates.gat'\ndid you mean 'gate'?", 0, 4, 16),
            ("Warning", f"'d' is written only once in g\n{LONELY.format('d')}", 1, 7, 8),
        ]
        assert await editor.change("g = my_gates.gate\ng: x[n (2 c)] -> [n c]") == []
        (syntax,) = await editor.change("g = my_gates.gate\ng: x[")
        assert syntax[1].startswith("unexpected end of line") and syntax[2:4] == (1, 5)

    in_editor(talk)


def test_an_editor_imports_nothing(in_editor):
    """A module that a text names is not run, whatever is asked: of its targets nothing is said."""

    async def talk(editor):
        ran = editor.folder / "ran"
        (editor.folder / "evil.py").write_text(f"open({str(ran)!r}, 'w')\ndef gate(x): return x\n")
        (editor.folder / "base.rules").write_text("e = evil.gate\ne: x[n] -> [n]\n")
        text = "use base.rules\ng = evil.gate, torch.reluu\ng: x[n c] -> [n c]\nmodule evil.Gate: a = b[0]"
        assert await editor.open("my.rules", text) == [
            ("Error", "no target 'torch.reluu'\ndid you mean 'relu'?", 1, 15, 26)
        ]
        for line, written in enumerate(text.split("\n")):
            for column in range(0, len(written), 3):
                await editor.client.text_document_hover_async(editor.at(types.HoverParams, line, column))
                await editor.client.text_document_completion_async(
                    editor.at(types.CompletionParams, line, column)
                )
                await editor.client.text_document_definition_async(
                    editor.at(types.DefinitionParams, line, column)
                )
        assert not ran.exists()

    in_editor(talk)


def test_columns_are_those_of_the_editor(in_editor):
    """Editors count in UTF-16: a character outside of the first plane is two."""

    async def talk(editor):
        ((*_, start, end),) = await editor.open("my.rules", 'mean: block r "\U0001d11e"; hold z')
        assert (start, end) == (25, 26)
        told = await editor.client.text_document_hover_async(editor.at(types.HoverParams, 0, 21))
        assert (told.range.start.character, told.range.end.character) == (20, 24)

    in_editor(talk)


def test_errors_in_files_that_are_used(in_editor):
    """What is wrong in another file is told at the beginning of the one that uses it."""

    async def talk(editor):
        (editor.folder / "base.rules").write_text("a: x[n\n")
        ((severity, message, *place),) = await editor.open("my.rules", "use base.rules")
        assert (severity, place) == ("Error", [0, 0, 1])
        assert message.startswith(f"{editor.folder / 'base.rules'}:1: unexpected end of line")

    in_editor(talk)


def test_questions_of_an_editor(in_editor):
    """Hover, completion and definitions are answered for unsaved text."""

    async def talk(editor):
        await editor.open("my.rules", "g = torch.relu\ng: input[n c] -> [n c]\n   ")
        told = await editor.client.text_document_hover_async(editor.at(types.HoverParams, 0, 6))
        assert "my.rules:2" in told.contents.value and told.range.end.character == 14
        items = await editor.client.text_document_completion_async(editor.at(types.CompletionParams, 2, 3))
        kinds = {item.label: types.CompletionItemKind(item.kind).name for item in items}
        assert (kinds["hold"], kinds["c"]) == ("Keyword", "Variable")
        place = await editor.client.text_document_definition_async(editor.at(types.DefinitionParams, 0, 0))
        assert (place.uri, place.range.start.line) == (editor.uri, 1)
        nothing = await editor.client.text_document_hover_async(editor.at(types.HoverParams, 2, 1))
        assert nothing is None

    in_editor(talk)


def test_without_pygls(monkeypatch, capsys):
    """Without pygls the command says what to install."""
    monkeypatch.setitem(sys.modules, "pygls.lsp.server", None)
    monkeypatch.delitem(sys.modules, "prunus.editor.server", raising=False)
    assert main(["rules", "lsp"]) == 2
    assert "pip install 'prunus[editor]'" in capsys.readouterr().err
