"""Rule groups to the text of a rule file: fields in order, expressions of several lines as blocks, no anchors."""

from collections.abc import Sequence
from typing import Any

import yaml


def emit(groups: Sequence[dict[str, Any]], remarks: Sequence[str] = ()) -> str:
    """A rule file that Prometheus loads; ``remarks`` stand as comments at its head."""
    head = "".join(f"# {remark}\n" for remark in remarks)
    body = yaml.dump({"groups": list(groups)}, Dumper=_Dumper, sort_keys=False, width=1_000, allow_unicode=True)
    return head + body


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, indentless=False)


def _block(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _block)
