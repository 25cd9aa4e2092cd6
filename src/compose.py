"""From Hydra's configuration to checked settings, and from its errors to one line."""

import difflib
import os
import re
import traceback
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, cast

from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from src.catalogue import SCALES, unsuited
from src.ranges import allowed
from src.settings import Settings, keys, kinds
from src.terminal import reason


def _by_scale(*values: Any, _root_: DictConfig) -> Any:
    """Resolve ``${by_scale:20,3000,15000}``: the value for the scale chosen."""
    return dict(zip(SCALES, values, strict=True))[_root_.scale]


def _environment(name: str, *default: Any) -> Any:
    """Resolve ``${oc.env:CIFAR10_ROOT,data/cifar10}``, for the variables that say where things are.

    What is resolved is written down with each run, and the environment holds secrets, too.
    """
    if not name.endswith("_ROOT"):
        raise ValueError(f"oc.env:{name}: allowed are variables that end in _ROOT")
    if name not in os.environ and not default:
        raise ValueError(f"oc.env:{name} is not set")
    return os.environ.get(name, *default)


OmegaConf.register_new_resolver("by_scale", _by_scale, replace=True)
OmegaConf.register_new_resolver("oc.env", _environment, replace=True)

ROOT = Path(__file__).resolve().parents[1]
NO_GRIDS = "hydra.sweeper.grids=[]"  # one cell of a sweep, which sets all its swept keys


class SettingsError(Exception):
    """Settings that cannot be run; one line each."""

    def __init__(self, lines: Iterable[str]) -> None:
        self.lines = list(lines)
        super().__init__("\n".join(self.lines))


def screened(arguments: Sequence[str]) -> list[str]:
    """Return one line for each argument that is refused before Hydra acts on it.

    Whatever it imports and calls runs before any setting is checked. So its configuration is ours
    alone: no file from elsewhere, and of its own settings the launcher and its parameters, and that
    there are no grids. W&B's key is refused since each run's settings are written down.
    """
    given = get_args_parser().parse_args([*arguments])
    lines = [
        f"--{option.replace('_', '-')}: settings are read from conf/ and sweeps/ alone"
        for option in ("config_path", "config_name", "config_dir", "experimental_rerun")
        if getattr(given, option)
    ]
    secret, groups, launchers = os.environ.get("WANDB_API_KEY"), _groups(), _launchers()
    parser = OverridesParser.create()
    for argument in given.overrides:
        key, _, value = argument.partition("=")
        key = key.lstrip("+~")
        group = key.partition("@")[0]
        ours = "hydra" not in re.split(r"[./@:]", key)
        launcher = re.fullmatch(r"\+{0,2}hydra[./]launcher(\.[\w-]+)*=(?!.*\$\{).*", argument)
        if secret and secret in argument:
            lines.append(f"{key}: it holds W&B's key, which would be written to the run's folder")
        elif "_target_" in argument or not (ours or launcher or argument == NO_GRIDS):
            lines.append(f"{argument}: of Hydra's own settings only hydra/launcher may be changed")
        elif argument.startswith("sweeps="):
            lines.append(f"{argument}: a sweep is added to the settings: +{argument}")
        elif group in groups and argument.startswith("~"):
            lines.append(f"{argument}: a group is chosen, not removed")
        elif group in groups and re.search(r"[/\\$\[]", value):
            lines.append(f"{argument}: allowed is the name of a file in {groups[group]}")
        elif key == "hydra.launcher" or (
            group == "hydra/launcher" and value.strip("'\" ") not in launchers
        ):
            told = f"one of {', '.join(launchers)}"
            lines.append(f"{argument}: allowed is hydra/launcher= and {told}")
        else:
            try:
                parser.parse_override(argument)
            except HydraException as error:
                why = reason(error).partition(" expecting")[0]
                told = "quote a value that is not plain, as in 'key=\"a,b\"'"
                lines.append(f"{argument} cannot be read ({why}): {told}")
    return lines


def _groups() -> dict[str, str]:
    """Return the folder of each group of settings."""
    ours = [path.name for path in (ROOT / "conf").iterdir() if path.is_dir()]
    named = {group: f"conf/{group}" for group in ours}
    return named | {"sweeps": "sweeps", "hydra/launcher": "conf/hydra/launcher"}


