"""The arguments of the `whisperx` command: WhisperX's, with their types, defaults and choices, and ours.

Nothing heavy is imported, so that `--help` answers at once.
"""

import argparse
import math
import platform
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn, TypeVar

from whisperx.errors import OptionError
from whisperx.log_utils import LEVELS

_T = TypeVar("_T")

LONGEST_CHUNK = 30  # seconds: Whisper's window
FORMATS = ("all", "srt", "vtt", "txt", "tsv", "json", "aud", "ass", "ttml", "rttm")
SUBTITLE_STYLES = ("whisperx", "netflix", "bbc")

# Flags of WhisperX that are taken and do nothing, and what does it here.
WITHOUT_MEANING = {
    "fp16": "--compute_type chooses the type of the weights",
    "segment_resolution": "sentences are found when words are aligned; --no_align leaves chunks",
}


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="whisperx",
        description="Transcribe recordings with Whisper on MLX.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    help_ = "recordings in any format that FFmpeg reads, folders of them, patterns (talks/**/*.mp3), or - for stdin"
    add("audio", nargs="+", help=help_)
    add("--version", "-V", action=_PrintVersion, help="show the version and exit")
    python = f"Python {platform.python_version()} ({platform.python_implementation()})"
    add("--python-version", "-P", action="version", version=python, help="show the version of Python and exit")

    add = parser.add_argument_group("output").add_argument
    add("--output_dir", "-o", default=".", metavar="DIR", help="folder for the files; made if it is not there")
    add("--output_format", "-f", default="all", choices=FORMATS, help="all: srt, vtt, txt, tsv and json")
    add("--skip_existing", action="store_true", help="leave out what is there already: a format, or a whole recording")
    add("--verbose", type=_boolean, default=True, metavar="BOOL", help="print the transcript as it comes, and messages")
    add("--log-level", default=None, choices=LEVELS, help="messages to print, whatever --verbose says")
    add("--print_progress", type=_boolean, default=False, metavar="BOOL", help="print a line for each 10 %% done")
    add("--report", default=None, metavar="FILE", help="write what was done and how long each stage took, as JSON")

    add = parser.add_argument_group("model").add_argument
    add("--model", default="small", help="name (tiny, small, large-v3, ...), repository of the Hub, or folder")
    add("--model_dir", default=None, metavar="DIR", help="folder for downloaded models; None: the cache of the Hub")
    add("--model_cache_only", type=_boolean, default=False, metavar="BOOL", help="use what is there, never download")
    add("--hf_token", default=None, metavar="TOKEN", help="for models that are not open to everyone")
    help_ = "engine that runs the model; auto: mlx on a GPU, ctranslate2 on a CPU if it is installed"
    add("--backend", default="auto", choices=("auto", "mlx", "ctranslate2"), help=help_)
    add("--device", type=_device, default="auto", metavar="NAME", help="cpu, cuda, cuda:N, mps, mlx or auto")
    add("--device_index", type=_count, default=0, metavar="N", help="which of several GPUs")
    types = (
        "default", "auto", "float16", "bfloat16", "float32", "int8", "int4", "int8_float16", "int8_bfloat16",
        "int8_float32", "int16",
    )  # fmt: skip
    add("--compute_type", default="default", choices=types, help="default: float16 on a GPU, float32 on a CPU")
    add("--threads", type=_threads, default=0, metavar="N", help="CPU threads; 0: as many as the engine likes")
    help_ = "chunks at a time, or auto: as many as help and fit into memory; the text is always the same"
    add("--batch_size", type=_batch_size, default=8, metavar="N", help=help_)

    add = parser.add_argument_group("speech").add_argument
    vads = ("silero", "pyannote", "none")
    add("--vad_method", default="silero", choices=vads, help="how speech is found before decoding")
    add("--vad_onset", type=_probability, default=0.5, metavar="P", help="speech begins at this probability")
    add("--vad_offset", type=_probability, default=0.363, metavar="P", help="speech ends below this probability")
    add("--chunk_size", type=_positive, default=LONGEST_CHUNK, metavar="S", help="seconds decoded as one, at most")
    help_ = "decode these seconds and no others, speech or not: start,end,start,end,...; the last end may be left out"
    add("--clip_timestamps", type=_clip_timestamps, default=None, metavar="S,S,...", help=help_)

    add = parser.add_argument_group("words and speakers").add_argument
    add("--no_align", action="store_true", help="no word times: segments as they were decoded")
    help_ = "network that finds word times: name or folder; None: that of the language; attention: the model itself"
    add("--align_model", default=None, metavar="NAME", help=help_)
    methods = ("nearest", "linear", "ignore")
    help_ = "times of words that could not be aligned, from their neighbours"
    add("--interpolate_method", default="nearest", choices=methods, help=help_)
    add("--return_char_alignments", action="store_true", help="times of characters too, in the JSON")
    help_ = "decode nothing: word times for this transcript (json, srt, vtt, txt), or for those in a folder, by name"
    add("--align_only", default=None, metavar="FILE", help=help_)
    add("--diarize", action="store_true", help="say who speaks")
    add("--min_speakers", type=_optional(_positive), default=None, metavar="N", help="there are, at least")
    add("--max_speakers", type=_optional(_positive), default=None, metavar="N", help="there are, at most")
    add("--num_speakers", type=_optional(_positive), default=None, metavar="N", help="there are exactly so many")
    help_ = "what tells speakers apart: repository or folder; None: the networks that come with this package"
    add("--diarize_model", default=None, metavar="NAME", help=help_)
    add("--speaker_embeddings", action="store_true", help="the voice of each speaker as numbers, in the JSON")

    add = parser.add_argument_group("subtitles").add_argument
    help_ = "whisperx: the three options below; netflix, bbc: line lengths, durations and breaks by their rules"
    add("--subtitle_style", default="whisperx", choices=SUBTITLE_STYLES, help=help_)
    help_ = "characters in a line, blanks between words not counted; None: no limit"
    add("--max_line_width", type=_optional(_positive), default=None, metavar="N", help=help_)
    help_ = "lines in a cue, if there is a width"
    add("--max_line_count", type=_optional(_positive), default=None, metavar="N", help=help_)
    add("--highlight_words", type=_boolean, default=False, metavar="BOOL", help="a cue for each word, underlined")
    help_ = "the very bytes of WhisperX 3.8, also where we would do better"
    add("--compat", default=None, choices=("whisperx",), help=help_)

    add = parser.add_argument_group("text").add_argument
    add("--task", default="transcribe", choices=("transcribe", "translate"), help="translate: into English")
    help_ = "as German or de; None: detected; auto-chunk: detected in each chunk, for talk that changes languages"
    add("--language", type=_language, default=None, metavar="NAME", help=help_)
    add("--initial_prompt", default=None, metavar="TEXT", help="as if said before each chunk: names, spelling, style")
    add("--hotwords", default=None, metavar="TEXT", help="words to expect in each chunk")
    add("--prefix", default=None, metavar="TEXT", help="as if each transcript began with it; voids --hotwords")
    help_ = "go on from the text so far; chunks then wait for each other, which is slower"
    add("--condition_on_previous_text", type=_boolean, default=False, metavar="BOOL", help=help_)
    help_ = "but not from before a chunk that took a higher temperature than this"
    add("--prompt_reset_on_temperature", type=_from_0, default=0.5, metavar="T", help=help_)
    add("--suppress_numerals", action="store_true", help="write numbers as words")
    add("--suppress_tokens", type=_tokens, default="-1", metavar="IDS", help="never decode these; -1: annotations")
    add("--suppress_blank", type=_boolean, default=True, metavar="BOOL", help="no chunk begins blank or stays empty")
    help_ = "one segment for each chunk; False: segments by the timestamps of the model"
    add("--without_timestamps", type=_boolean, default=True, metavar="BOOL", help=help_)
    help_ = "seconds into a chunk by which its first segment begins, if there are timestamps"
    add("--max_initial_timestamp", type=_up_to_30, default=0.0, metavar="S", help=help_)
    add("--max_new_tokens", type=_optional(_positive), default=None, metavar="N", help="in a chunk; None: all it takes")
    add("--repetition_penalty", type=_above_0, default=1.0, metavar="X", help="above 1, tokens come again less likely")
    help_ = "above 0, so many tokens in a row never stand twice in a chunk"
    add("--no_repeat_ngram_size", type=_count, default=0, metavar="N", help=help_)

    add = parser.add_argument_group("search").add_argument
    help_ = "texts followed side by side at temperature 0; 1 or None: the likeliest token each time"
    add("--beam_size", type=_candidates, default=5, metavar="N", help=help_)
    help_ = "such a search is over when beam_size * patience texts have ended"
    add("--patience", type=_above_0, default=1.0, metavar="X", help=help_)
    help_ = "of which the best by log-probability / length ** length_penalty is kept; less: shorter texts"
    add("--length_penalty", type=_any_number, default=1.0, metavar="X", help=help_)
    help_ = "0: the likeliest text; above: a sampled one, the wilder the higher"
    add("--temperature", type=_from_0, default=0.0, metavar="T", help=help_)
    help_ = "added, up to 1, while a text misses one of the next two thresholds; None: one try only"
    add("--temperature_increment_on_fallback", type=_optional(_above_0), default=0.2, metavar="T", help=help_)
    help_ = "most times that zlib may make a text smaller, else it repeats itself; None: any"
    add("--compression_ratio_threshold", type=_optional(_any_number), default=2.4, metavar="X", help=help_)
    help_ = "least mean log-probability of a text's tokens, else it is too unsure; None: any"
    add("--logprob_threshold", type=_optional(_any_number), default=-1.0, metavar="X", help=help_)
    help_ = "a chunk that is unsure, and with a higher probability silence, has no text; None: never"
    add("--no_speech_threshold", type=_optional(_any_number), default=0.6, metavar="P", help=help_)
    help_ = "texts sampled at a temperature above 0, of which the likeliest is kept"
    add("--best_of", type=_candidates, default=5, metavar="N", help=help_)
    add("--seed", type=_count, default=0, metavar="N", help="of the sampling: the same seed gives the same text")

    add = parser.add_argument_group("without meaning here").add_argument
    add("--fp16", action=_WithoutMeaning, type=_boolean, metavar="BOOL", help=WITHOUT_MEANING["fp16"])
    help_ = WITHOUT_MEANING["segment_resolution"]
    add("--segment_resolution", action=_WithoutMeaning, choices=("sentence", "chunk"), help=help_)
    parser.set_defaults(without_meaning=())
    return parser


