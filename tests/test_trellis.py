"""The best path through a text: equal to the plain algorithm, frame for frame, however many go side by side."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import plain_alignment as plain
import pytest

from whisperx.alignment import Segment, backtrack, get_trellis, merge_repeats, merge_words, trellis
from whisperx.alignment.trellis import Path, Tokens, best_paths, path_in_band

N_LABELS = 12


def tokens_for_whisperx(columns: Sequence[int], blank: int) -> Tokens:
    return Tokens(np.array(columns), np.full(len(columns), blank))


def points(path: Path) -> list[tuple[int, int]]:
    return [(int(token), path.first + i) for i, token in enumerate(path.token)]


def emission_saying(labels: str, alphabet: str = "-|abc", sure: float = 0.9) -> npt.NDArray[np.float32]:
    """A frame for each letter of `labels`, which is said with probability `sure`."""
    p = np.full((len(labels), len(alphabet)), (1 - sure) / (len(alphabet) - 1))
    p[np.arange(len(labels)), [alphabet.index(label) for label in labels]] = sure
    return np.log(p).astype(np.float32)


def test_paths_are_those_of_the_plain_algorithm_on_thousands_of_random_emissions() -> None:
    generator = np.random.default_rng(0)
    emissions, tokens = [], []
    for i in range(2000):
        n_frames = int(generator.integers(1, 24)) if i % 200 else 400
        n_tokens = int(generator.integers(1, min(n_frames, 9) + 2))  # sometimes one too many
        emissions.append(plain.random_emission(generator, n_frames, N_LABELS, float(generator.choice([0.0, 1, 4, 10]))))
        tokens.append([int(token) for token in generator.integers(0, N_LABELS, n_tokens)])  # the blank among them
    for blank in (0, 5):
        found = best_paths(emissions, [tokens_for_whisperx(t, blank) for t in tokens], blank, to_last_frame=False)
        n_failed = 0
        for emission, columns, path in zip(emissions, tokens, found, strict=True):
            expected = plain.path_of(plain.trellis_of(emission, columns, blank), emission, columns, blank)
            if expected is None:
                assert path is None
                n_failed += 1
                continue
            assert path is not None
            assert points(path) == [(token, frame) for token, frame, _ in expected]
            spans = plain.spans_of(expected)
            assert path.starts().tolist() == [start for start, _, _ in spans]
            assert path.stops().tolist() == [stop for _, stop, _ in spans]
            np.testing.assert_allclose(path.scores(path.stops()), [score for _, _, score in spans], atol=1e-6)
        assert 0 < n_failed < 700


@pytest.mark.parametrize("cells", [1, 2000, 10**9])
def test_neighbours_in_a_group_change_nothing(cells: int, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(1)
    emissions = [plain.random_emission(generator, int(n), N_LABELS, 2) for n in generator.integers(20, 60, 40)]
    tokens = [tokens_for_whisperx(generator.integers(1, N_LABELS, int(n)), 0) for n in generator.integers(1, 20, 40)]
    alone = [best_paths([e], [t], 0, to_last_frame=True)[0] for e, t in zip(emissions, tokens, strict=True)]
    monkeypatch.setattr(trellis, "_BLOCK_CELLS", cells)
    for one, other in zip(alone, best_paths(emissions, tokens, 0, to_last_frame=True), strict=True):
        assert one is not None
        assert other is not None
        assert points(one) == points(other)
        assert one.probability.tobytes() == other.probability.tobytes()


@pytest.mark.parametrize("width", [40, 80, 400])
def test_band_finds_the_same_path_where_the_text_is_said(width: int) -> None:
    generator = np.random.default_rng(2)
    columns = generator.integers(1, N_LABELS, 200)
    emission = plain.random_emission(generator, 1000, N_LABELS, 1)
    said_at = np.sort(generator.choice(1000, 200, replace=False))
    emission[:, 0] += 4
    emission[said_at, columns] += 12
    tokens = Tokens(columns, columns)
    whole, banded = (
        best_paths([emission], [tokens], 0, to_last_frame=True)[0],
        path_in_band(emission, tokens, 0, width, to_last_frame=True),
    )
    assert whole is not None
    assert banded is not None
    assert points(whole) == points(banded)
    assert banded.starts().tolist() == said_at.tolist()


def test_long_segment_goes_through_the_band(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(3)
    emission = plain.random_emission(generator, 300, N_LABELS, 1)
    tokens = tokens_for_whisperx(generator.integers(1, N_LABELS, 50), 0)
    whole = best_paths([emission], [tokens], 0, to_last_frame=True)[0]
    monkeypatch.setattr(trellis, "_WHOLE_CELLS", 100)
    monkeypatch.setattr(trellis, "_BLOCK_CELLS", 100)
    banded = best_paths([emission], [tokens], 0, to_last_frame=True)[0]
    assert whole is not None
    assert banded is not None
    assert points(whole) == points(banded)


def test_text_that_the_band_cannot_reach_has_no_path() -> None:
    generator = np.random.default_rng(4)
    emission = plain.random_emission(generator, 40, N_LABELS, 1)
    assert path_in_band(emission, tokens_for_whisperx(range(1, 11), 0), 0, width=10, to_last_frame=True) is not None
    assert path_in_band(emission, tokens_for_whisperx([1] * 41, 0), 0, width=10, to_last_frame=True) is None


def test_letter_held_over_frames_is_voiced_as_long_as_it_sounds() -> None:
    emission = emission_saying("-aaa--b--")
    columns = np.array([2, 3])
    path = best_paths([emission], [Tokens(columns, columns)], 0, to_last_frame=True)[0]
    assert path is not None
    assert path.starts().tolist() == [1, 6]
    assert path.stops().tolist() == [6, 9]
    assert path.voiced_stops().tolist() == [4, 7]
    np.testing.assert_allclose(path.scores(path.voiced_stops()), 0.9, atol=1e-6)


def test_token_that_may_not_be_held_takes_one_frame() -> None:
    path = best_paths([emission_saying("-aaa--b--")], [tokens_for_whisperx([2, 3], 0)], 0, to_last_frame=True)[0]
    assert path is not None
    assert path.stops().tolist() == [6, 9]
    np.testing.assert_allclose(path.scores(path.stops()), [(0.9 * 3 + 0.025 * 2) / 5, 0.9], atol=1e-6)


def test_whisperx_ends_where_the_rest_costs_nothing_and_we_explain_every_frame() -> None:
    emission, tokens = emission_saying("-a-----b"), tokens_for_whisperx([2, 3], 0)
    held = emission_saying("-aaaaaab")
    ends = {
        to_last_frame: best_paths([emission, held], [tokens, tokens], 0, to_last_frame=to_last_frame)
        for to_last_frame in (True, False)
    }
    assert [path and path.starts().tolist() for path in ends[True]] == [[1, 7], [1, 7]]
    assert [path and path.starts().tolist() for path in ends[False]] == [[1, 7], [1, 2]]


def test_more_tokens_than_frames_have_no_path_and_do_not_disturb_the_others() -> None:
    emission = emission_saying("ab")
    found = best_paths(
        [emission, emission], [tokens_for_whisperx([2, 3, 4], 0), tokens_for_whisperx([2, 3], 0)], 0, to_last_frame=True
    )
    assert found[0] is None
    assert found[1] is not None
    assert points(found[1]) == [(0, 0), (1, 1)]


def test_nothing_to_align_gives_nothing() -> None:
    assert best_paths([], [], 0, to_last_frame=True) == []


def test_whisperxs_functions_find_the_plain_path() -> None:
    generator = np.random.default_rng(5)
    for blank in (0, 5):
        for n_tokens in range(1, 9):
            emission = plain.random_emission(generator, 8, N_LABELS, 2)
            columns = [int(column) for column in generator.integers(0, N_LABELS, n_tokens)]
            cells = plain.trellis_of(emission, columns, blank)
            expected = plain.path_of(cells, emission, columns, blank)
            path = backtrack(get_trellis(emission, columns, blank), emission, columns, blank)
            assert path is not None
            assert expected is not None
            assert [(p.token_index, p.time_index) for p in path] == [(token, frame) for token, frame, _ in expected]
            letters = merge_repeats(path, "abcdefgh")
            assert [(s.start, s.end) for s in letters] == [(start, end) for start, end, _ in plain.spans_of(expected)]
    assert backtrack(get_trellis(emission, [1] * 9), emission, [1] * 9) is None


def test_letters_between_separators_are_words() -> None:
    letters = [Segment("a", 0, 1, 0.5), Segment("b", 1, 4, 0.9), Segment("|", 4, 6, 0.1), Segment("c", 6, 7, 0.25)]
    first, second = merge_words(letters)
    assert (first.label, first.start, first.end, first.score) == ("ab", 0, 4, pytest.approx(0.8))
    assert second == Segment("c", 6, 7, 0.25)
