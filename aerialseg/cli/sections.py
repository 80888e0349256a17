"""The options of a command's help, by what they are about."""

from __future__ import annotations

import click

OTHER = "Options"
SECTIONS = {
    "Input": "pattern band-names bands alpha resolution pixel-size scale nodata-colour order crs reproject aoi "
    "on-read-error max-pixels require-crs allow-remote",
    "Output": "out raster confidence report areas overwrite",
    "Polygons": "min-area simplify smooth dissolve corrections",
    "Network": "model device precision runtime tiling tta",
    "Run": "keep-run dry-run workers dask",
    "Messages": "timeline json-progress quiet debug help",
}
"""Section -> the options that stand in it, of whichever command; all others stand first, under `OTHER`."""

READ = {"polygonize": {"confidence"}, "accuracy": {"confidence"}}
"""Command -> those of its options that name a file to read, where other commands write one."""

_SECTION = {name: section for section, names in SECTIONS.items() for name in names.split()}
MANY = 9
"""With fewer options than this, sections would only stretch the page."""


class SectionedCommand(click.Command):
    """A command whose help shows its options in sections."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        shown = [one for one in self.get_params(ctx) if isinstance(one, click.Option) and one.get_help_record(ctx)]
        rows: dict[str, list[tuple[str, str]]] = {name: [] for name in (OTHER, *SECTIONS)}
        for one in shown:
            section = "Input" if _name(one) in READ.get(str(self.name), ()) else _SECTION.get(_name(one), OTHER)
            rows[section if len(shown) > MANY else OTHER].append(one.get_help_record(ctx) or ("", ""))
        for section, records in rows.items():
            if records:
                with formatter.section(section):
                    formatter.write_dl(records)


def _name(option: click.Parameter) -> str:
    return max(option.opts, key=len).lstrip("-")