def check_together(parser: argparse.ArgumentParser, args: argparse.Namespace) -> list[str]:
    """What options mean beside each other: ends the program where they contradict, returns what has no effect."""
    subtitles = ("highlight_words", "max_line_count", "max_line_width")
    if args.no_align or args.task == "translate":
        for name in subtitles:
            if getattr(args, name):
                parser.error(f"--{name} not possible with --no_align")
    if args.subtitle_style != "whisperx":
        for name in subtitles:
            if getattr(args, name):
                parser.error(f"--{name} is for --subtitle_style whisperx: {args.subtitle_style} decides that itself")
    lowest, exact, highest = args.min_speakers, args.num_speakers, args.max_speakers
    if (lowest or 1) > (highest or math.inf) or (exact and not (lowest or 1) <= exact <= (highest or math.inf)):
        parser.error("no number of speakers fits --min_speakers, --num_speakers and --max_speakers")
    if args.align_only is not None and (args.no_align or args.task == "translate" or args.align_model == "attention"):
        parser.error("--align_only needs an alignment model: not possible with --no_align, translate or attention")
    of_diarization = ("speaker_embeddings", "min_speakers", "max_speakers", "num_speakers")
    given = [] if args.diarize else [name for name in of_diarization if getattr(args, name)]
    idle = [f"--{name} has no effect without --diarize" for name in given]
    if args.clip_timestamps and args.align_only is not None:
        idle.append("--clip_timestamps has no effect with --align_only: nothing is decoded")
    if args.max_line_count and not args.max_line_width:
        idle.append("--max_line_count has no effect without --max_line_width")
    return idle + [f"--{name} has no effect here: {WITHOUT_MEANING[name]}" for name in args.without_meaning]


