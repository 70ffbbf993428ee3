"""Stand-ins for the stages after decoding: an aligner that gives each word a second, speakers that take turns."""

from collections.abc import Iterable
from typing import Any

from whisperx.errors import OptionError
from whisperx.schema import Audio, SingleSegment, Turn
from whisperx.speaker_turns import Diarization


class FakeStages:
    """In place of `load_align_model`, `align` and `load_diarizer`. Keeps what it was asked."""

    def __init__(self, languages: Iterable[str] = ("de", "en")) -> None:
        self.languages = set(languages)
        self.asked: list[tuple[str, Any]] = []
        self.align_error: Exception | None = None
        self.diarizer_error: Exception | None = None

    def load_align_model(self, language_code: str, device: str, **options: Any) -> tuple[str, dict[str, Any]]:
        self.asked.append(("load_align_model", (language_code, options)))
        if language_code not in self.languages:
            raise OptionError(f"No default align-model for language: {language_code}")
        return f"model of {language_code}", {"language": language_code}

    def align(
        self, segments: list[SingleSegment], model: str, metadata: Any, audio: Audio, device: str, **options: Any
    ) -> dict[str, Any]:
        self.asked.append(("align", (model, [segment["text"] for segment in segments], options)))
        if self.align_error is not None:
            raise self.align_error
        aligned = []
        for segment in segments:
            words = [
                {"word": word, "start": segment["start"], "end": segment["end"], "score": 1.0}
                for word in segment["text"].split()
            ]
            aligned.append({"start": segment["start"], "end": segment["end"], "text": segment["text"], "words": words})
        return {"segments": aligned, "word_segments": [word for segment in aligned for word in segment["words"]]}

    def load_diarizer(self, model_name: str | None, **options: Any) -> Any:
        self.asked.append(("load_diarizer", (model_name, options)))
        if self.diarizer_error is not None:
            raise self.diarizer_error

        def diarizer(audio: Audio, **options: Any) -> Diarization:
            self.asked.append(("diarize", options))
            return Diarization([Turn(0.0, 1.0, "SPEAKER_00"), Turn(1.0, 2.0, "SPEAKER_01")], {"SPEAKER_00": [1.0]})

        return diarizer
