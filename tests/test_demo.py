"""The demo keeps its promise: it learns, halves every group, and recovers."""

from prunus.demo import run


def test_demo(capsys):
    """More than 95 % of the digits before and after, with less than half of the multiply-accumulates."""
    run()
    out = capsys.readouterr().out
    accuracy, parameters, macs = {}, {}, {}
    for stage in ("trained", "pruned", "fine-tuned"):
        (line,) = (line for line in out.splitlines() if line.startswith(stage))
        percent, count, operations = line.split()[1:]
        accuracy[stage] = float(percent.rstrip("%"))
        parameters[stage], macs[stage] = (int(number.replace(",", "")) for number in (count, operations))
    assert accuracy["trained"] > 95
    assert accuracy["fine-tuned"] > 95
    assert parameters["pruned"] == parameters["fine-tuned"] < parameters["trained"] / 2
    assert macs["pruned"] < macs["trained"] / 2
