"""The demo keeps its promise: it learns, halves its work, and recovers."""

from prunus.cli.demo import run


def test_demo(capsys):
    """More than 95 % of the digits before and after, with half of the multiply-accumulates."""
    run()
    out = capsys.readouterr().out
    accuracy, parameters, macs = {}, {}, {}
    for stage in ("trained", "pruned", "corrected", "fine-tuned"):
        (line,) = (line for line in out.splitlines() if line.startswith(stage))
        percent, count, operations = line.split()[1:]
        accuracy[stage] = float(percent.rstrip("%"))
        parameters[stage], macs[stage] = (int(number.replace(",", "")) for number in (count, operations))
    assert accuracy["trained"] > 95
    assert accuracy["fine-tuned"] > 95
    assert accuracy["corrected"] > accuracy["pruned"] + 10
    assert parameters["pruned"] == parameters["fine-tuned"] < 0.6 * parameters["trained"]
    assert macs["pruned"] == macs["corrected"] < 0.51 * macs["trained"]
