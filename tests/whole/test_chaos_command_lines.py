"""A few of the tries of ``python -m chaos --kind command_lines``: what nobody should type."""

from chaos.command_lines import run


def test_no_command_line_ends_in_a_traceback():
    (tally,) = run(0, 25)
    assert tally.first == [] and tally.tried == 25
