"""No option is taken and dropped: on the command line, in Python and in the decoder each has an effect or a message."""

import inspect
import re
import runpy
from collections.abc import Callable
from dataclasses import fields, replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from fake_pipeline import FakeLoader, write_recording
from fake_stages import FakeStages
from random_whisper import EncodesOnce, random_speech, write_talker
from test_asr import Echo

from whisperx import asr, cli, transcribe
from whisperx.arguments import build_parser
from whisperx.asr import WITHOUT_EFFECT, decoding_options, idle_options
from whisperx.errors import OptionError
from whisperx.schema import Audio, DecodingOptions, DecodingResult, Meter, Span
from whisperx.tokenizer import get_tokenizer

# The command line

# For each option, by its first name, arguments that change something.
ARGUMENTS: dict[str, list[str]] = {
    "-h": ["-h"],
    "audio": ["other.wav"],
    "--version": ["--version"],
    "--python-version": ["-P"],
    "--output_dir": ["-o", "out"],
    "--output_format": ["-f", "srt"],
    "--skip_existing": ["--skip_existing"],
    "--verbose": ["--verbose", "False"],
    "--log-level": ["--log-level", "critical"],
    "--print_progress": ["--print_progress", "True"],
    "--report": ["--report", "report.json"],
    "--model": ["--model", "tiny"],
    "--model_dir": ["--model_dir", "models"],
    "--model_cache_only": ["--model_cache_only", "True"],
    "--hf_token": ["--hf_token", "hf_secret"],
    "--backend": ["--backend", "mlx"],
    "--device": ["--device", "cpu"],
    "--device_index": ["--device_index", "1"],
    "--compute_type": ["--compute_type", "float32"],
    "--threads": ["--threads", "2"],
    "--batch_size": ["--batch_size", "3"],
    "--vad_method": ["--vad_method", "none"],
    "--vad_onset": ["--vad_onset", "0.4"],
    "--vad_offset": ["--vad_offset", "0.2"],
    "--chunk_size": ["--chunk_size", "10"],
    "--clip_timestamps": ["--clip_timestamps", "0,1"],
    "--no_align": ["--no_align"],
    "--align_model": ["--align_model", "attention"],
    "--interpolate_method": ["--interpolate_method", "linear"],
    "--return_char_alignments": ["--return_char_alignments"],
    "--align_only": ["--align_only", "talk.srt"],
    "--diarize": ["--diarize"],
    "--min_speakers": ["--min_speakers", "2"],
    "--max_speakers": ["--max_speakers", "2"],
    "--num_speakers": ["--num_speakers", "2"],
    "--diarize_model": ["--diarize", "--diarize_model", "some/model"],
    "--speaker_embeddings": ["--speaker_embeddings"],
    "--subtitle_style": ["--subtitle_style", "netflix"],
    "--max_line_width": ["--max_line_width", "10"],
    "--max_line_count": ["--max_line_count", "2"],
    "--highlight_words": ["--highlight_words", "True"],
    "--compat": ["--compat", "whisperx"],
    "--task": ["--task", "translate"],
    "--language": ["--language", "French"],
    "--initial_prompt": ["--initial_prompt", "Dr Hamm"],
    "--hotwords": ["--hotwords", "MLX"],
    "--prefix": ["--prefix", "And so"],
    "--condition_on_previous_text": ["--condition_on_previous_text", "True"],
    "--prompt_reset_on_temperature": ["--prompt_reset_on_temperature", "0.1"],
    "--suppress_numerals": ["--suppress_numerals"],
    "--suppress_tokens": ["--suppress_tokens", "1,2"],
    "--suppress_blank": ["--suppress_blank", "False"],
    "--without_timestamps": ["--without_timestamps", "False"],
    "--max_initial_timestamp": ["--max_initial_timestamp", "1"],
    "--max_new_tokens": ["--max_new_tokens", "50"],
    "--repetition_penalty": ["--repetition_penalty", "1.1"],
    "--no_repeat_ngram_size": ["--no_repeat_ngram_size", "3"],
    "--beam_size": ["--beam_size", "3"],
    "--patience": ["--patience", "2"],
    "--length_penalty": ["--length_penalty", "0.5"],
    "--temperature": ["--temperature", "0.5"],
    "--temperature_increment_on_fallback": ["--temperature_increment_on_fallback", "None"],
    "--compression_ratio_threshold": ["--compression_ratio_threshold", "2"],
    "--logprob_threshold": ["--logprob_threshold", "None"],
    "--no_speech_threshold": ["--no_speech_threshold", "0.5"],
    "--best_of": ["--best_of", "2"],
    "--seed": ["--seed", "7"],
    "--fp16": ["--fp16", "True"],
    "--segment_resolution": ["--segment_resolution", "chunk"],
}


