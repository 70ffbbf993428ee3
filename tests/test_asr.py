import logging
import math
from dataclasses import replace

import numpy as np
import pytest
from random_whisper import write_talker

from whisperx.asr import FasterWhisperPipeline, load_model
from whisperx.audio import SAMPLE_RATE
from whisperx.errors import AudioError, OptionError
from whisperx.schema import DecodingOptions, DecodingResult, Meter, Span, TimedText, TimedWord


class Echo:
    """A backend that writes down the length of each chunk, last chunk first."""

    device = "toy"

    def __init__(
        self,
        *,
        is_multilingual: bool = True,
        pieces: tuple[TimedText, ...] | None = None,
        heard: list[tuple[str, float]] | None = None,
    ) -> None:
        self.heard = heard
        self.pieces = pieces
        self.is_multilingual = is_multilingual
        self.asked_for_language: list[int] = []
        self.options: list[DecodingOptions] = []
        self.batch_sizes: list[int] = []

    def detect_language(self, audio):
        self.asked_for_language.append(len(audio))
        return self.heard[len(self.asked_for_language) - 1] if self.heard else ("de", 0.9)

    def decode(self, chunks, options, *, batch_size, on_result, meter):
        self.options.append(options)
        self.batch_sizes.append(batch_size)
        results = [
            DecodingResult(
                text=f" {len(chunk) / SAMPLE_RATE:g} s",
                tokens=(1, 2),
                language=options.language or ("de" if len(chunk) > 3 * SAMPLE_RATE else "fr"),
                avg_logprob=-0.5,
                no_speech_prob=0.25,
                temperature=0.2,
                compression_ratio=1.5,
                pieces=self.pieces,
            )
            for chunk in chunks
        ]
        for index in reversed(range(len(chunks))):
            on_result(index, results[index])
        return results


def three_spans(audio):
    return [Span(1.0, 3.0), Span(10.0, 14.5004), Span(40.0, 41.0)]


AUDIO = np.zeros(45 * SAMPLE_RATE, np.float32)


def load(backend, vad=three_spans, **options) -> FasterWhisperPipeline:
    return load_model("", model=backend, vad_model=vad, **options)


def test_each_chunk_becomes_a_segment_with_its_bounds():
    result = load(Echo(), language="en").transcribe(AUDIO)
    numbers = {"no_speech_prob": 0.25, "compression_ratio": 1.5, "temperature": 0.2, "tokens": [1, 2]}
    assert result == {
        "segments": [
            {"text": " 13.5004 s", "start": 1.0, "end": 14.5, "avg_logprob": -0.5} | numbers,
            {"text": " 1 s", "start": 40.0, "end": 41.0, "avg_logprob": -0.5} | numbers,
        ],
        "language": "en",
        "language_probability": 1.0,
    }
    assert list(result["segments"][0]) == ["text", "start", "end", "avg_logprob", *numbers]


def test_pieces_between_timestamps_become_segments_of_their_own():
    pieces = (TimedText(" One.", 0.0, 0.5, (1,)), TimedText(" Two.", 0.52, 0.9, (2,)))
    segments = load(Echo(pieces=pieces), language="en").transcribe(AUDIO)["segments"]
    assert [(s["text"], s["start"], s["end"], s["tokens"]) for s in segments] == [
        (" One.", 1.0, 1.5, [1]),
        (" Two.", 1.52, 1.9, [2]),
        (" One.", 40.0, 40.5, [1]),
        (" Two.", 40.52, 40.9, [2]),
    ]


def test_a_chunk_without_text_makes_no_segment():
    assert load(Echo(pieces=()), language="en").transcribe(AUDIO)["segments"] == []


def test_segments_are_told_in_order_of_time_though_decoded_in_another():
    told, progress = [], []
    load(Echo(), language="en").transcribe(
        AUDIO, chunk_size=5, on_segment=told.append, on_progress=lambda *seconds: progress.append(seconds)
    )
    assert [segment["start"] for segment in told] == [1.0, 10.0, 40.0]
    assert progress[0] == (1.0, pytest.approx(7.5004))
    assert progress[-1][0] == pytest.approx(progress[-1][1])


def test_a_language_heard_clearly_in_the_first_chunk_of_speech_is_the_recordings():
    backend = Echo()
    result = load(backend).transcribe(AUDIO, chunk_size=5)
    assert (result["language"], result["language_probability"]) == ("de", 0.9)
    assert backend.asked_for_language == [2 * SAMPLE_RATE]
    assert backend.options[0].language == "de"


@pytest.mark.parametrize(
    ("heard", "language", "probability"),
    [
        ([("de", 0.5), ("de", 0.9), ("en", 0.6)], "de", 1.4 / 3),
        ([("de", 0.79), ("en", 0.5), ("en", 0.5)], "en", 1.0 / 3),
        ([("nn", 0.4), ("no", 0.5), ("da", 0.3)], "no", 0.5 / 3),
    ],
)
def test_several_chunks_vote_where_the_first_is_unsure(heard, language, probability):
    backend = Echo(heard=heard)
    result = load(backend).transcribe(AUDIO, chunk_size=5)
    assert (result["language"], result["language_probability"]) == (language, pytest.approx(probability))
    assert len(backend.asked_for_language) == 3


