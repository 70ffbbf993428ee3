"""Words and speakers: in order, lazily, and never at the cost of the transcript."""

import json
from pathlib import Path
from typing import Any

import pytest
from fake_pipeline import Command, FakeLoader, errors, write_recording

from whisperx.errors import ModelNotFoundError, OptionError
from whisperx.schema import Meter
from whisperx.transcribe import TranscribeOptions, Transcriber


def run(tmp_path: Path, seconds: float = 2, **options: Any) -> dict[str, Any]:
    path = write_recording(tmp_path / "talk.wav", seconds)
    ignore = {"on_segment": lambda _: None, "on_progress": lambda *_: None}
    return Transcriber(TranscribeOptions(**options))(path, **ignore)


def test_words_are_aligned_by_default_with_the_model_of_the_language(loader, stages, tmp_path):
    result = run(tmp_path, model_dir="models", model_cache_only=True)
    assert list(result) == ["segments", "word_segments", "language"]
    assert [word["word"] for word in result["word_segments"]] == [
        "2",
        "seconds,",
        "part",
        "1.",
        "2",
        "seconds,",
        "part",
        "2.",
    ]
    assert result["word_segments"][0] is result["segments"][0]["words"][0]
    (name, (language, options)), (stage, (model, texts, _)) = stages.asked
    assert (name, language, stage, model) == ("load_align_model", "de", "align", "model of de")
    assert options == {"model_name": None, "model_dir": "models", "model_cache_only": True}
    assert texts == [" 2 seconds, part 1.", " 2 seconds, part 2."]


def test_each_option_reaches_the_aligner(loader, stages, tmp_path):
    run(tmp_path, align_model="WAV2VEC2", interpolate_method="linear", return_char_alignments=True, compat=True)
    assert stages.asked[0][1][1]["model_name"] == "WAV2VEC2"
    assert stages.asked[1][1][2] == {"interpolate_method": "linear", "return_char_alignments": True, "compat": True}


def test_a_language_without_a_model_has_its_words_from_the_decoder_and_one_warning(
    loader,
    stages,
    tmp_path,
    caplog,
):
    stages.languages = set()
    path = write_recording(tmp_path / "talk.wav", 2)
    transcriber = Transcriber(TranscribeOptions())
    for _ in range(2):
        result = transcriber(path, on_segment=lambda _: None, on_progress=lambda *_: None)
    assert result["word_segments"][0] == {"word": "2", "start": 0.0, "end": 1.0, "score": 0.5}
    assert result["word_segments"][0] is result["segments"][0]["words"][0]
    assert list(result["segments"][0]) == ["start", "end", "text", "words", "avg_logprob"]
    assert [message for message in caplog.messages if "attention" in message] == [
        "words in 'de' are timed by the model's attention instead: No default align-model for language: de"
    ]


def test_attention_may_be_asked_for(loader, stages, tmp_path, caplog):
    assert run(tmp_path, align_model="attention")["word_segments"][0]["score"] == 0.5
    assert stages.asked == []
    assert caplog.messages == []


@pytest.mark.parametrize("options", [{"no_align": True}, {"task": "translate"}])
def test_no_words_where_they_are_not_wanted_or_mean_nothing(options, loader, stages, tmp_path):
    decoding = TranscribeOptions().decoding
    if "task" in options:
        from dataclasses import replace

        options = {"decoding": replace(decoding, task="translate")}
    result = run(tmp_path, **options)
    assert list(result) == ["segments", "language"]
    assert "words" not in result["segments"][0]
    assert stages.asked == []


def test_words_and_segments_get_speakers(loader, stages, tmp_path):
    result = run(tmp_path, diarize=True, speaker_embeddings=True, min_speakers=1, max_speakers=3, hf_token="hf_x")  # noqa: S106
    assert [segment["speaker"] for segment in result["segments"]] == ["SPEAKER_00", "SPEAKER_01"]
    assert {word["speaker"] for word in result["word_segments"]} == {"SPEAKER_00", "SPEAKER_01"}
    assert list(result) == ["segments", "word_segments", "speaker_embeddings", "language"]
    assert stages.asked[2:] == [
        ("load_diarizer", (None, {"token": "hf_x", "cache_dir": None, "local_files_only": False, "device": "auto"})),
        ("diarize", {"num_speakers": None, "min_speakers": 1, "max_speakers": 3}),
    ]