def test_the_table_has_every_option() -> None:
    actions = build_parser()._actions
    assert [(action.option_strings or [action.dest])[0] for action in actions] == list(ARGUMENTS)


@pytest.fixture
def outcome(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., list[object]]:
    """Everything that a run of the command with some arguments leads to; times in messages become 0."""

    def run(*arguments: str) -> list[object]:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folder.mkdir()
        monkeypatch.chdir(folder)
        loader = FakeLoader()
        loader.stand_in(monkeypatch)
        stages = FakeStages()
        for name in ("load_align_model", "align", "load_diarizer"):
            monkeypatch.setattr(transcribe, name, getattr(stages, name))
        write_recording(folder / "talk.wav", 2)
        write_recording(folder / "other.wav", 1)
        (folder / "talk.srt").write_text("1\n00:00:00,000 --> 00:00:01,000\nof an earlier run\n")
        try:
            status = cli.main(["talk.wav", *arguments])
        except SystemExit as end:
            status = int(end.code or 0)
        out, err = capfd.readouterr()
        files: list[object] = sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))
        files.append([path.read_text() for path in sorted(folder.rglob("*.srt"))])
        return [
            status,
            out,
            re.sub(r"\d+", "0", err),
            files,
            loader.calls,
            loader.heard,
            loader.pipeline.calls,
            stages.asked,
        ]

    return run


@pytest.mark.parametrize("option", ARGUMENTS)
def test_every_option_of_the_command_changes_something(option: str, outcome: Callable[..., list[object]]) -> None:
    plain, again, changed = outcome(), outcome(), outcome(*ARGUMENTS[option])
    assert plain == again
    assert plain != changed
    assert changed[0] == 0


def test_every_option_of_the_decoder_is_on_the_command_line() -> None:
    changed = set()
    for option, arguments in ARGUMENTS.items():
        if option not in ("-h", "--version", "--python-version"):
            options = cli._options(build_parser().parse_args(["talk.wav", *arguments])).decoding
            default = DecodingOptions()
            names = [field.name for field in fields(DecodingOptions)]
            changed |= {name for name in names if getattr(options, name) != getattr(default, name)}
    assert changed == {*DECODER, "clip_timestamps"} - {"word_timestamps"}  # which the choice of an aligner decides


def test_the_page_of_the_command_is_up_to_date() -> None:
    tool = runpy.run_path(str(Path(__file__).parents[1] / "tools" / "make_cli_docs.py"))
    assert tool["PAGE"].read_text("utf-8") == tool["page"](), "run: python tools/make_cli_docs.py"


# Python


