import pytest

from whisperx.models.whisper.results import compression_ratio, is_silence, make_result, needs_fallback, timed_pieces
from whisperx.schema import DecodingOptions, TimedText
from whisperx.tokenizer import get_tokenizer

TOKENIZER = get_tokenizer(51865)
B = TOKENIZER.timestamp_begin
YES, NO = TOKENIZER.encode(" Yes."), TOKENIZER.encode(" No.")


def result_of(tokens, options=None, *, avg_logprob=-0.3, no_speech_prob=0.0, duration=10.0):
    return make_result(
        TOKENIZER,
        options or DecodingOptions(language="en"),
        tokens,
        language="en",
        avg_logprob=avg_logprob,
        no_speech_prob=no_speech_prob,
        temperature=0.0,
        duration=duration,
    )


@pytest.mark.parametrize(
    ("avg_logprob", "no_speech_prob", "options", "silent"),
    [
        (-2.0, 0.9, {}, True),
        (-0.5, 0.9, {}, False),  # sure of its words
        (-2.0, 0.5, {}, False),  # heard somebody
        (-2.0, 0.6, {}, False),  # at the threshold
        (-0.5, 0.9, {"log_prob_threshold": None}, True),
        (-2.0, 0.9, {"no_speech_threshold": None}, False),
        (-0.5, 0.9, {"log_prob_threshold": -0.4}, True),
    ],
)
def test_silence_is_what_the_model_calls_so_and_is_unsure_of(avg_logprob, no_speech_prob, options, silent):
    options = DecodingOptions(language="en", **options)
    assert is_silence(options, avg_logprob, no_speech_prob) == silent
    result = result_of(YES, options, avg_logprob=avg_logprob, no_speech_prob=no_speech_prob)
    assert (result.text, result.tokens) == (("", ()) if silent else (" Yes.", tuple(YES)))


@pytest.mark.parametrize(
    ("tokens", "avg_logprob", "no_speech_prob", "options", "falls_back"),
    [
        (YES, -0.3, 0.0, {}, False),
        (YES, -1.01, 0.0, {}, True),
        (YES, -1.0, 0.0, {}, False),  # at the threshold
        (YES * 40, -0.3, 0.0, {}, True),
        (YES * 40, -0.3, 0.0, {"compression_ratio_threshold": None}, False),
        (YES * 40, -0.3, 0.0, {"compression_ratio_threshold": 50.0}, False),
        (YES, -5.0, 0.0, {"log_prob_threshold": None}, False),
        (YES, -5.0, 0.9, {}, False),  # silence stays silence
    ],
)
def test_a_transcript_that_repeats_itself_or_is_unsure_falls_back(
    tokens, avg_logprob, no_speech_prob, options, falls_back
):
    options = DecodingOptions(language="en", **options)
    result = result_of(tokens, options, avg_logprob=avg_logprob, no_speech_prob=no_speech_prob)
    assert needs_fallback(options, result) == falls_back


@pytest.mark.parametrize(
    ("tokens", "pieces"),
    [
        ([], []),
        ([B, *YES, B + 50], [(YES, 0.0, 1.0)]),
        ([B + 10, *YES, B + 50, B + 60, *NO, B + 100], [(YES, 0.2, 1.0), (NO, 1.2, 2.0)]),
        ([B, *YES], [(YES, 0.0, 4.0)]),  # cut off: ends with the chunk
        ([B, *YES, B + 50, B + 50, *NO], [(YES, 0.0, 1.0), (NO, 1.0, 4.0)]),
        (YES, [(YES, 0.0, 4.0)]),
        ([B, *YES, B + 1500], [(YES, 0.0, 4.0)]),  # past the end of the chunk
        ([B, B], []),
    ],
)
def test_text_is_split_at_its_timestamps(tokens, pieces):
    assert timed_pieces(TOKENIZER, tokens, 4.0) == tuple(
        TimedText(TOKENIZER.decode(words), start, end, tuple(words)) for words, start, end in pieces
    )


def test_pieces_exist_only_where_timestamps_were_asked_for():
    assert result_of(YES).pieces is None
    assert result_of(YES, DecodingOptions(language="en", without_timestamps=False)).pieces == (
        TimedText(" Yes.", 0.0, 10.0, tuple(YES)),
    )


def test_repetition_compresses():
    assert compression_ratio("") == 0
    assert compression_ratio("yes " * 50) > 10
    assert compression_ratio("The quick brown fox jumps over the lazy dog.") < 1
