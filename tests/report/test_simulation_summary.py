from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interalign.conversations.tree import Fault, Node, Tree
from interalign.report.simulation_summary import Duel, SimulationSummary, summarise_simulation
from interalign.roles.judge import Comparison, Verdict, Vote
from interalign.roles.ledger import Disclosure, Stated
from tests.report.made_up_simulation import simulation, usage

Votes = tuple[Vote | None, Vote | None]


def one_turn(
    *scores: float | None, sources: Sequence[str] = ("tailored", "generic"), votes: Votes | None = None, **more: Any
) -> Tree:
    nodes = [Node(parent=None, role="user", content="?", source="user", disclosure=Disclosure(turn=1))]
    nodes += [
        Node(
            parent=0,
            role="assistant",
            content=f"{place}",
            source=source,
            verdict=None if score is None else Verdict(score=score),
        )
        for place, (source, score) in enumerate(zip(sources, scores, strict=True))
    ]
    comparisons = () if votes is None else (Comparison(first=1, second=2, votes=votes),)
    return Tree(persona_id="p", seed=1, nodes=tuple(nodes), comparisons=comparisons, **more)


def summed(*trees: Tree, **more: Any) -> SimulationSummary:
    return summarise_simulation(trees, **({"pairs": 0, "usage": (), "hygiene": None} | more))


def test_nothing_is_nothing_and_never_a_zero_that_was_measured() -> None:
    empty = summed()
    assert (empty.trees, empty.turns, empty.paths, empty.replies) == (0, 0, 0, 0)
    assert empty.total is None and empty.judge is None and empty.duel.share is None
    assert empty.scores == empty.duels == empty.known == empty.faults == ()
    assert SimulationSummary.model_validate_json(empty.model_dump_json()) == empty


def test_reasons_are_grouped_whatever_the_turn_and_the_judges_stand_apart() -> None:
    texts = [
        "turn 3: No answer.",
        "turn 11: No answer.",
        "turn 2: Role flip,\n turn 3: twice.",
        "judge: No answer.",
        None,
    ]
    found = summed(*(one_turn(1, 2, failure=text) for text in texts))
    assert [(one.text, one.count) for one in found.ended_early] == [
        ("No answer.", 2),
        ("Role flip, turn 3: twice.", 1),
    ]
    assert [(one.text, one.count) for one in found.unjudged] == [("No answer.", 1)]


def test_usage_stands_in_the_order_of_the_roles_and_adds_up() -> None:
    found = summed(usage=usage())
    assert [row.role for row in found.usage] == ["user", "inducer", "tailored", "generic", "judge", "judge"]
    assert found.total is not None and found.total.usd is not None
    assert found.total.calls == 724 and found.total.prompt_tokens == 724 * 1_100 and found.total.estimated == 3
    assert found.total.cached_tokens == 724 * 700 and found.total.completion_tokens == 724 * 90
    assert found.total.usd == pytest.approx(3.534)


def test_one_unknown_price_makes_the_whole_unknown() -> None:
    total = summed(usage=usage(price=None)).total
    assert total is not None and total.usd is None


def test_faults_are_counted_by_role_and_check_users_first() -> None:
    faults = [("inducer", "unreadable"), ("user", "restart"), ("user", "role flip"), ("user", "role flip")]
    broken = one_turn(1, 2, faults=tuple(Fault(role=r, turn=1, check=c, attempt=0, text="x") for r, c in faults))
    found = summed(broken, *[one_turn(1, 2)] * 3).faults
    assert [(one.role, one.check, one.count, one.per_1000) for one in found] == [
        ("user", "role flip", 2, 500.0),
        ("user", "restart", 1, 250.0),
        ("inducer", "unreadable", 1, 250.0),
    ]


def test_without_a_turn_there_is_no_rate_of_faults() -> None:
    fault = Fault(turn=1, check="restart", attempt=0, text="x")
    (found,) = summed(Tree(persona_id="p", seed=1, nodes=(), faults=(fault,), failure="turn 1: no")).faults
    assert found.count == 1 and found.per_1000 is None


def test_scores_are_means_and_counts_by_source_without_what_is_missing() -> None:
    found = summed(one_turn(4.5, None), one_turn(3, None), one_turn(None, None))
    tailored, generic = found.scores
    assert (tailored.source, tailored.replies, tailored.missing) == ("tailored", 3, 1)
    assert tailored.mean == 3.75 and tailored.counts == (0, 0, 1, 0, 1)
    assert (generic.missing, generic.mean, generic.by_turn[0].mean) == (3, None, None)
    assert (found.missing, found.replies) == (4, 6)


