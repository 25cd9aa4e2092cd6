from src.models.clock import Clock


def test_key_names_the_step_and_in_evaluation_the_batch_and_pass():
    clock = Clock(seed=5, step=7)
    assert clock.key("noise", 2) == (5, "noise", 7, 2)
    clock.evaluation = (3, 1)
    assert clock.key("noise", 2) == (5, "noise_eval", 7, 2, 3, 1)