def test_each_chunk_may_have_its_own_language():
    backend = Echo()
    result = load(backend, language="auto-chunk").transcribe(AUDIO, chunk_size=5)
    assert not backend.asked_for_language
    assert backend.options[0].language is None
    assert [segment["language"] for segment in result["segments"]] == ["fr", "de", "fr"]
    assert result["language"] == "de"  # 4.5 s of it, 3 s of the other
    assert "language_probability" not in result


def test_at_most_five_chunks_vote_spread_over_the_recording():
    backend = Echo(heard=[("de", 0.5)] * 5)
    spans = [Span(float(i), i + 0.1 * (i + 1)) for i in range(9)]
    load(backend, vad=lambda audio: spans).transcribe(AUDIO, chunk_size=1)
    assert [n / SAMPLE_RATE for n in backend.asked_for_language] == pytest.approx([0.1, 0.3, 0.5, 0.7, 0.9])


@pytest.mark.parametrize(
    ("preset", "asked", "expected"), [("fr", None, "fr"), ("fr", "Italian", "it"), (None, "IT", "it")]
)
def test_a_language_that_is_given_is_not_detected(preset, asked, expected):
    backend = Echo()
    assert load(backend, language=preset).transcribe(AUDIO, language=asked)["language"] == expected
    assert not backend.asked_for_language


def test_the_task_is_kept_when_the_language_is_detected():
    backend = Echo()
    load(backend, task="translate").transcribe(AUDIO)
    assert backend.options[0].task == "translate"


def test_a_call_leaves_nothing_behind_on_the_pipeline():
    backend = Echo()
    pipeline = load(backend)
    before = pipeline.options
    pipeline.transcribe(AUDIO, batch_size=3, language="fr", task="translate", chunk_size=5)
    pipeline.transcribe(AUDIO)
    assert pipeline.options == before
    assert (backend.options[1].language, backend.options[1].task, backend.batch_sizes) == ("de", "transcribe", [3, 8])


def test_an_english_model_hears_english_and_says_so(caplog):
    backend = Echo(is_multilingual=False)
    with caplog.at_level(logging.WARNING):
        pipeline = load(backend, language="German")
    assert "English-only model" in caplog.text
    assert pipeline.transcribe(AUDIO)["language"] == "en"


def test_an_english_model_refuses_to_translate_before_any_speech_is_heard():
    with pytest.raises(OptionError, match="cannot translate"):
        load(Echo(is_multilingual=False), task="translate")
    pipeline = load(Echo(is_multilingual=False), vad=lambda audio: [])
    with pytest.raises(OptionError, match="cannot translate"):
        pipeline.transcribe(AUDIO, task="translate")


def test_the_pipeline_says_where_it_computes(tmp_path):
    assert load(Echo()).device == "toy"
    assert load_model(write_talker(tmp_path), "cpu", backend="mlx").device.startswith("cpu, ")


def test_a_recording_without_speech_has_no_segments_but_a_language(caplog):
    backend = Echo()
    result = load(backend, vad=lambda audio: []).transcribe(AUDIO)
    assert (result["segments"], result["language"]) == ([], "de")
    assert "No active speech found in audio" in caplog.text
    assert backend.asked_for_language == [30 * SAMPLE_RATE]


def test_chunk_size_of_the_detector_and_of_the_call_both_hold():
    pipeline = load(Echo(), language="en", vad_options={"chunk_size": 10})
    assert len(pipeline.transcribe(AUDIO)["segments"]) == 3
    assert len(pipeline.transcribe(AUDIO, chunk_size=3)["segments"]) == 4


def test_progress_is_printed_and_called_back(capsys):
    shares = []
    pipeline = load(Echo(), language="en")
    pipeline.transcribe(
        AUDIO, print_progress=True, combined_progress=True, verbose=True, progress_callback=shares.append
    )
    assert shares == [50, 100]
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Progress: 25.00%..."
    assert lines[-1] == "Transcript: [40.0 --> 41.0]  1 s"


def test_the_meter_counts_chunks_and_seconds():
    meter = Meter()
    load(Echo(), language="en").transcribe(AUDIO, meter=meter)
    assert meter.counts["chunks"] == 2
    assert {"decode audio", "vad"} <= meter.seconds.keys()