def test_speakers_need_no_words(loader, stages, tmp_path):
    result = run(tmp_path, no_align=True, diarize=True, num_speakers=2)
    assert [segment["speaker"] for segment in result["segments"]] == ["SPEAKER_00", "SPEAKER_01"]
    assert list(result) == ["segments", "language"]


def test_a_problem_is_raised_unless_someone_takes_it(loader, stages, tmp_path):
    stages.align_error = RuntimeError("broken network")
    with pytest.raises(RuntimeError, match="broken network"):
        run(tmp_path)


def test_compat_leaves_the_keys_of_whisperx(loader, stages, tmp_path):
    result = run(tmp_path, no_align=True, compat=True)
    assert result == {
        "segments": [
            {"text": " 2 seconds, part 1.", "start": 0.0, "end": 1.0, "avg_logprob": -0.5},
            {"text": " 2 seconds, part 2.", "start": 1.0, "end": 2.0, "avg_logprob": -0.5},
        ],
        "language": "de",
    }


# On the command line


def test_a_diarization_that_fails_leaves_the_transcript_and_status_1(command: Command, folder: Path, stages) -> None:
    stages.diarizer_error = ModelNotFoundError("x/y is gated: accept its terms")
    for name in ("a.wav", "b.wav"):
        write_recording(folder / name, 2)
    status, _, err = command("a.wav", "b.wav", "--diarize", "--diarize_model", "x/y", "-f", "json")
    assert status == 1
    assert errors(err) == [f"whisperx: error: {name}: x/y is gated: accept its terms" for name in ("a.wav", "b.wav")]
    assert "wrote a.json" in err
    assert json.loads((folder / "b.json").read_text())["word_segments"]
    assert [name for name, _ in stages.asked].count("load_diarizer") == 1


def test_stages_are_in_the_report(command: Command, folder: Path, stages) -> None:
    write_recording(folder / "talk.wav", 2)
    assert command("talk.wav", "--diarize", "--report", "report.json")[0] == 0
    (recording,) = json.loads((folder / "report.json").read_text())["recordings"]
    assert list(recording["stages"]) == ["wait for audio", "decode tokens", "align", "diarize", "write"]
    assert (folder / "talk.txt").read_text() == "[SPEAKER_00]: 2 seconds, part 1.\n[SPEAKER_01]: 2 seconds, part 2.\n"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--no_align", "--highlight_words", "True"], "--highlight_words not possible with --no_align"),
        (["--no_align", "--max_line_count", "2"], "--max_line_count not possible with --no_align"),
        (["--task", "translate", "--max_line_width", "40"], "--max_line_width not possible with --no_align"),
        (["--subtitle_style", "bbc", "--max_line_width", "40"], "--max_line_width is for --subtitle_style whisperx"),
        (["--diarize", "--min_speakers", "3", "--max_speakers", "2"], "no number of speakers fits"),
        (["--diarize", "--num_speakers", "1", "--min_speakers", "2"], "no number of speakers fits"),
    ],
)
def test_options_that_contradict_each_other_are_wrong_usage(
    arguments: list[str],
    complaint: str,
    command: Command,
    loader: FakeLoader,
    folder: Path,
) -> None:
    write_recording(folder / "talk.wav", 1)
    status, _, err = command("talk.wav", *arguments)
    assert status == 2
    assert complaint in err
    assert loader.calls == []


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--max_line_count", "2"], "--max_line_count has no effect without --max_line_width"),
        (["--speaker_embeddings"], "--speaker_embeddings has no effect without --diarize"),
        (["--num_speakers", "2"], "--num_speakers has no effect without --diarize"),
        (["--fp16", "False"], "--fp16 has no effect here: --compute_type chooses the type of the weights"),
        (["--segment_resolution", "chunk"], "--segment_resolution has no effect here: sentences are found when"),
    ],
)
def test_an_option_without_effect_says_so_once_by_name(
    arguments: list[str],
    sentence: str,
    command: Command,
    folder: Path,
    stages,
) -> None:
    for name in ("a.wav", "b.wav"):
        write_recording(folder / name, 1)
    status, _, err = command("a.wav", "b.wav", *arguments)
    assert status == 0
    assert err.count(sentence) == 1


