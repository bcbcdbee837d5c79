"""Workflows of every kind of step, for property tests: of form, not of meaning."""

from datetime import time

from hypothesis import strategies as st

from tests.strategies import instants, plains, texts
from upshotd.domain.event import EventType
from upshotd.domain.fetching import HttpMethod
from upshotd.domain.message import (
    CHANNELS,
    Attachment,
    Channel,
    Chat,
    Content,
    Email,
    Inbox,
    Purpose,
    Push,
    Sms,
    Webhook,
)
from upshotd.domain.outcome import EngagementKind
from upshotd.domain.routing import Method, Route
from upshotd.domain.schedule import Schedule
from upshotd.domain.steps.approve import ApprovalDecision, Approve, ReviewerLevel
from upshotd.domain.steps.branch import Branch, Case
from upshotd.domain.steps.delay import Delay
from upshotd.domain.steps.digest import Digest, Keep
from upshotd.domain.steps.emit import Emit
from upshotd.domain.steps.enroll import Enroll
from upshotd.domain.steps.exit import Exit
from upshotd.domain.steps.experiment import (
    EngagementGoal,
    EventGoal,
    Experiment,
    Optimize,
    Variant,
)
from upshotd.domain.steps.fetch import FetchStep, Generate
from upshotd.domain.steps.send import OnUnknown, Send
from upshotd.domain.steps.suppress import Suppress
from upshotd.domain.steps.throttle import Throttle, ThrottleScope
from upshotd.domain.steps.update_profile import UpdateProfile
from upshotd.domain.steps.wait import EngagementWait, EventWait, Wait
from upshotd.domain.window import Window
from upshotd.domain.workflow import ExitRule, Reentry, ReentryMode, Step, Trigger, Workflow

DAY_US = 86_400_000_000
words = st.text("abc_", min_size=1, max_size=8)
spans = st.integers(0, 400 * DAY_US)
pairs = st.dictionaries(texts, texts, max_size=3)
contents: st.SearchStrategy[Content] = (
    st.builds(
        Email,
        texts,
        texts,
        texts,
        st.just(""),
        reply_to=texts,
        headers=pairs,
        mjml=texts,
        utm=pairs,
        attachments=st.tuples(st.builds(Attachment, texts, texts)) | st.just(()),
    )
    | st.builds(Sms, texts)
    | st.builds(Push, texts, texts, pairs)
    | st.builds(Webhook, texts)
    | st.builds(Chat, texts)
    | st.builds(Inbox, texts, texts, texts)
)


def in_order(contents: list[Content]) -> tuple[Content, ...]:
    return tuple(sorted(contents, key=lambda content: CHANNELS[type(content)]))


flat = st.lists(st.sampled_from(Channel), max_size=3).map(tuple)
flat_routes = st.builds(Route, st.sampled_from(Method), flat)
routes = flat_routes | st.builds(
    Route,
    st.sampled_from(Method),
    st.tuples(flat, st.lists(flat_routes, max_size=2)).map(lambda both: (*both[0], *both[1])),
)
engagement_waits = st.builds(
    EngagementWait,
    words,
    st.lists(st.sampled_from(EngagementKind), max_size=3).map(tuple),
    st.booleans(),
)
event_waits = st.builds(EventWait, texts, texts, st.booleans())
shares = st.floats(0, 1)
engaged = st.lists(st.sampled_from(EngagementKind), max_size=3).map(tuple)
goals = st.builds(EngagementGoal, engaged, st.booleans()) | st.builds(EventGoal, texts, texts)
optimizes = st.builds(Optimize, st.none() | goals, spans, shares, st.booleans())
times = st.builds(time, st.integers(0, 23), st.integers(0, 59))
days = st.sets(st.integers(0, 6), min_size=1).map(frozenset)
windows = st.builds(Window, times, st.none() | times, days)
fetches = st.builds(
    FetchStep,
    texts,
    st.sampled_from(HttpMethod),
    st.dictionaries(texts, texts, max_size=3),
    texts,
    spans,
    st.integers(1, 10),
)
questions = st.builds(
    Generate, texts, plains, texts, texts, st.integers(1, 8000), spans, st.integers(1, 10)
)
messages = st.builds(
    Send,
    st.sampled_from(Channel) | routes,
    st.lists(contents, max_size=6, unique_by=type).map(in_order),
    st.none() | spans,
    on_unknown=st.none() | st.sampled_from(OnUnknown),
)
escalations = st.none() | spans
reviewers = (
    st.builds(ReviewerLevel, audience_id=texts, escalate_us=escalations)
    | st.builds(ReviewerLevel, group_id=texts, escalate_us=escalations)
    | st.builds(ReviewerLevel, user_ids=st.tuples(texts, texts), escalate_us=escalations)
)
plain_steps = st.builds(
    Step,
    words,
    messages
    | st.builds(Delay, duration_us=spans)
    | st.builds(Delay, spread_us=spans)
    | st.builds(Delay, until_us=instants)
    | st.builds(Delay, until=words)
    | st.builds(Delay, window=windows, time_zone=st.sampled_from(("", "Europe/Berlin")))
    | st.builds(
        Digest,
        window_us=st.none() | spans,
        max_window_us=st.none() | spans,
        key=texts,
        max_items=st.integers(1, 500),
        keep=st.sampled_from(Keep),
        keep_count=st.integers(1, 100),
        by=texts,
        schedule=st.none() | windows,
    )
    | fetches
    | questions
    | st.builds(UpdateProfile, st.dictionaries(texts, texts, max_size=3))
    | st.builds(Emit, texts, plains)
    | st.builds(Enroll, texts)
    | st.builds(Suppress, channel=st.sampled_from(Channel), duration_us=st.none() | spans)
    | st.builds(Suppress, topic=words)
    | st.builds(Exit, words),
    texts,
)


