"""What is wrong with what somebody defines, by the languages and settings of this server."""

from upshotd.adapters import zones
from upshotd.adapters.cel import CelConditions
from upshotd.adapters.templates import SandboxTemplates
from upshotd.config_outside import Outside
from upshotd.domain import audience_validation, template_validation
from upshotd.domain.audience import Audience
from upshotd.domain.errors import Violation
from upshotd.domain.names import MESSAGE_ROOTS
from upshotd.domain.template import Template
from upshotd.domain.validation import Faults, validate
from upshotd.domain.workflow import Workflow


class Checks:
    """The languages, and what is wrong with a definition by them."""

    def __init__(self, outside: Outside) -> None:
        """*outside* is what the settings say of addresses, secrets and models."""
        self._outside = outside
        self.conditions = CelConditions()
        self.templates = SandboxTemplates(MESSAGE_ROOTS)
        self._languages = (self.conditions, self.templates, zones.zone)

    def workflow(self, workflow: Workflow) -> Faults:
        """Return faults of a workflow, and what is probably not meant."""
        return self._outside.warned(workflow, validate(workflow, *self._languages))

    def audience(self, audience: Audience) -> tuple[Violation, ...]:
        """Return faults of an audience."""
        return audience_validation.validate(audience, *self._languages)

    def template(self, template: Template) -> tuple[Violation, ...]:
        """Return faults of a template."""
        return template_validation.validate(template, *self._languages)

    def steps_named(self, template: Template) -> frozenset[str]:
        """Return the ids of steps that the texts of a template name."""
        return template_validation.steps_named(template, self.templates)
