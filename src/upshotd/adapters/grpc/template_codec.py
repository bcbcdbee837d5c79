"""Templates of the contract <-> templates of the domain."""

from upshot.v1 import workflow_pb2 as pb
from upshotd.adapters.grpc import send_codec
from upshotd.adapters.grpc.reading import Reading
from upshotd.domain.errors import Violation
from upshotd.domain.template import Template, normal
from upshotd.domain.template_validation import DEFAULT

#: Largest template, serialized, in bytes.
TEMPLATE_BYTES_MAX = 1024 * 1024


def template(message: pb.Template) -> tuple[Template, tuple[Violation, ...]]:
    """Return the template, as far as *message* says one, and every fault of its form by path."""
    size = message.ByteSize()
    if size > TEMPLATE_BYTES_MAX:
        text = f"{size} bytes serialized; at most {TEMPLATE_BYTES_MAX} are taken"
        return Template(message.template_id, {}), (Violation("template", text),)
    reading = Reading()
    reading.unknown_fields(message, "template")
    variants = {}
    for locale, content in sorted(message.variants.items()):
        name = "" if locale == DEFAULT else normal(locale)
        if name in variants:
            reading.fault(f"template.variants.{locale}", "is given twice")
        variants[name] = send_codec.contents(content)
    read = Template(
        template_id=message.template_id,
        variants=variants,
        display_name=message.display_name,
        layout_id=message.layout_id,
        labels=dict(message.labels),
    )
    return read, tuple(reading.violations)


def message(template: Template) -> pb.Template:
    """Return *template* as a message, without its version."""
    written = pb.Template(
        template_id=template.template_id,
        display_name=template.display_name,
        layout_id=template.layout_id,
        labels=template.labels,
    )
    for locale, contents in template.variants.items():
        variant = written.variants[locale or DEFAULT]
        variant.SetInParent()
        for content in contents:
            send_codec.write_content(content, variant)
    return written


def encode_template(template: Template) -> bytes:
    """Return the canonical encoding of *template*, without its version."""
    return message(template).SerializeToString(deterministic=True)


def decode_template(definition: bytes, version: int) -> Template:
    """Return the template of a stored definition."""
    read, _ = template(pb.Template.FromString(definition))
    return Template(
        read.template_id, read.variants, version, read.display_name, read.layout_id, read.labels
    )