@pytest.mark.parametrize(
    ("audio", "message"),
    [
        (np.zeros((2, 100), np.float32), r"mono, of shape \(n_samples,\), not \(2, 100\)"),
        (np.array([0, np.nan], np.float32), "not finite"),
        ("missing.wav", "missing.wav"),
    ],
)
def test_audio_that_cannot_be_used_is_an_audio_error(audio, message):
    with pytest.raises(AudioError, match=message):
        load(Echo()).transcribe(audio)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"asr_options": {"beam": 3}}, TypeError, "asr_options has no 'beam'"),
        ({"vad_options": {"onset": 0.3}}, TypeError, "onset"),
        ({"vad": None, "vad_method": "energy"}, ValueError, "Invalid vad_method: energy"),
        ({"language": "Klingon"}, OptionError, "Unsupported language: Klingon"),
        ({"backend": "torch", "model": None}, OptionError, "Invalid backend: torch"),
    ],
)
def test_unknown_options_are_refused_by_name(options, error, message, tmp_path):
    settings = {"vad_model": options.pop("vad", three_spans), "model": Echo()} | options
    with pytest.raises(error, match=message):
        load_model(tmp_path, **settings)


class Timer(Echo):
    """Says three words, the last of which does not end with the chunk."""

    words = (
        TimedWord(" One,", 0.1, 0.4, 0.25),
        TimedWord(" two", 0.5, 0.9, 1 / 3),
        TimedWord(" three.", 1.0, 99.0, 1.0),
    )

    def decode(self, chunks, options, *, batch_size, on_result, meter):
        def timed(index, result):
            on_result(
                index, replace(result, text=" One, two three.", words=self.words if options.word_timestamps else None)
            )

        return super().decode(chunks, options, batch_size=batch_size, on_result=timed, meter=meter)

    def time_words(self, chunks, texts, language):
        self.timed = [(len(chunk), text, language) for chunk, text in zip(chunks, texts, strict=True)]
        return [self.words]


def test_words_have_the_times_of_the_recording_and_stay_in_their_chunk():
    segments = load(Timer(), language="en").transcribe(AUDIO, word_timestamps=True)["segments"]
    assert segments[1]["words"] == [
        {"word": "One,", "start": 40.1, "end": 40.4, "score": 0.25},
        {"word": "two", "start": 40.5, "end": 40.9, "score": 0.333},
        {"word": "three.", "start": 41.0, "end": 41.0, "score": 1.0},
    ]
    assert [word["start"] for word in segments[0]["words"]] == [1.1, 1.5, 2.0]


def test_words_go_to_the_piece_that_they_belong_to():
    pieces = (TimedText(" One, two", 0.0, 0.5, (1,)), TimedText(" three.", 0.52, 0.9, (2,)))
    segments = load(Timer(pieces=pieces), language="en").transcribe(AUDIO, word_timestamps=True)["segments"]
    assert [[word["word"] for word in segment["words"]] for segment in segments] == [["One,", "two"], ["three."]] * 2


def test_words_keep_their_blanks_where_none_would_be_put_between_them():
    segments = load(Timer(), language="ja").transcribe(AUDIO, word_timestamps=True)["segments"]
    assert "".join(word["word"] for word in segments[0]["words"]) == segments[0]["text"]


def test_words_can_be_asked_for_by_language():
    asked: list[str] = []

    def is_french(code: str) -> bool:
        asked.append(code)
        return code == "fr"

    for language in ("en", "fr"):
        segments = load(Timer(), language=language).transcribe(AUDIO, word_timestamps=is_french)["segments"]
        assert all(("words" in segment) == (language == "fr") for segment in segments)
    result = load(Timer(), language="auto-chunk").transcribe(AUDIO, word_timestamps=is_french)
    assert [(s["language"], "words" in s) for s in result["segments"]] == [("de", False), ("fr", True)]
    assert set(asked) == {"en", "fr", "de"}


def test_words_can_be_asked_for_as_an_option_of_the_pipeline():
    for options in ({"word_timestamps": True}, {}):
        segments = load(Timer(), language="en", asr_options=options).transcribe(AUDIO)["segments"]
        assert ("words" in segments[0]) == bool(options)


def test_a_known_text_is_timed_segment_by_segment():
    backend = Timer()
    segments = [{"text": " One, two three.", "start": 3.0, "end": 5.0, "avg_logprob": -1.0}]
    (timed,) = load(backend).time_words(segments, AUDIO, "German")
    assert backend.timed == [(2 * SAMPLE_RATE, " One, two three.", "de")]
    assert {key: timed[key] for key in segments[0]} == segments[0]
    assert [(word["start"], word["end"]) for word in timed["words"]] == [(3.1, 3.4), (3.5, 3.9), (4.0, 5.0)]
    assert "words" not in segments[0]


def test_a_known_text_without_end_is_timed_to_that_of_the_recording():
    backend = Timer()
    (timed,) = load(backend).time_words([{"text": " One, two three.", "start": 43.0, "end": math.inf}], AUDIO, "en")
    assert backend.timed == [(2 * SAMPLE_RATE, " One, two three.", "en")]
    assert timed["words"][-1]["end"] == 45.0
