"""Loading rule files, laying them over one another, and finding the rule of a callable."""

from .load import Rules, RuleSet, draft, import_packages, load

__all__ = ["RuleSet", "Rules", "draft", "import_packages", "load"]