SRT = "1\n00:00:00,000 --> 00:00:02,000\nDr Hamm is here.\n"


def test_a_known_transcript_is_aligned_and_nothing_is_decoded(
    command: Command, loader: FakeLoader, folder: Path, stages
) -> None:
    write_recording(folder / "talk.wav", 2)
    (folder / "known.srt").write_text(SRT)
    status, _, err = command("talk.wav", "--align_only", "known.srt", "--language", "de", "-f", "json", "--diarize")
    assert (status, loader.calls) == (0, [])
    assert "wrote talk.json" in err
    assert "None" not in err
    result = json.loads((folder / "talk.json").read_text())
    assert [word["word"] for word in result["word_segments"]] == ["Dr", "Hamm", "is", "here."]
    assert result["language"] == "de"
    assert {"speaker", "words"} <= set(result["segments"][0])


def test_transcripts_in_a_folder_go_by_name_and_one_that_is_missing_concerns_its_recording_alone(
    command: Command, folder: Path, stages
) -> None:
    (folder / "known").mkdir()
    for name in ("a", "b"):
        write_recording(folder / f"{name}.wav", 2)
    (folder / "known" / "b.srt").write_text(SRT)
    status, _, err = command("a.wav", "b.wav", "--align_only", "known", "-f", "txt")
    assert status == 1
    assert len(errors(err)) == 1
    assert "a.json" in errors(err)[0]
    assert [path.name for path in folder.glob("*.txt")] == ["b.txt"]


def test_one_transcript_is_not_that_of_the_only_recording_that_is_left_to_do(command: Command, folder: Path) -> None:
    for name in ("a", "b"):
        write_recording(folder / f"{name}.wav", 2)
    (folder / "known.srt").write_text(SRT)
    (folder / "a.txt").write_text("done before")
    status, _, err = command("a.wav", "b.wav", "--align_only", "known.srt", "-f", "txt", "--skip_existing")
    assert status == 1
    assert "--align_only known.srt: one transcript cannot be that of 2 recordings" in errors(err)[0]
    assert not (folder / "b.txt").exists()


def test_known_transcripts_in_many_languages_keep_two_aligners_in_memory(loader, stages, tmp_path) -> None:
    stages.languages = {"de", "en", "fr"}
    path = write_recording(tmp_path / "talk.wav", 2)
    transcriber = Transcriber(TranscribeOptions())
    for language in ("de", "en", "fr", "de"):
        meter = Meter()
        transcriber.align_only(path, [{"text": " Yes.", "start": 0.0, "end": 1.0}], language, meter=meter)
        assert meter.counts == {"samples": 32_000}
    assert loader.heard == []  # where speech is does not matter
    assert [asked[0] for name, asked in stages.asked if name == "load_align_model"] == ["de", "en", "fr", "de"]


def test_a_language_that_had_no_aligner_is_an_error_where_one_is_needed(loader, stages, tmp_path) -> None:
    stages.languages = set()
    path = write_recording(tmp_path / "talk.wav", 2)
    transcriber = Transcriber(TranscribeOptions())
    transcriber(path, on_segment=lambda _: None, on_progress=lambda *_: None)
    with pytest.raises(OptionError, match="No default align-model for language: de"):
        transcriber.align_only(path, [{"text": " Ja.", "start": 0.0, "end": 1.0}], "de")


def test_a_known_transcript_needs_an_alignment_model(command: Command, folder: Path, stages) -> None:
    write_recording(folder / "talk.wav", 2)
    (folder / "known.srt").write_text(SRT)
    status, _, err = command("talk.wav", "--align_only", "known.srt", "--language", "th")
    assert (status, errors(err)) == (1, ["whisperx: error: No default align-model for language: th"])
    assert command("talk.wav", "--align_only", "known.srt", "--no_align")[0] == 2
