"""The names of a history: who is in it, what they do, what workflows say and ask."""

USERS = tuple(f"user-{n}" for n in range(8))
WORKSPACES = ("north", "south")
GROUPS = ("red", "blue")
STARTS = ("Start A", "Start B", "Start C")
MIDDLES = ("Used", "Paid", "Seen")
TOPICS = ("", "news", "orders")
#: Workflows of a workspace; the last one starts by enrolment only.
NAMES = ("always", "once", "ever", "listed", "grouped", "gathered", "timed", "moved", "enrolled")
#: Says which workspace it is of, so that one that crosses over is seen.
TEXTS = ("{{ traits.home }}: hello", "{{ traits.home }}: {{ event.name }}", "{{ traits.home }}")
FAULTY = "{{ traits.home }} {{ traits.never_set }}"
CONDITIONS = ('traits.plan == "pro"', 'traits.plan != "pro"', "event.properties.n > 3")