def around(steps: st.SearchStrategy[Step]) -> st.SearchStrategy[Step]:
    lists = st.lists(steps, max_size=2).map(tuple)
    lone = st.tuples(engagement_waits | event_waits)
    several = st.lists(engagement_waits | event_waits, max_size=3).map(tuple)
    waits = st.builds(Wait, lone, spans, lists, lists, lists) | st.builds(
        Wait, several, spans, lists, any_of=st.just(True)
    )
    cases = st.lists(st.builds(Case, texts, lists), max_size=2).map(tuple)
    throttles = st.builds(
        Throttle, st.integers(1, 1000), spans, texts, lists, st.sampled_from(ThrottleScope)
    )
    sends = st.builds(Send, st.just(Channel.SMS), st.just((Sms("x"),)), on_failure=lists)
    asked = st.builds(FetchStep, texts, on_failure=lists)
    asked |= st.builds(Generate, texts, st.just({}), on_failure=lists)
    variants = st.lists(st.builds(Variant, words, lists, st.integers(1, 9)), max_size=2).map(tuple)
    experiments = st.builds(Experiment, variants, shares, texts, st.none() | optimizes)
    approvals = st.builds(
        Approve,
        st.lists(reviewers, max_size=2).map(tuple),
        messages,
        texts,
        spans,
        st.none() | fetches,
        st.lists(spans, max_size=2).map(tuple),
        st.none() | messages,
        st.none() | messages,
        st.none() | st.sampled_from(ApprovalDecision),
        *(lists, lists, lists),
    )
    kinds = waits | throttles | sends | asked | experiments | st.builds(Branch, cases, lists)
    kinds |= approvals
    return st.builds(Step, words, kinds, texts)


workflows = st.builds(
    Workflow,
    workflow_id=texts,
    trigger=st.builds(
        Trigger,
        type=st.just(EventType.TRACK),
        event=texts,
        condition=texts,
        max_age_us=spans,
        include_own_outcomes=st.booleans(),
    )
    | st.builds(
        Trigger,
        type=st.sampled_from([EventType.IDENTIFY, EventType.GROUP, None]),
        condition=texts,
    )
    | st.builds(
        Trigger,
        type=st.just(EventType.SCHEDULED),
        schedule=st.builds(Schedule, cron=texts, time_zone=texts),
    )
    | st.builds(Trigger, type=st.sampled_from([EventType.PAGE, EventType.SCREEN]), event=texts),
    steps=st.lists(st.recursive(plain_steps, around, max_leaves=4), max_size=3).map(tuple),
    display_name=texts,
    reentry=st.builds(Reentry, st.sampled_from(ReentryMode), texts, spans),
    exits=st.lists(st.builds(ExitRule, texts, texts), max_size=2).map(tuple),
    topic=texts,
    purpose=st.sampled_from(Purpose),
    cancellation_key=texts,
    labels=st.dictionaries(texts, texts, max_size=3),
)