@pytest.mark.parametrize(
    ("asr_options", "expected"),
    [
        ({}, {}),
        ({"temperatures": 0}, {"temperatures": (0.0,)}),
        ({"temperatures": 0.5}, {"temperatures": (0.5,)}),
        ({"temperatures": [0, 0.2]}, {"temperatures": (0.0, 0.2)}),
        ({"temperatures": (0.0, 1.0)}, {"temperatures": (0.0, 1.0)}),
        ({"patience": 2, "beam_size": np.int64(3)}, {"patience": 2, "beam_size": 3}),
        ({"temperatures": np.array([0.0, 0.5])}, {"temperatures": (0.0, 0.5)}),
        ({"suppress_tokens": [-1, 5]}, {"suppress_tokens": (-1, 5)}),
        ({"initial_prompt": [5, np.int64(6)]}, {"initial_prompt": (5, 6)}),
        ({"suppress_tokens": []}, {"suppress_tokens": ()}),
        ({"suppress_tokens": None}, {"suppress_tokens": ()}),
        ({"best_of": None, "beam_size": None}, {"best_of": 1, "beam_size": 1}),
        ({"log_prob_threshold": None, "hotwords": "MLX"}, {"log_prob_threshold": None, "hotwords": "MLX"}),
        (WITHOUT_EFFECT, {}),
    ],
)
def test_asr_options_of_whisperx_are_understood(
    asr_options: dict[str, object], expected: dict[str, object], caplog: pytest.LogCaptureFixture
) -> None:
    assert decoding_options(asr_options, "translate") == DecodingOptions(task="translate", **expected)  # type: ignore[arg-type]
    assert not caplog.records


@pytest.mark.parametrize("name", WITHOUT_EFFECT)
def test_an_option_that_cannot_be_honoured_is_named_in_one_warning(name: str, caplog: pytest.LogCaptureFixture) -> None:
    assert decoding_options({name: "something else"}) == DecodingOptions()
    assert [record.getMessage() for record in caplog.records] == [f"{name}='something else' has no effect"]


