"""E-mails made ready for mail programs."""

import subprocess
import sys
import time

import pytest

from upshotd.adapters.letters import MailLetters, plain_text, with_utm
from upshotd.domain.message import Email

LETTERS = MailLetters()


def test_styles_are_written_to_the_elements_and_media_queries_stay():
    style = "<style>p {color: red} @media (max-width: 9px) {p {color: blue}}</style>"
    html = f"<html><head>{style}</head><body><p>Hi</p></body></html>"
    finished = LETTERS.finish(Email("Hi", html))
    assert '<p style="color: red;">Hi</p>' in finished.html
    assert "@media" in finished.html


def test_html_without_styles_is_left_as_it_is():
    html = "<p>Hi <b>you</b>"
    assert LETTERS.finish(Email("Hi", html, "text")) == Email("Hi", html, "text")


def test_mjml_becomes_html_and_a_plain_part():
    body = "<mj-section><mj-column><mj-text>Hello Ana</mj-text></mj-column></mj-section>"
    finished = LETTERS.finish(Email("Hi", mjml=f"<mjml><mj-body>{body}</mj-body></mjml>"))
    assert finished.mjml == ""
    assert "<table" in finished.html
    assert finished.text == "Hello Ana"


@pytest.mark.parametrize(
    "source",
    [
        "<mjml><mj-bod",
        "no mjml at all",
        '<mjml><mj-body><mj-include path="/etc/hostname" /></mj-body></mjml>',
    ],
)
def test_what_is_no_mjml_or_reads_a_file_is_refused(source: str):
    with pytest.raises(ValueError):
        LETTERS.finish(Email("Hi", mjml=source))


#: Parts of a letter that are nested as deeply as its length allows, by what they are written in.
DEEP = {
    "sections": "mjml='<mjml><mj-body>' + '<mj-section>' * 10_000 + '</mj-section>' * 10_000"
    " + '</mj-body></mjml>'",
    "bold": "html='<style>b {color: red}</style>' + '<b>' * 80_000",
    "drawing": "html='<style>b {color: red}</style><svg>' + '<td>' * 60_000",
    "hidden ends": "html='<style>b {color: red}</style>' + '<b><!--</b>-->' * 18_000",
}


@pytest.mark.parametrize("deep", DEEP)
def test_no_letter_takes_the_whole_process_along(deep: str):
    code = (
        "from upshotd.adapters.letters import MailLetters\n"
        "from upshotd.domain.message import Email\n"
        f"print(len(MailLetters().finish(Email('Hi', {DEEP[deep]})).html))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert int(done.stdout) > 200_000


@pytest.mark.parametrize("part", ["<a ", "<a href", "<a href=x ", "<a '", "<!--", "</b ", '<a "x'])
def test_tags_that_never_end_keep_nobody_waiting(part: str):
    begin = time.thread_time()
    with pytest.raises(ValueError, match="too many tags have no end"):
        LETTERS.finish(Email("Hi", part * 40_000, utm={"source": "x"}))
    assert time.thread_time() - begin < 2


def test_comments_that_only_some_programs_read_are_no_such_tags():
    button = "<!--[if mso]><table><![endif]--><!--[if !mso]><!--><b>you</b><!--<![endif]-->"
    html = f"<style>b {{color: red}}</style><!-- <td> <td> -->{button * 200}"
    assert LETTERS.finish(Email("Hi", html)).text.count("you") == 200


def test_a_few_that_do_not_end_are_text():
    html = "<p>1 < 2 <a title='x' href='https://a.example'>here</a> <b" + " <3" * 500
    finished = LETTERS.finish(Email("Hi", html, utm={"source": "x"}))
    assert "utm_source=x" in finished.html
    assert "here (https://a.example" in finished.text


def test_a_long_letter_is_written_out_as_a_short_one_is():
    html = "<style>b {color: red}</style>" + "<p>Hi <b>you</b></p>" * 1_000
    assert LETTERS.finish(Email("Hi", html)).html.count('style="color: red') == 1_000
    rows = "<mj-section><mj-column><mj-text>Hi</mj-text></mj-column></mj-section>" * 200
    finished = LETTERS.finish(Email("Hi", mjml=f"<mjml><mj-body>{rows}</mj-body></mjml>"))
    assert finished.text.count("Hi") == 200
    with pytest.raises(ValueError, match="root template"):
        LETTERS.finish(Email("Hi", mjml="<mjml>" + "<b>" * 1_000))


def test_a_text_that_is_given_is_kept():
    assert LETTERS.finish(Email("Hi", "<p>Long</p>", "Short")).text == "Short"


def test_the_plain_part_reads_like_the_html():
    html = """<html><head><title>No</title><style>p {}</style></head><body>
      <h1>Your   plan</h1><p>Dear Ana &amp; Ben,<br>have a
      look <a href="https://a.example/x?b=1&amp;c=2">here</a>.</p>
      <ul><li>one</li><li>two</li></ul><img alt="Logo" src="x.png">
      <a href="mailto:us@a.example">us@a.example</a> <a href="#top">top</a></body></html>"""
    assert plain_text(html) == (
        "Your plan\n\nDear Ana & Ben,\nhave a look here (https://a.example/x?b=1&c=2).\n\n"
        "- one\n\n- two\n\nLogo us@a.example top"
    )


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://a.example", "https://a.example?utm_source=upshot&utm_campaign=a+b"),
        (
            "https://a.example/p?q=1#f",
            "https://a.example/p?q=1&utm_source=upshot&utm_campaign=a+b#f",
        ),
        (
            "https://a.example/?utm_source=own",
            "https://a.example/?utm_source=own&utm_campaign=a+b",
        ),
    ],
)
def test_a_link_gets_the_parameters_it_does_not_have(url: str, expected: str):
    assert with_utm(url, {"source": "upshot", "campaign": "a b", "term": ""}) == expected


def test_links_to_the_web_are_tagged_and_others_are_not():
    html = '<a href="https://a.example/?x=1&amp;y=2">x</a> <a href="mailto:a@b.example">y</a>'
    finished = LETTERS.finish(Email("Hi", html, "text", utm={"source": "upshot"}))
    assert 'href="https://a.example/?x=1&amp;y=2&amp;utm_source=upshot"' in finished.html
    assert 'href="mailto:a@b.example"' in finished.html
    assert finished.utm == {}


def test_an_address_that_is_none_stays_as_it_is():
    html = '<a href="https://[broken">x</a>'
    assert LETTERS.finish(Email("Hi", html, "t", utm={"source": "upshot"})).html == html
