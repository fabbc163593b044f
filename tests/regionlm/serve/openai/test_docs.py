"""The page's example for OpenAI's client works as it stands, but for the address."""

from tests.documents import blocks, page, run_snippet


def test_the_example_is_answered(served, mini, capsys):
    (source,) = blocks(page("docs/serving.md"), "py")
    address = served()
    assert "http://127.0.0.1:8000" in source
    said = run_snippet(source.replace("http://127.0.0.1:8000", address), "serving.md", capsys)
    (expected,) = mini.caption("examples/sand.png", "examples/sand-fox.png")
    assert said.strip() == expected.text and "fox" in said