def test_options_that_are_honoured_are_not_called_without_effect() -> None:
    assert not {field.name for field in fields(DecodingOptions)} & WITHOUT_EFFECT.keys()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("beam", r"^asr_options has no 'beam'. It has: .*best_of, .*, temperatures, "),
        ("language", r"^asr_options has no 'language'; it is an argument of its own\."),
        ("task", r"^asr_options has no 'task'; it is an argument of its own\."),
    ],
)
def test_an_unknown_option_is_a_type_error_that_names_the_known(name: str, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        decoding_options({name: 1})


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("best_of", 0, "best_of is 1 or more, not 0"),
        ("temperatures", [], "temperatures is one or more numbers"),
        ("initial_prompt", [1.5], r"initial_prompt is text, a list of tokens or None, not \[1.5\]"),
        ("initial_prompt", 7, "initial_prompt is text, a list of tokens or None, not 7"),
        ("beam_size", "5", "beam_size is a whole number, not '5'"),
        ("best_of", 2.5, "best_of is a whole number, not 2.5"),
        ("patience", None, "patience is a number, not None"),
        ("no_speech_threshold", "low", "no_speech_threshold is a number or None, not 'low'"),
        ("without_timestamps", "False", "without_timestamps is True or False, not 'False'"),
        ("temperatures", "hot", "temperatures is a list of numbers, not 'hot'"),
        ("temperatures", None, "temperatures is a list of numbers, not None"),
        ("suppress_tokens", "12", "suppress_tokens is a list of numbers, not '12'"),
    ],
)
def test_a_value_that_cannot_be_used_is_an_option_error(name: str, value: object, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        decoding_options({name: value})


@pytest.mark.parametrize(
    ("options", "idle"),
    [
        ({}, []),
        ({"max_initial_timestamp": 1.0}, ["max_initial_timestamp"]),
        ({"max_initial_timestamp": 1.0, "without_timestamps": False}, []),
        ({"hotwords": "MLX", "prefix": "And"}, ["hotwords"]),
        ({"prompt_reset_on_temperature": 0.1}, ["prompt_reset_on_temperature"]),
        ({"prompt_reset_on_temperature": 0.1, "condition_on_previous_text": True}, []),
        ({"hotwords": "MLX"}, []),
        ({"prefix": "And"}, []),
        ({"temperatures": (0.0,)}, []),
        ({"temperatures": (0.0,), "seed": 1, "best_of": 3}, ["best_of", "seed"]),
        ({"temperatures": (1.0,), "seed": 1, "best_of": 3}, []),
        ({"temperatures": (1.0,), "beam_size": 3, "patience": 2.0}, ["beam_size", "patience"]),
        ({"beam_size": 1}, []),
        ({"temperatures": (1.0,), "beam_size": 1, "patience": 2.0}, ["beam_size", "patience"]),
        ({"beam_size": 1, "patience": 2.0, "length_penalty": 0.5}, ["patience", "length_penalty"]),
        ({"temperatures": (0.0,), "compression_ratio_threshold": 2.0}, ["compression_ratio_threshold"]),
    ],
)
def test_an_option_that_others_make_void_is_named(options: dict[str, object], idle: list[str]) -> None:
    sentences = idle_options(DecodingOptions(**options))  # type: ignore[arg-type]
    assert [sentence.split(" has no effect: ")[0] for sentence in sentences] == idle


def hear_nothing(audio: Audio) -> list[Span]:
    return []


# For each argument of load_model a value that is not its default.
LOADING: dict[str, object] = {
    "whisper_arch": "tiny",
    "device": "cpu",
    "device_index": 1,
    "compute_type": "float32",
    "asr_options": {"hotwords": "MLX"},
    "language": "German",
    "vad_model": hear_nothing,
    "vad_method": "none",
    "vad_options": {"vad_onset": 0.4},
    "model": Echo(),
    "task": "translate",
    "download_root": "models",
    "local_files_only": True,
    "threads": 2,
    "use_auth_token": "hf_secret",
    "token": "hf_secret",
    "hf_token": "hf_secret",
    "backend": "mlx",
}


def test_the_table_has_every_argument_of_load_model() -> None:
    assert list(inspect.signature(asr.load_model).parameters) == list(LOADING)


@pytest.mark.parametrize("name", LOADING)
def test_every_argument_of_load_model_changes_something(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    made = {"resolve": Path("model"), "load_backend": Echo(), "load_vad": hear_nothing}
    for function, result in made.items():

        def record(*arguments: object, _name: str = function, _result: object = result, **named: object) -> object:
            asked.append((_name, arguments, named))
            return _result

        monkeypatch.setattr(asr, function, record)

    def outcome(**arguments: object) -> list[object]:
        asked.clear()
        pipeline = asr.load_model(**{"whisper_arch": "small"} | arguments)  # type: ignore[arg-type]
        return [*asked, vars(pipeline)]

    assert outcome() == outcome()
    assert outcome() != outcome(**{name: LOADING[name]})


def test_loading_warns_of_options_that_others_make_void(caplog: pytest.LogCaptureFixture) -> None:
    asr.load_model("", model=Echo(), asr_options={"temperatures": 0, "seed": 1})
    assert "seed has no effect: no temperature is above 0" in caplog.messages


# The decoder

TOKENIZER = get_tokenizer(51865)
FEW = (11, 13, 262, 290, 340, 287)  # tokens that are words
SPACE = TOKENIZER.encode(" ")[0]


def only(*tokens: int) -> tuple[int, ...]:
    """What to suppress so that nothing but `tokens` and the end of text is left."""
    return tuple(sorted(set(range(TOKENIZER.encoding.n_vocab)) - {*tokens, TOKENIZER.eot}))


BASE = DecodingOptions(
    language="en",
    max_new_tokens=8,
    beam_size=1,
    temperatures=(0.0,),
    best_of=1,
    compression_ratio_threshold=None,
    log_prob_threshold=None,
    no_speech_threshold=None,
)
MANY = replace(BASE, suppress_tokens=only(*range(20_000)))  # that are near to each other
# For each option of the decoder: what it is tried with, and a value that changes the transcript.
DECODER: dict[str, tuple[DecodingOptions, object]] = {
    "task": (BASE, "translate"),
    "language": (BASE, "de"),
    "initial_prompt": (BASE, "Once upon a time"),
    "hotwords": (BASE, "Metal"),
    "prefix": (BASE, "And"),
    "condition_on_previous_text": (BASE, True),
    "prompt_reset_on_temperature": (replace(BASE, temperatures=(0.4,), condition_on_previous_text=True), 0.1),
    "without_timestamps": (BASE, False),
    "max_initial_timestamp": (replace(BASE, without_timestamps=False), 30.0),
    "suppress_blank": (replace(BASE, suppress_tokens=only(SPACE, FEW[0])), False),
    "suppress_tokens": (BASE, only(*FEW)),
    "suppress_numerals": (replace(BASE, suppress_tokens=only(*TOKENIZER.numeral_tokens, FEW[0])), True),
    "repetition_penalty": (replace(BASE, suppress_tokens=only(*FEW)), 9.0),
    "no_repeat_ngram_size": (replace(BASE, suppress_tokens=only(*FEW)), 1),
    "max_new_tokens": (BASE, 3),
    "beam_size": (MANY, 3),
    "patience": (replace(MANY, beam_size=3), 3.0),
    "length_penalty": (replace(MANY, beam_size=3), 0.0),
    "temperatures": (BASE, (1.0,)),
    "best_of": (replace(BASE, temperatures=(1.0,)), 3),
    "compression_ratio_threshold": (replace(BASE, temperatures=(0.0, 1.0)), 0.0),
    "log_prob_threshold": (replace(BASE, temperatures=(0.0, 1.0)), 0.0),
    "no_speech_threshold": (BASE, 0.0),
    "seed": (replace(BASE, temperatures=(1.0,)), 1),
    "word_timestamps": (BASE, True),
}


@pytest.fixture(scope="module")
def transcripts(tmp_path_factory: pytest.TempPathFactory) -> Callable[[DecodingOptions], list[object]]:
    backend = EncodesOnce(write_talker(tmp_path_factory.mktemp("talker")))
    chunks = [random_speech(3 + seed, seed) for seed in range(2)]

    @cache
    def decode(options: DecodingOptions) -> list[object]:
        results: list[DecodingResult] = backend.decode(
            chunks, options, batch_size=2, on_result=lambda *_: None, meter=Meter()
        )
        return [(result.tokens, result.avg_logprob, result.words) for result in results]

    return decode


def test_the_table_has_every_option_of_the_decoder() -> None:
    # clip_timestamps, for which tests/test_clips.py is, choose what is decoded.
    assert [field.name for field in fields(DecodingOptions)] == [*DECODER, "clip_timestamps"]


@pytest.mark.parametrize("name", DECODER)
def test_every_option_of_the_decoder_changes_a_transcript(
    name: str, transcripts: Callable[[DecodingOptions], list[object]]
) -> None:
    base, value = DECODER[name]
    assert transcripts(base) != transcripts(replace(base, **{name: value}))  # type: ignore[arg-type]


@pytest.mark.parametrize("beam_size", [1, 3])
def test_options_that_rule_out_every_token_are_refused_in_a_sentence(
    beam_size: int, transcripts: Callable[[DecodingOptions], list[object]]
) -> None:
    nothing = tuple(range(TOKENIZER.encoding.n_vocab))
    with pytest.raises(OptionError, match=r"^The options rule out every token .* suppress_tokens"):
        transcripts(replace(BASE, suppress_tokens=nothing, beam_size=beam_size))
    only_once = replace(BASE, suppress_tokens=tuple(set(nothing) - {FEW[0]}), no_repeat_ngram_size=1)
    with pytest.raises(OptionError, match="The options rule out every token"):
        transcripts(replace(only_once, beam_size=beam_size))


def test_an_initial_prompt_of_tokens_is_that_of_their_text(
    transcripts: Callable[[DecodingOptions], list[object]],
) -> None:
    tokens = tuple(TOKENIZER.encode(" Once upon a time"))
    assert transcripts(replace(BASE, initial_prompt=tokens)) == transcripts(
        replace(BASE, initial_prompt="Once upon a time")
    )
    with pytest.raises(OptionError, match=r"initial_prompt: 60000 is no token; expected text, or ids from 0 to 51864"):
        transcripts(replace(BASE, initial_prompt=(60000,)))
