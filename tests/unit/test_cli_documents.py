"""One document of a file is written over; everything else in the file stays."""

import pytest

from upshotd.cli import yamlfile


@pytest.mark.parametrize(
    ("text", "index", "after"),
    [
        ("a: 1\n", 0, "new: 1\n"),
        ("a: 1", 0, "new: 1\n"),
        ("# x\na: 1\n# y\n\n---\nb: 2\n", 0, "# x\nnew: 1\n# y\n\n---\nb: 2\n"),
        ("a: 1\n---\n  b: 2\n  c: 3\n", 1, "a: 1\n---\nnew: 1\n"),
        ("a: 1\n--- {b: 2} # y\n", 1, "a: 1\n--- \nnew: 1\n # y\n"),
        ("a: |\n  # text\n\n# y\n---\nb: 2\n", 0, "new: 1\n\n# y\n---\nb: 2\n"),
        ("a: ä\n...\n---\nb: 2\n", 0, "new: 1\n...\n---\nb: 2\n"),
    ],
)
def test_one_document_of_a_file_is_replaced(text: str, index: int, after: str) -> None:
    documents = yamlfile.documents(text)
    assert yamlfile.replaced(text, documents[index], "new: 1\n") == after
    assert len(yamlfile.documents(after)) == len(documents)
