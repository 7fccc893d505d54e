"""Several ranks that torch.distributed joins: each prunes, and all come to the same or are told."""

import pytest
import ranks

SCENARIOS = ("pruned_in_training", "by_schedule", "optimizer_in_parts", "by_one_plan")


@pytest.fixture(scope="module")
def found():
    """What two ranks found in all scenarios."""
    return ranks.two_ranks()


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_the_ranks_stay_in_step(found, scenario):
    """Pruned alike, by weights or by one plan, and wrapped again, they have equal parameters, bit for bit."""
    first, second = (one[scenario] for one in found)
    assert first["hidden"] == 16
    assert first["values"] == second["values"]


def test_data_decide_otherwise_on_each_rank(found):
    """This is what is refused, and what one plan makes up for."""
    first, second = (one["by_one_plan"]["own"] for one in found)
    assert first != second


def test_the_old_wrapper_says_what_to_do(found):
    """It would go on with the old sizes, and with ``find_unused_parameters=True`` without a word."""
    for one in found:
        assert one["pruned_in_training"]["old"].startswith("PlanError: the model in this Distributed")
        assert "wrap the model again" in one["pruned_in_training"]["old"]


@pytest.mark.parametrize("criterion", ["magnitude", "random", "fpgm"])
def test_what_weights_decide_is_the_same_on_all_ranks(found, criterion):
    """Also where the example inputs are guessed, and at random."""
    first, second = (one["by_weights_alone"][criterion] for one in found)
    assert first == second


@pytest.mark.parametrize(
    "what",
    ["wanda", "taylor", "gradients", "own", "compensate", "latency", "schedule", "recalibrate"],
)
def test_what_data_decide_is_refused(found, what):
    """Each rank would choose by data of its own; the error says how to go on, and nothing has changed."""
    for one in found:
        text = one["by_data"]["errors"][what]
        assert text.startswith("PlanError: ") and "there are 2 ranks with data of their own" in text
        assert "on every rank" in text
        assert one["by_data"]["unchanged"]
