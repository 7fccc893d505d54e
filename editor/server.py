"""A language server for ``.rules`` files: lints, hover, completion and definitions over stdio."""

from __future__ import annotations

import sys
from pathlib import Path

from lsprotocol import types
from pygls.lsp.server import LanguageServer
from pygls.uris import from_fs_path, to_fs_path
from pygls.workspace import TextDocument

from ..errors import PrunusError, Span
from ..rules.lint import Finding, lint
from ..rules.targets import importing
from .complete import complete
from .hover import definition, hover

server = LanguageServer("prunus-rules", "v1")

_SEVERITIES = {"error": types.DiagnosticSeverity.Error, "warning": types.DiagnosticSeverity.Warning}


def serve() -> None:
    """Serve one editor on standard input and output; what else is printed goes to standard error."""
    stdout, sys.stdout = sys.stdout.buffer, sys.stderr
    server.start_io(sys.stdin.buffer, stdout)


@server.feature(types.TEXT_DOCUMENT_DID_OPEN)
@server.feature(types.TEXT_DOCUMENT_DID_CHANGE)
@server.feature(types.TEXT_DOCUMENT_DID_SAVE)
def check(
    ls: LanguageServer,
    params: types.DidOpenTextDocumentParams
    | types.DidChangeTextDocumentParams
    | types.DidSaveTextDocumentParams,
) -> None:
    """Publish the lints of a document as it is in the editor."""
    document = ls.workspace.get_text_document(params.text_document.uri)
    diagnostics = [_diagnostic(document, finding) for finding in _findings(document)]
    ls.text_document_publish_diagnostics(types.PublishDiagnosticsParams(document.uri, diagnostics))


@server.feature(types.TEXT_DOCUMENT_DID_CLOSE)
def forget(ls: LanguageServer, params: types.DidCloseTextDocumentParams) -> None:
    """Nothing is said of a document that is closed."""
    ls.text_document_publish_diagnostics(types.PublishDiagnosticsParams(params.text_document.uri, []))


@server.feature(types.TEXT_DOCUMENT_HOVER)
def show(ls: LanguageServer, params: types.HoverParams) -> types.Hover | None:
    """Explain what is under the cursor."""
    document, line, column = _at(ls, params)
    found = hover(document.source, _path(document), line, column)
    if found is None:
        return None
    told, start, end = found
    return types.Hover(
        types.MarkupContent(types.MarkupKind.Markdown, told), _reach(document, line, start, end)
    )


@server.feature(
    types.TEXT_DOCUMENT_COMPLETION, types.CompletionOptions(trigger_characters=[".", "[", "(", "*", "=", " "])
)
def offer(ls: LanguageServer, params: types.CompletionParams) -> list[types.CompletionItem]:
    """Complete targets, arguments, factors, verbs and clauses."""
    document, line, column = _at(ls, params)
    names = complete(document.source, line, column)
    return [types.CompletionItem(name, kind=types.CompletionItemKind[kind]) for name, kind in names]


@server.feature(types.TEXT_DOCUMENT_DEFINITION)
def find(ls: LanguageServer, params: types.DefinitionParams) -> types.Location | None:
    """Go to the rule of a name or target."""
    document, line, column = _at(ls, params)
    found = definition(document.source, _path(document), line, column)
    if found is None:
        return None
    start = types.Position(found[1], 0)
    return types.Location(from_fs_path(str(found[0])) or "", types.Range(start, start))


def _findings(document: TextDocument) -> list[Finding]:
    """The lints of a document; nothing is imported, so of targets that are not nothing is said."""
    try:
        with importing(False):
            return lint(_path(document), document.source)
    except PrunusError as error:
        return [Finding("error", str(error))]


def _diagnostic(document: TextDocument, finding: Finding) -> types.Diagnostic:
    """A finding at its place; one in another file, or of no place, stands at the beginning."""
    message = "\n".join([finding.message, *([finding.help] if finding.help else [])])
    span = finding.span or Span(str(_path(document)), 1, 1, 2, "")
    if span.file != str(_path(document)):
        message, span = f"{span}: {message}", Span(span.file, 1, 1, 2, "")
    reach = _reach(document, span.line - 1, span.column - 1, span.end_column - 1)
    return types.Diagnostic(reach, message, severity=_SEVERITIES[finding.severity], source="prunus")


def _at(
    ls: LanguageServer, params: types.HoverParams | types.CompletionParams | types.DefinitionParams
) -> tuple[TextDocument, int, int]:
    """A document, and a line and column of it, counted in characters from 0."""
    document = ls.workspace.get_text_document(params.text_document.uri)
    lines = document.source.split("\n")
    place = document.position_codec.position_from_client_units(lines, params.position)
    return document, place.line, place.character


def _reach(document: TextDocument, line: int, start: int, end: int) -> types.Range:
    """A stretch of a line, in the units that the editor counts in."""
    reach = types.Range(types.Position(line, start), types.Position(line, end))
    return document.position_codec.range_to_client_units(document.source.split("\n"), reach)


def _path(document: TextDocument) -> Path:
    return Path(to_fs_path(document.uri) or "unnamed.rules")