@given(st.lists(st.none() | st.floats(1, 5), max_size=20))
def test_every_reply_is_counted_once(scores: list[float | None]) -> None:
    for one in summed(*(one_turn(score, None) for score in scores)).scores:
        assert sum(one.counts) + one.missing == one.replies == len(scores)


def test_other_sources_come_after_the_two() -> None:
    found = summed(one_turn(1, 2, 3, sources=("mirror", "generic", "tailored")))
    assert [one.source for one in found.scores] == ["tailored", "generic", "mirror"]


@pytest.mark.parametrize(
    ("votes", "scores", "outcome"),
    [
        (("first", "first"), (1, 5), "won"),  # the comparison decides, whatever the scores
        (("second", "second"), (5, 1), "lost"),
        (("tie", "tie"), (5, 1), "tied"),
        (("first", "second"), (5, 1), "undecided"),
        (("first", None), (5, 1), "undecided"),
        (None, (5, 1), "won"),
        (None, (1, 5), "lost"),
        (None, (2, 2), "tied"),
        (None, (2, None), "undecided"),
    ],
)
def test_a_duel_is_decided_by_the_comparison_or_else_by_the_scores(
    votes: Votes | None, scores: tuple[float | None, ...], outcome: str
) -> None:
    (duel,) = summed(one_turn(*scores, votes=votes)).duels
    wanted = {"won": 0, "lost": 0, "tied": 0, "undecided": 0} | {outcome: 1}
    assert duel == Duel(turn=1, **wanted)
    assert duel.share == {"won": 1.0, "lost": 0.0}.get(outcome)


def test_a_comparison_names_the_reply_wherever_it_stands() -> None:
    swapped = one_turn(1, 2, sources=("generic", "tailored"), votes=("second", "second"))
    assert summed(swapped).duel.won == 1


def test_without_both_kinds_there_is_no_duel() -> None:
    assert summed(one_turn(1, 2, sources=("tailored", "tailored"))).duels == ()


def test_the_judge_agrees_with_itself_in_the_share_of_what_can_be_read() -> None:
    votes: list[Votes] = [
        ("first", "first"),
        ("tie", "tie"),
        ("first", "second"),
        ("second", "first"),
        ("first", "tie"),
    ]
    found = summed(*(one_turn(1, 2, votes=both) for both in [*votes, ("first", None), (None, None)])).judge
    assert found is not None
    assert (found.compared, found.readable, found.unreadable_votes) == (7, 5, 3)
    assert (found.agreeing, found.ties, found.shown_first) == (0.4, 0.5, 0.5)


def test_shares_of_nothing_are_undefined() -> None:
    found = summed(one_turn(1, 2, votes=(None, "first"))).judge
    assert found is not None
    assert (found.agreeing, found.ties, found.shown_first) == (None, None, None)


def test_what_is_known_grows_along_each_path_and_counts_nothing_twice() -> None:
    fact = Stated(kind="profile", text="She is 44.", words="44")
    trait = Stated(kind="personality", text="She is curt.", words="Get on")

    def user(parent: int | None, turn: int, *stated: Stated) -> Node:
        entry = Disclosure(turn=turn, stated=stated)
        return Node(parent=parent, role="user", content="?", source="user", disclosure=entry)

    def reply(parent: int, source: str) -> Node:
        return Node(parent=parent, role="assistant", content=source, source=source, continued=True)

    nodes = (user(None, 1, fact), reply(0, "tailored"), reply(0, "generic"), user(1, 2, fact, trait), user(2, 2))
    found = summed(Tree(persona_id="p", seed=1, nodes=nodes))
    assert [(one.users, one.statements, one.profile, one.personality) for one in found.known] == [
        (1, 1.0, 1.0, 0.0),
        (2, 1.5, 1.0, 0.5),
    ]
    assert found.paths == 2


def test_the_made_up_simulation_adds_up() -> None:
    page = simulation()
    found = page.summary
    users = [(tree, node) for tree in page.trees for node in tree.user_turns()]
    assert found.turns == len(users) == sum(one.users for one in found.known)
    assert found.paths == found.trees == found.personas == 24
    duels = [one.won + one.lost + one.tied + one.undecided for one in found.duels]
    assert sum(duels) == found.turns and found.judge is not None and found.judge.compared == found.turns
    assert sum(one.count for one in found.faults) == sum(len(tree.faults) for tree in page.trees)
    failed = sum(one.count for one in (*found.ended_early, *found.unjudged))
    assert failed == sum(tree.failure is not None for tree in page.trees)


def test_trees_are_gone_through_once() -> None:
    page = simulation()
    told = {"pairs": 97, "usage": page.summary.usage, "hygiene": page.summary.hygiene}
    assert summed(*page.trees, **told) == page.summary
    assert summarise_simulation(iter(page.trees), **told) == page.summary  # type: ignore[arg-type]
