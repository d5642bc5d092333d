"""Generated pages say what the code says."""

import importlib.util
from pathlib import Path

SPEC = importlib.util.spec_from_file_location("generated_docs", Path(__file__).with_name("generated_docs.py"))
assert SPEC is not None
assert SPEC.loader is not None
generated_docs = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(generated_docs)


def test_generated_pages_are_up_to_date():
    stale = [
        str(path.relative_to(generated_docs.ROOT))
        for path, text in generated_docs.pages().items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    ]
    assert not stale, f"run `make docs`: {stale}"
