"""Settings as a TOML file that can be read back."""

import dataclasses

import tomli_w

from sgdd_cli.schema import Settings


def to_toml(settings: Settings) -> str:
    """All sections with all their values; an empty value is written as the word `none`, since TOML has none."""
    sections = {
        name: {key: "none" if value is None else value for key, value in dataclasses.asdict(section).items()}
        for name, section in settings
    }
    return tomli_w.dumps(sections)
