from pathlib import Path

import pytest
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from src.catalogue import VARIANTS
from src.compose import SettingsError, one_line, screened, settings_of

MODELS = "one of " + ", ".join(sorted(VARIANTS))
NAMES = "one of " + ", ".join(VARIANTS)
SWEEPS = ", ".join(sorted(p.stem for p in Path(__file__).parents[1].glob("sweeps/*.yaml")))
WHOLE = "a whole number of at least 0 and below 2**63"


@pytest.fixture
def answer(composed):
    """What a user reads who gives an override."""

    def answered(override: str) -> str:
        try:
            settings_of(composed(override))
        except SettingsError as error:
            (line,) = error.lines
            return line
        except (HydraException, OmegaConfBaseException, ValueError) as error:
            return one_line(error)
        raise AssertionError(f"{override} was accepted")

    return answered


@pytest.mark.parametrize(
    "override, line",
    [
        # no such key
        ("optim.lrr=1", "there is no setting optim.lrr; did you mean optim.lr, "),
        ("+optim.lrr=1", "there is no setting optim.lrr; did you mean optim.lr, "),
        ("++sed=1", "there is no setting sed; did you mean seed"),
        ("optim.lr.x=1", "there is no setting optim.lr.x; did you mean optim.lr, "),
        ("model={dept:1}", "there is no setting model.dept; did you mean model.depth, "),
        ("+zzzzzz=1", "there is no setting zzzzzz"),
        # no such group, no such choice
        ("modle=vgg", "there is no setting modle; did you mean model, "),
        ("model=vgg_x", f"model=vgg_x: allowed is {MODELS}"),
        ("scale=huge", "scale=huge: allowed is one of paper, small, smoke"),
        ("model=3", f"model=3: allowed is {MODELS}"),
        ("model=null", f"model=null: allowed is {MODELS}"),
        ("model=true", f"model=true: allowed is {MODELS}"),
        ("model=_vgg", f"model.name is missing: allowed is {NAMES}"),
        ("+sweeps=nope", f"sweeps=nope: allowed is one of {SWEEPS}"),
        ("+sweeps=3", f"sweeps=3: allowed is one of {SWEEPS}"),
        # not of this model or data set
        ("model.layers=3", "there is no setting model.layers of this model; others have it"),
        ("+data.points=3", "there is no setting data.points of this data; others have it"),
        ("data=linear", "data=linear: allowed with model=vgg_bn is cifar10 or digits"),
        ("data=mnist", "data=mnist: allowed with model=vgg_bn is cifar10 or digits"),
        # wrong type
        ("seed=x", f"seed=x: allowed is {WHOLE}"),
        ("seed=1.5", f"seed=1.5: allowed is {WHOLE}"),
        ("seed=null", f"seed=null: allowed is {WHOLE}"),
        ("seed=", f"seed=: allowed is {WHOLE}"),
        ("optim.lr=fast", "optim.lr=fast: allowed is a number above 0"),
        ("optim.lr={a:1}", "optim.lr={'a': 1}: allowed is a number above 0"),
        ("model.depth=true", "model.depth=True: allowed is one of 11, 13, 16, 19"),
        ("data.augment=maybe", "data.augment=maybe: allowed is true or false"),
        ("data.root=null", "data.root=null: allowed is text"),
        # out of range
        ("optim.lr=-1", "optim.lr=-1.0: allowed is a number above 0"),
        # missing
        ("~seed", f"seed is missing: allowed is {WHOLE}"),
        ("~model", f"model.name is missing: allowed is {NAMES}"),
        ("~model.width", "model.width is missing: allowed is a number above 0, up to 8"),
    ],
)
def test_a_wrong_override_is_answered_in_one_line(answer, override, line):
    given = answer(override)
    assert given == line or (line.endswith((", ", "seed")) and given.startswith(line))
    assert "\n" not in given


@pytest.mark.parametrize(
    "override, parts",
    [
        ("seed", ["'seed'", "missing EQUAL"]),
        ("seed=${nothing}", ["seed", "'nothing' not found", WHOLE]),
        ("data.root=${oc.env:NO_SUCH_VARIABLE}", ["data.root", "NO_SUCH_VARIABLE"]),
        ("logger.tags=3", ["logger.tags", "a list of words"]),
        ("model@x=vgg", ["model@x"]),
        ("hydra.foo=1", ["there is no setting hydra.foo"]),
    ],
)
def test_a_strange_override_is_one_line_that_names_it(answer, override, parts):
    given = answer(override)
    assert "\n" not in given
    for part in parts:
        assert part in given


def test_base_files_of_a_group_are_not_proposed(answer):
    assert "_vgg" not in answer("model=vgg_x").partition("allowed")[2].replace("vgg_", "")
    assert "_images" not in answer("data=imagenet")


@pytest.mark.parametrize(
    ("override", "proposed"),
    [("optim.lrr=1", "optim.lr"), ("modle=vgg", "model"), ("optim.learning_rate=1", "optim.lr")],
)
def test_what_is_proposed_is_another_setting(answer, override, proposed):
    name = override.partition("=")[0]
    told, _, names = answer(override).rstrip("?").partition("; did you mean ")
    assert told == f"there is no setting {name}"
    assert proposed in names.split(", ") and name not in names.split(", ")


def test_a_settings_error_has_a_line_a_problem():
    error = SettingsError(f"problem {number}" for number in (1, 2))
    assert error.lines == ["problem 1", "problem 2"]
    assert str(error) == "problem 1\nproblem 2"


def test_any_other_error_is_flattened():
    assert one_line(ValueError("first\n   second\tthird")) == "first second third"


def test_a_launcher_of_one_s_own_is_a_file_among_ours(tmp_path, monkeypatch):
    assert screened(["hydra/launcher=mine"]) and not screened(["hydra/launcher='local'"])
    for path in ("conf/hydra/launcher", "sweeps"):
        (tmp_path / path).mkdir(parents=True)
    (tmp_path / "conf/hydra/launcher/mine.yaml").touch()
    monkeypatch.setattr("src.compose.ROOT", tmp_path)
    assert not screened(["hydra/launcher=mine"])
