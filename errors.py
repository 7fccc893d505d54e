"""Every error that prunus raises on purpose. A failed call leaves the model as it was."""


class PrunusError(Exception):
    """Base of all errors of prunus: one message that says what is wrong and what to do."""


class RuleSyntaxError(PrunusError):
    """A ``.rules`` text cannot be parsed; the message shows file, line, caret and help."""


class RuleError(PrunusError):
    """A rule parses but cannot be meant: unknown target, argument, factor or verb."""


class TraceError(PrunusError):
    """The model could not be run on the example inputs, or no example inputs were found."""


class PlanError(PrunusError):
    """A plan, budget or selection that cannot be carried out on this model."""


class VerificationError(PrunusError):
    """The pruned model did not run or changed its output shapes; it has been restored."""
