import torch
from hypothesis import given
from hypothesis import strategies as st

from interalign.llm.prefixes import Prefixes

PAD = 99


class Cache:
    """As much of a key-value cache as is looked at: its length, and which rows it holds."""

    def __init__(self, rows: int, length: int) -> None:
        self.rows = list(range(rows))
        self.length = length

    def get_seq_length(self) -> int:
        return self.length

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        self.rows = [self.rows[index] for index in indices.tolist()]


def played(prefixes: Prefixes, prompts: list[list[int]], answers: list[list[int]]) -> None:
    """Answer the prompts, padding the answers to one length, and keep what was computed."""
    batch = prefixes.batch(prompts, PAD)
    longest = max(map(len, answers))
    written = torch.tensor([answer + [PAD] * (longest - len(answer)) for answer in answers])
    sequences = torch.cat([batch.ids, written], dim=1)
    prefixes.keep(batch, sequences, list(map(len, answers)), Cache(len(prompts), sequences.shape[1] - 1))


def rows_of(batch: object) -> list[list[int]]:
    return [ids[mask.bool()].tolist() for ids, mask in zip(batch.ids, batch.mask, strict=True)]  # type: ignore[attr-defined]


tokens = st.lists(st.integers(0, 5), min_size=1, max_size=6)


@given(st.lists(st.tuples(tokens, tokens, tokens), min_size=1, max_size=5), st.randoms())
def test_whatever_is_kept_a_row_holds_its_prompt(turns: list[tuple[list[int], list[int], list[int]]], random) -> None:  # type: ignore[no-untyped-def]
    prefixes = Prefixes()
    played(prefixes, [first for first, _, _ in turns], [answer for _, answer, _ in turns])
    second = [first + answer + more for first, answer, more in turns]
    random.shuffle(second)
    assert rows_of(prefixes.batch(second, PAD)) == second


def test_a_conversation_that_goes_on_computes_its_new_tokens_only() -> None:
    prefixes = Prefixes()
    played(prefixes, [[1, 2, 3], [4, 5]], [[6, 7], [8]])
    batch = prefixes.batch([[4, 5, 8, 9], [1, 2, 3, 6, 7, 9]], PAD)
    assert batch.cache.rows == [1, 0]
    assert batch.ids.shape[1] - batch.cache.get_seq_length() == 2
    assert rows_of(batch) == [[4, 5, 8, 9], [1, 2, 3, 6, 7, 9]]


def test_what_a_row_does_not_share_is_masked() -> None:
    prefixes = Prefixes()
    played(prefixes, [[1, 2, 3, 4]], [[5, 6, 7]])
    batch = prefixes.batch([[1, 2, 3, 4, 8, 9]], PAD)
    assert batch.cache is not None
    assert rows_of(batch) == [[1, 2, 3, 4, 8, 9]]


def test_a_stranger_in_the_batch_begins_anew() -> None:
    prefixes = Prefixes()
    played(prefixes, [[1, 2, 3], [4, 5]], [[6], [8]])
    assert prefixes.batch([[1, 2, 3, 6, 9], [7, 7, 7]], PAD).cache is None


def test_the_same_prompt_again_still_has_a_token_to_compute() -> None:
    prefixes = Prefixes()
    played(prefixes, [[1, 2, 3]], [[6]])
    batch = prefixes.batch([[1, 2, 3]], PAD)
    assert batch.ids.shape[1] > batch.cache.get_seq_length()
    assert rows_of(batch) == [[1, 2, 3]]


def test_a_kept_batch_is_used_once() -> None:
    prefixes = Prefixes()
    played(prefixes, [[1, 2, 3]], [[6]])
    assert prefixes.batch([[1, 2, 3, 6, 9]], PAD).cache is not None
    assert prefixes.batch([[1, 2, 3, 6, 9]], PAD).cache is None


def test_caches_that_cannot_be_reordered_are_not_kept() -> None:
    prefixes = Prefixes()
    batch = prefixes.batch([[1, 2]], PAD)
    prefixes.keep(batch, torch.tensor([[1, 2, 3]]), [1], object())
    assert prefixes.batch([[1, 2, 3, 4]], PAD).cache is None
