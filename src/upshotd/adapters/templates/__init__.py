"""Templates in sandboxed Jinja2."""

from upshotd.adapters.templates.renderer import SandboxTemplates

__all__ = ["SandboxTemplates"]
