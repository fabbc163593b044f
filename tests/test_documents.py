"""The checks of pages find what is wrong."""

import pytest

from tests import documents

TEXT = """# One & two

A [link](a.md#here), ![a picture](b.png), [out](https://example.org).

```bash
regionlm caption x.png  # a remark
ls
```

```text
regionlm nothing [no](link.md)
```

## How good is `mini`?
"""


def test_commands_links_and_anchors():
    assert documents.commands(TEXT) == ["regionlm caption x.png"]
    assert documents.links(TEXT) == ["a.md#here", "b.png"]
    assert documents.anchors(TEXT) == {"how-good-is-mini"}  # "one--two" on GitHub alone


@pytest.mark.parametrize(
    ("link", "broken"),
    [("b.md", False), ("b.md#two", False), ("#one", False), ("c.md", True), ("b.md#one", True)],
)
def test_broken_links(link, broken, tmp_path, monkeypatch):
    monkeypatch.setattr(documents, "ROOT", tmp_path)
    (tmp_path / "a.md").write_text(f"# One\n[x]({link})\n")
    (tmp_path / "b.md").write_text("# Two\n")
    assert documents.broken_links("a.md") == ([link] if broken else [])