def complete(values: Mapping[str, Any]) -> argparse.Namespace:
    """The arguments that WhisperX's parser gives, as a dict, with what it does not have at its default.

    Raises argparse.ArgumentTypeError for a value that the command would refuse.
    """
    parser = build_parser()
    args = vars(parser.parse_args(["-"]))
    types = {action.dest: action.type for action in parser._actions}
    for name, value in values.items():
        parse = types.get(name)
        args[name] = parse(value) if callable(parse) and isinstance(value, str) else value
    return argparse.Namespace(**args)


class _PrintVersion(argparse.Action):
    """Asks for the version only when it is wanted: reading it takes longer than all the rest of `--help`."""

    def __init__(self, option_strings: Sequence[str], dest: str, help: str | None = None) -> None:  # noqa: A002
        super().__init__(option_strings, dest=argparse.SUPPRESS, default=argparse.SUPPRESS, nargs=0, help=help)

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        import whisperx

        print(f"whisperx {whisperx.__version__}")
        parser.exit()


class _WithoutMeaning(argparse.Action):
    """Remembers that an option was given that does nothing here, so that it can be said."""

    def __init__(self, option_strings: Sequence[str], dest: str, **others: Any) -> None:
        super().__init__(option_strings, dest, **others | {"default": argparse.SUPPRESS})

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, value: object, option: str | None = None
    ) -> None:
        namespace.without_meaning = (*namespace.without_meaning, self.dest)


