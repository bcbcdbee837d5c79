"""What is wrong with a template: every fault by its path."""

import re
from typing import Final

from upshotd.domain.errors import Violation
from upshotd.domain.findings import Findings
from upshotd.domain.language import Conditions, Templates, Zones
from upshotd.domain.message import Email
from upshotd.domain.reading import texts
from upshotd.domain.send_validation import check_content
from upshotd.domain.template import CONTENT, Template, normal
from upshotd.domain.values import replace

#: What contents for everybody else are called outside.
DEFAULT: Final = "default"
VARIANTS_MAX: Final = 100
_LOCALE = re.compile(r"[a-z]{2,3}(-[a-z0-9]{2,8}){0,3}")


def validate(
    template: Template, conditions: Conditions, templates: Templates, zones: Zones
) -> tuple[Violation, ...]:
    """Return every fault of *template*."""
    findings = Findings(conditions, templates, zones, "", frozenset())
    findings.name("template.template_id", template.template_id)
    if template.layout_id:
        findings.name("template.layout_id", template.layout_id)
        if template.layout_id == template.template_id:
            findings.fault("template.layout_id", "is the template itself")
    if not template.variants.get(""):
        findings.fault(f"template.variants.{DEFAULT}", "is required, with at least one content")
    if len(template.variants) > VARIANTS_MAX:
        findings.fault("template.variants", f"at most {VARIANTS_MAX} are taken")
    for locale, contents in template.variants.items():
        path = f"template.variants.{locale or DEFAULT}"
        if locale and not _LOCALE.fullmatch(normal(locale)):
            findings.fault(path, f"{locale!r} is no locale as pt or pt-BR")
        for content in contents:
            # A layout is looked at as it will stand around something.
            whole = _filled(content) if isinstance(content, Email) else content
            check_content(whole, path, findings)
    return tuple(findings.violations)


def steps_named(template: Template, templates: Templates) -> frozenset[str]:
    """Return the ids of steps that the texts of *template* name."""
    contents = (content for variant in template.variants.values() for content in variant)
    sources = (source for content in contents for source in texts(content) if source)
    return frozenset().union(*(templates.steps(source) for source in sources))


def _filled(email: Email) -> Email:
    """Return the e-mail of a layout as it will be around nothing; another one stays as it is."""
    around = CONTENT in email.html or CONTENT in email.mjml
    return replace(
        email,
        subject=email.subject or ("-" if around else ""),
        html=email.html.replace(CONTENT, " "),
        mjml=email.mjml.replace(CONTENT, " "),
        text=email.text.replace(CONTENT, " "),
    )