def _launchers() -> list[str]:
    """Return the launchers there are: Hydra's own, which trains in this process, and ours."""
    return ["basic", *sorted(path.stem for path in ROOT.glob("conf/hydra/launcher/*.yaml"))]


def settings_of(config: DictConfig) -> Settings:
    """Return the settings a composed configuration holds.

    Raises:
        SettingsError: If a value is out of its range.
        OmegaConfBaseException: If a key does not exist or a value has the wrong type.
    """
    model, data = (str(OmegaConf.select(config, f"{group}.name")) for group in ("model", "data"))
    if problems := unsuited(model, data):
        raise SettingsError(problems)
    schema = OmegaConf.structured(Settings)
    schema.model, schema.data = kinds(model, data)
    merged = OmegaConf.merge(schema, config)
    settings: Settings = OmegaConf.to_object(merged)  # type: ignore[assignment]
    if problems := settings.problems():
        raise SettingsError(problems)
    return settings


def saved_settings(config: Path, changes: Sequence[str]) -> Settings:
    """Return the settings of a run's ``config.yaml`` with some keys changed.

    Raises:
        SettingsError: If a value is out of its range.
        OmegaConfBaseException: If a key does not exist or a value has the wrong type.
    """
    saved = OmegaConf.load(config)
    return settings_of(cast(DictConfig, OmegaConf.merge(saved, OmegaConf.from_dotlist([*changes]))))


def one_line(error: BaseException) -> str:
    """Return what an error of Hydra's or OmegaConf's says of a setting, as one line."""
    text = str(error)
    if error.__cause__ is not None and str(error.__cause__) not in text:
        text += "\n" + str(error.__cause__)
    if several := re.match(r"(?:Ambiguous value for argument|Sweep parameters) '(.*)'", text):
        return f"{several.group(1)}: --help, --cfg and --info show one cell; give one value"
    if names := re.findall(r"(?:Could not override '|full_key: )([\w./@]+)", text):
        name = max(names, key=len)
        if "not in" in text:
            if name.startswith("hydra.launcher."):
                told = "the launcher chosen has no such setting; hydra/launcher=local has jobs"
                return f"{name}: {told}, slurm those of conf/hydra/launcher/slurm.yaml"
            if name in keys():
                group = name.partition(".")[0]
                return f"there is no setting {name} of this {group}; others have it"
            near = difflib.get_close_matches(name, keys(), n=3, cutoff=0.5)
            proposal = f"; did you mean {', '.join(near)}?" if near else ""
            return f"there is no setting {name}{proposal}"
        return _not_allowed(name, text)
    if "Available options" in text:
        missing = re.search(r"Could not find '([^']+)'", text)
        options = re.findall(r"^\t(\w+)$", text, re.MULTILINE)
        group, _, choice = (missing.group(1) if missing else "").rpartition("/")
        return _no_choice(group, choice, options)
    if "Config group override must be" in text:  # and of which group, only Hydra's frame knows
        *_, (frame, _) = traceback.walk_tb(error.__traceback__)
        override, repository = frame.f_locals["override"], frame.f_locals["repo"]
        group = override.key_or_group
        _, _, choice = override.input_line.partition("=")
        return _no_choice(group, choice, repository.get_group_options(group))
    return " ".join(text.split())


def _not_allowed(name: str, text: str) -> str:
    rule = allowed(Settings, name)
    if rule and "missing mandatory" in text:
        return f"{name} is missing: allowed is {rule}"
    if rule and (value := re.search(r"[Vv]alue '(.*)' (?:of|for|is)\b", text)):
        given = "null" if value.group(1) == "None" else value.group(1)
        return f"{name}={given}: allowed is {rule}"
    first, *more = text.splitlines()
    reason = more[0] if first.startswith("Error in call to target") else first
    return f"{name}: {reason}" + (f" (allowed is {rule})" if rule else "")


def _no_choice(group: str, choice: str, options: Iterable[str]) -> str:
    named = [option for option in options if not option.startswith("_")]
    return f"{group}={choice}: allowed is one of {', '.join(named)}"