def _boolean(text: str) -> bool:
    words = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    if text.lower() not in words:
        raise argparse.ArgumentTypeError(f"expected True or False, not {text!r}")
    return words[text.lower()]


def _number_from(least: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not text.strip().isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"expected a whole number from {least} up, not {text!r}")
        return int(text)

    return parse


_positive = _number_from(1)
_count = _number_from(0)


def _number(expected: str, is_fine: Callable[[float], bool]) -> Callable[[str], float]:
    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not (math.isfinite(value) and is_fine(value)):
            raise argparse.ArgumentTypeError(f"expected {expected}, not {text!r}")
        return value

    return parse


_any_number = _number("a number", lambda _: True)
_from_0 = _number("a number from 0 up", lambda value: value >= 0)
_above_0 = _number("a number above 0", lambda value: value > 0)
_probability = _number("a number between 0 and 1", lambda value: 0 < value < 1)
_up_to_30 = _number("a number from 0 to 30", lambda value: 0 <= value <= 30)


def _optional(parse: Callable[[str], _T]) -> Callable[[str], _T | None]:
    return lambda text: None if text.lower() == "none" else parse(text)


def _threads(text: str) -> int:
    return _optional(_count)(text) or 0


def _batch_size(text: str) -> int | str:
    return "auto" if text.lower() == "auto" else _positive(text)


def _candidates(text: str) -> int:
    """How many candidates a search keeps: None, as in WhisperX, is one."""
    return _optional(_positive)(text) or 1


def _device(text: str) -> str:
    if not re.fullmatch(r"auto|cpu|mps|mlx|cuda(:\d+)?", text):
        raise argparse.ArgumentTypeError(f"expected cpu, cuda, cuda:N, mps, mlx or auto, not {text!r}")
    return text


def _tokens(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(token) for token in text.split(",") if token.strip())
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected token ids with commas between, not {text!r}") from None


def _clip_timestamps(text: str) -> tuple[float, ...]:
    from whisperx.schema import clip_times

    try:
        return clip_times(text)
    except OptionError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _language(text: str) -> str:
    from whisperx.tokenizer import language_code

    if text.lower() == "auto-chunk":
        return "auto-chunk"
    try:
        return language_code(text)
    except OptionError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
